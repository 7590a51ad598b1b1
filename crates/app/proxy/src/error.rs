//! Errors, by whose fault they are.

use std::io;
use std::net::SocketAddr;

use crate::director::Refusal;

/// Why the proxy or the DNS forwarder cannot start. The environment's fault, or the configuration's.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on: in use, not this machine's, or below port 1024.
    #[error("cannot listen on {address}: {source}. {}", hint(source))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// A name or password that RFC 1929 cannot carry.
    #[error("the proxy's user name and password need 1 to 255 bytes each. Choose others")]
    Login,
    /// Threads or an event queue could not be made.
    #[error("cannot start the proxy's threads: {0}")]
    Threads(io::Error),
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "Another program holds this port: stop it, or choose another port",
        io::ErrorKind::PermissionDenied => "Ports below 1024 need root: choose a higher one",
        io::ErrorKind::AddrNotAvailable => "This machine does not have this address: choose one that it has",
        _ => "Choose another address",
    }
}

/// Why a connection to a remote could not be opened. Each becomes a SOCKS reply or an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ConnectError {
    /// The policy said no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The remote said no.
    #[error("the remote host refused the connection")]
    ByRemote,
    /// The network said that there is no way.
    #[error("no link has a route to the remote host")]
    Unreachable,
    /// Nobody said anything.
    #[error("the remote host did not answer over any link")]
    NoAnswer,
    /// The name does not exist.
    #[error("the host name does not exist")]
    NoSuchName,
    /// The name could not be looked up.
    #[error("no resolver answered over any link")]
    NoResolver,
    /// The sockets could not be made or tied to their links.
    #[error("no link's interface or address could be used")]
    Local,
}
