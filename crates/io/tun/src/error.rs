use std::io;

use bondwire_netctl::NetError;

/// Why the tunnel device could not be made. The text says what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TunError {
    /// There is no `/dev/net/tun`.
    #[error(
        "/dev/net/tun is missing, so no tunnel device can be made\n  load the driver (`modprobe tun`), or make the file (`mkdir -p /dev/net && mknod /dev/net/tun c 10 200`);\n  in a container, start it with `--device /dev/net/tun --cap-add NET_ADMIN`"
    )]
    Missing,
    /// `/dev/net/tun` is closed to this user.
    #[error(
        "no permission to open /dev/net/tun\n  run as root, or open it to all (`chmod 666 /dev/net/tun`; making devices still needs CAP_NET_ADMIN)"
    )]
    NotOpened,
    /// A capability is missing.
    #[error(
        "no permission to {what}\n  run as root, or give the program {capability}; in a container, start it with `--cap-add NET_ADMIN`"
    )]
    NoPermission {
        /// What was tried.
        what: String,
        /// Which capability permits it.
        capability: &'static str,
    },
    /// The name belongs to another device.
    #[error(
        "the name `{name}` is taken by another network device\n  another bondwire may be running (`ip link show {name}`); stop it, or choose another name"
    )]
    NameInUse {
        /// The name.
        name: String,
    },
    /// The name is none.
    #[error("`{name}` is no name for a network device\n  use 1 to {most} letters, digits, `-`, `_` or `.`")]
    BadName {
        /// What was asked for.
        name: String,
        /// Its greatest length.
        most: usize,
    },
    /// The device could not be set up.
    #[error(transparent)]
    Network(#[from] NetError),
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
}
