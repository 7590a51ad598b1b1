//! Socket options and addresses: everything that is asked of the kernel once.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, socklen_t};

use crate::error::OpenError;

/// Since Linux 5.0; missing from older C headers.
const UDP_GRO: c_int = 104;
/// Since Linux 5.1: times of arrival with 64 bits on every machine; its messages have the same number.
pub(crate) const SO_TIMESTAMPNS_NEW: c_int = 64;

fn io_error(what: impl Into<String>) -> OpenError {
    OpenError::Io { what: what.into(), source: io::Error::last_os_error() }
}

fn set_option<T>(fd: &OwnedFd, level: c_int, option: c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as socklen_t;
    // SAFETY: the pointer and the length describe `value`, which outlives the call; the kernel only reads it.
    let result =
        unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn set_int(fd: &OwnedFd, level: c_int, option: c_int, value: c_int, what: &str) -> Result<(), OpenError> {
    set_option(fd, level, option, &value).map_err(|source| OpenError::Io { what: what.to_owned(), source })
}

pub(crate) fn udp_socket(address: SocketAddr) -> Result<OwnedFd, OpenError> {
    let family = if address.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    let kind = libc::SOCK_DGRAM | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::socket(family, kind, 0) };
    if fd < 0 {
        return Err(match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAFNOSUPPORT) => OpenError::NoFamily,
            _ => io_error("open a UDP socket"),
        });
    }
    // SAFETY: `fd` was just opened and belongs to nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn bind_to_device(fd: &OwnedFd, device: &str) -> Result<(), OpenError> {
    let name = device.as_bytes();
    // SAFETY: the pointer and the length describe `name`; the kernel takes a name without a final zero.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_BINDTODEVICE,
            name.as_ptr().cast(),
            name.len() as socklen_t,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let what = format!("bind a socket to link `{device}`");
    Err(match io::Error::last_os_error().raw_os_error() {
        Some(libc::ENODEV) => OpenError::NoSuchDevice { device: device.to_owned() },
        Some(libc::EPERM | libc::EACCES) => OpenError::NoPermission { what, capability: "CAP_NET_RAW" },
        _ => io_error(what),
    })
}

pub(crate) fn set_mark(fd: &OwnedFd, mark: u32) -> Result<(), OpenError> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_MARK, &mark).map_err(|source| match source.raw_os_error() {
        Some(libc::EPERM) => {
            OpenError::NoPermission { what: "mark a socket".to_owned(), capability: "CAP_NET_ADMIN" }
        }
        _ => OpenError::Io { what: "mark a socket".to_owned(), source },
    })
}

pub(crate) fn set_v6_only(fd: &OwnedFd, only: bool) -> Result<(), OpenError> {
    set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, c_int::from(only), "set the socket's address family")
}

/// Sets the don't-fragment bit, and has the kernel refuse only what is larger than the interface's MTU: its cache of path MTUs
/// is filled by ICMP that anyone may forge, and lasts ten minutes.
pub(crate) fn never_fragment(fd: &OwnedFd, address: SocketAddr) -> Result<(), OpenError> {
    let what = "forbid fragmentation";
    // A socket for both families obeys both options, each for its own packets.
    set_int(fd, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE, what)?;
    if address.is_ipv6() {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE, what)?;
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_DONTFRAG, 1, what)?;
    }
    Ok(())
}

/// Asks for the local address of every datagram. On a socket for both families the IPv6 option covers IPv4 too, as mapped addresses.
pub(crate) fn ask_for_local_address(fd: &OwnedFd, address: SocketAddr) -> Result<(), OpenError> {
    let what = "ask for the address that was asked";
    if address.is_ipv6() {
        set_int(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1, what)
    } else {
        set_int(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, 1, what)
    }
}

/// Sizes the kernel's buffers. Beyond `net.core.{r,w}mem_max` (often 208 KiB, some 20 ms of 100 Mbit/s) it takes `CAP_NET_ADMIN`; without it the
/// kernel cuts the size down in silence, which is well: smaller buffers lose more and break nothing.
pub(crate) fn set_buffers(fd: &OwnedFd, receive: usize, send: usize) -> Result<(), OpenError> {
    for (forced, plain, size) in
        [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, receive), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, send)]
    {
        let size = size as c_int;
        if set_option(fd, libc::SOL_SOCKET, forced, &size).is_err() {
            set_int(fd, libc::SOL_SOCKET, plain, size, "size the socket's buffers")?;
        }
    }
    Ok(())
}

/// Asks for the time at which each datagram arrived. Without it (an older kernel) they count as read when they came.
pub(crate) fn ask_for_times(fd: &OwnedFd) {
    let on: c_int = 1;
    let _ = set_option(fd, libc::SOL_SOCKET, SO_TIMESTAMPNS_NEW, &on);
}

/// Whether the kernel knows `UDP_GRO`.
pub(crate) fn enable_gro(fd: &OwnedFd) -> bool {
    let on: c_int = 1;
    set_option(fd, libc::SOL_UDP, UDP_GRO, &on).is_ok()
}

pub(crate) fn bind(fd: &OwnedFd, address: SocketAddr) -> Result<(), OpenError> {
    let (storage, length) = to_sockaddr(address, false);
    // SAFETY: the pointer and the length describe an initialised socket address.
    if unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(&storage).cast(), length) } == 0 {
        return Ok(());
    }
    Err(match io::Error::last_os_error().raw_os_error() {
        Some(libc::EADDRINUSE) => OpenError::PortInUse { address, holder: None },
        Some(libc::EADDRNOTAVAIL) => OpenError::AddressNotAvailable { address },
        Some(libc::EACCES) => OpenError::NoPermission {
            what: format!("listen on UDP port {}", address.port()),
            capability: "CAP_NET_BIND_SERVICE",
        },
        _ => io_error(format!("bind a socket to {address}")),
    })
}

pub(crate) fn local_addr(fd: &OwnedFd) -> Result<SocketAddr, OpenError> {
    // SAFETY: an all-zero sockaddr_storage is valid.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let mut length = size_of_val(&storage) as socklen_t;
    let target: *mut libc::sockaddr_storage = &raw mut storage;
    // SAFETY: `target` has room for `length` bytes, both are written by the kernel within that bound.
    if unsafe { libc::getsockname(fd.as_raw_fd(), target.cast(), &raw mut length) } != 0 {
        return Err(io_error("ask for a socket's address"));
    }
    from_sockaddr(&storage).ok_or_else(|| io_error("ask for a socket's address"))
}

/// An address as the kernel wants it. `mapped`: the socket is an IPv6 one, so that IPv4 addresses have to be mapped.
pub(crate) fn to_sockaddr(address: SocketAddr, mapped: bool) -> (libc::sockaddr_storage, socklen_t) {
    // SAFETY: an all-zero sockaddr_storage is valid.
    let mut storage: libc::sockaddr_storage = unsafe { mem::zeroed() };
    let v6 = match address {
        SocketAddr::V4(v4) if !mapped => {
            let raw = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is larger than any socket address and aligned for all of them.
            unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in>().write(raw) };
            return (storage, size_of::<libc::sockaddr_in>() as socklen_t);
        }
        SocketAddr::V4(v4) => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0),
        SocketAddr::V6(v6) => v6,
    };
    let raw = libc::sockaddr_in6 {
        sin6_family: libc::AF_INET6 as libc::sa_family_t,
        sin6_port: v6.port().to_be(),
        sin6_flowinfo: v6.flowinfo(),
        sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
        sin6_scope_id: v6.scope_id(),
    };
    // SAFETY: as above.
    unsafe { std::ptr::from_mut(&mut storage).cast::<libc::sockaddr_in6>().write(raw) };
    (storage, size_of::<libc::sockaddr_in6>() as socklen_t)
}

/// An address from the kernel, mapped IPv4 ones as plain IPv4. None for other families.
pub(crate) fn from_sockaddr(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that a sockaddr_in stands here; the storage is large enough and aligned.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(raw.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::V4(SocketAddrV4::new(ip, u16::from_be(raw.sin_port))))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that a sockaddr_in6 stands here; the storage is large enough and aligned.
            let raw = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(raw.sin6_addr.s6_addr);
            let port = u16::from_be(raw.sin6_port);
            Some(match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
                None => SocketAddr::V6(SocketAddrV6::new(ip, port, raw.sin6_flowinfo, raw.sin6_scope_id)),
            })
        }
        _ => None,
    }
}
