use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// The "set" commands of linux/ethtool.h that switch an offload. Transmit checksums go last: TSO needs them.
const OFFLOADS: [u32; 5] = [
    0x0000_002c, // ETHTOOL_SGRO
    0x0000_001f, // ETHTOOL_STSO
    0x0000_0024, // ETHTOOL_SGSO
    0x0000_0019, // ETHTOOL_SSG
    0x0000_0017, // ETHTOOL_STXCSUM
];

/// Switches TSO, GSO, GRO, scatter-gather and transmit checksum offload of the interface `name` off, in the calling
/// thread's network namespace, so that what it sends are frames of at most the MTU with finished checksums.
///
/// # Errors
/// ENODEV for an unknown interface, EPERM without CAP_NET_ADMIN. A switch that the driver does not have
/// (EOPNOTSUPP) is no error: what cannot be switched off is not on.
pub fn disable_offloads(name: &str) -> io::Result<()> {
    // SAFETY: plain system call without pointers.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `fd` was just returned by socket() and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    for cmd in OFFLOADS {
        match set_value(&socket, name, EthtoolValue { cmd, data: 0 }) {
            Err(error) if error.raw_os_error() != Some(libc::EOPNOTSUPP) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

fn set_value(socket: &OwnedFd, name: &str, mut value: EthtoolValue) -> io::Result<()> {
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the name and an ethtool_value behind ifru_data; both live until the call returns.
    let rc = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
