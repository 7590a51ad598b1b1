//! The system calls of both kinds.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, c_short};

use crate::packet::SLOTS;

const TUNSETIFF: u64 = 0x4004_54ca;
const TUNSETOFFLOAD: u64 = 0x4004_54d0;
/// `TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6`: unfinished checksums and large TCP packets may be handed over.
const TRAINS: u64 = 0x01 | 0x02 | 0x04;
const SIOCETHTOOL: u64 = 0x8946;
/// `ETHTOOL_S{TXCSUM,SG,TSO,GSO}`: each switches one offload.
const OFFLOADS: [u32; 4] = [0x17, 0x19, 0x1f, 0x24];
const PACKET_IGNORE_OUTGOING: c_int = 23;
/// Packets that the kernel keeps while the thread is away, in bytes of its own counting (about 2,300 for a full one).
const RECEIVE_BUFFER: c_int = 4 << 20;
const SEND_BUFFER: c_int = 1 << 20;

/// `struct ifreq` with the flags of a TUN interface.
#[repr(C)]
struct FlagsRequest {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    padding: [u8; 22],
}

/// `struct ifreq` with a pointer.
#[repr(C)]
struct DataRequest {
    name: [u8; libc::IFNAMSIZ],
    data: *mut c_void,
    padding: [u8; 16],
}

#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

fn interface_name(name: &str) -> [u8; libc::IFNAMSIZ] {
    let mut bytes = [0; libc::IFNAMSIZ];
    // The last byte stays zero.
    for (target, source) in bytes[..libc::IFNAMSIZ - 1].iter_mut().zip(name.bytes()) {
        *target = source;
    }
    bytes
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches the open `/dev/net/tun` to a new interface, and gives the name that it got.
pub(crate) fn make_tun(file: &File, name: &str) -> io::Result<String> {
    let flags = (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL | libc::IFF_VNET_HDR) as c_short;
    let mut request = FlagsRequest { name: interface_name(name), flags, padding: [0; 22] };
    // SAFETY: the request is a whole `struct ifreq` (40 bytes) that outlives the call.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF as _, &raw mut request) })?;
    let length = request.name.iter().position(|byte| *byte == 0).unwrap_or(request.name.len());
    Ok(String::from_utf8_lossy(&request.name[..length]).into_owned())
}

/// Lets the kernel hand over large TCP packets, and leave checksums to us.
pub(crate) fn accept_trains(file: &File) -> io::Result<()> {
    // SAFETY: the argument is a number.
    check(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD as _, TRAINS as libc::c_ulong) })
}

/// Switches checksum and segmentation offload of an Ethernet device off.
pub(crate) fn offloads_off(name: &str) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    for command in OFFLOADS {
        let mut value = EthtoolValue { command, data: 0 };
        let mut request =
            DataRequest { name: interface_name(name), data: (&raw mut value).cast(), padding: [0; 16] };
        // SAFETY: the request is a whole `struct ifreq` that points to a whole `struct ethtool_value`; both outlive the call.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })?;
    }
    Ok(())
}

fn socket(family: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, protocol) };
    check(fd)?;
    // SAFETY: `fd` was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_int(fd: &OwnedFd, level: c_int, option: c_int, value: c_int) -> io::Result<()> {
    let length = size_of::<c_int>() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const value).cast(), length) })
}

fn link_address(index: u32, protocol: c_int, hardware: [u8; 6]) -> libc::sockaddr_ll {
    let mut address = [0; 8];
    address[..6].copy_from_slice(&hardware);
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (protocol as u16).to_be(),
        sll_ifindex: index as c_int,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: address,
    }
}

/// A socket that sees what arrives at that interface, without its link header.
pub(crate) fn packet_socket(index: u32) -> io::Result<OwnedFd> {
    // Protocol 0 receives nothing until it is bound, so nothing of other interfaces slips in.
    let fd = socket(libc::AF_PACKET, libc::SOCK_DGRAM, 0)?;
    // Beyond the system's limit only with CAP_NET_ADMIN over the whole machine; else the kernel cuts it down.
    set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER)
        .or_else(|_| set_int(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER))?;
    set_int(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER)?;
    set_int(&fd, libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
    let address = link_address(index, libc::ETH_P_ALL, [0; 6]);
    let length = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the pointer and the length describe an initialised socket address.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) })?;
    Ok(fd)
}

/// Reads up to `wanted` packets into the slots of `buffer`. Their lengths; none for what is no IP packet or longer than a slot.
pub(crate) fn receive_packets(
    fd: &OwnedFd,
    buffer: &mut [u8],
    slot: usize,
    wanted: usize,
) -> io::Result<Vec<Option<usize>>> {
    // SAFETY: all-zero is a valid value of these plain C structures.
    let (mut headers, mut names, mut pieces): (
        [libc::mmsghdr; SLOTS],
        [libc::sockaddr_ll; SLOTS],
        [libc::iovec; SLOTS],
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    let mut ready = 0;
    for (index, room) in buffer.chunks_exact_mut(slot).enumerate().take(wanted.min(SLOTS)) {
        pieces[index] = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = (&raw mut names[index]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_iov = &raw mut pieces[index];
        header.msg_iovlen = 1;
        ready = index + 1;
    }
    let count = loop {
        // SAFETY: the first `ready` headers point to a name and a buffer of the stated sizes, which live until the end of this
        // function and are not touched by anyone else during the call.
        let result = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                headers.as_mut_ptr(),
                ready as u32,
                libc::MSG_DONTWAIT as _,
                std::ptr::null_mut(),
            )
        };
        match check(result) {
            Ok(()) => break result as usize,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    };
    let length_of = |index: usize| {
        let is_ip =
            matches!(c_int::from(u16::from_be(names[index].sll_protocol)), libc::ETH_P_IP | libc::ETH_P_IPV6);
        let whole = headers[index].msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
        (is_ip && whole).then_some(headers[index].msg_len as usize)
    };
    Ok((0..count).map(length_of).collect())
}

/// Sends packets out of the interface `index` to a neighbour; at most [`SLOTS`]. How many the kernel took.
pub(crate) fn send_packets(
    fd: &OwnedFd,
    packets: &[&[u8]],
    index: u32,
    neighbour: [u8; 6],
) -> io::Result<usize> {
    // SAFETY: all-zero is a valid value of these plain C structures.
    let (mut headers, mut names, mut pieces): (
        [libc::mmsghdr; SLOTS],
        [libc::sockaddr_ll; SLOTS],
        [libc::iovec; SLOTS],
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    let count = packets.len().min(SLOTS);
    for (slot, packet) in packets.iter().enumerate().take(count) {
        let is_v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        names[slot] = link_address(index, if is_v6 { libc::ETH_P_IPV6 } else { libc::ETH_P_IP }, neighbour);
        pieces[slot] = libc::iovec { iov_base: packet.as_ptr().cast_mut().cast(), iov_len: packet.len() };
        let header = &mut headers[slot].msg_hdr;
        header.msg_name = (&raw mut names[slot]).cast();
        header.msg_namelen = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        header.msg_iov = &raw mut pieces[slot];
        header.msg_iovlen = 1;
    }
    // SAFETY: the first `count` headers point to a name and a buffer of the stated sizes, which live until the end of this
    // function; the kernel only reads the buffers.
    let sent = unsafe {
        libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _)
    };
    check(sent).map(|()| sent as usize)
}
