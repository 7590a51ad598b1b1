use std::io;

use crate::isolate::IsolationError;

/// Why the lab could not be built or does not do what it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The environment: namespaces are refused.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// The environment: one machine's namespace could not be made.
    #[error(
        "cannot make a network namespace for {node}: {source}. The lab has to run inside bondwire_netns::enter()"
    )]
    Namespace {
        /// The machine.
        node: String,
        /// What the system said.
        source: io::Error,
    },
    /// The environment: a kernel parameter could not be set.
    #[error(
        "cannot set {key} = {value} on {node}: {source}. /proc/sys has to be writable inside the lab; a container may \
         need --privileged, or --security-opt systempaths=unconfined"
    )]
    Sysctl {
        /// The machine.
        node: String,
        /// The parameter.
        key: String,
        /// The value it should have had.
        value: String,
        /// What the system said.
        source: io::Error,
    },
    /// The environment: the kernel refused a change of interfaces, addresses or routes.
    #[error("cannot {what}: {source}{}", hint(what, source))]
    Netlink {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The environment: the emulator could not be started.
    #[error("cannot start the link emulator: {what}: {source}")]
    Emulator {
        /// The step that failed.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The emulator's thread has ended, as after a panic in it.
    #[error("the link emulator has stopped; this lab cannot be used any more")]
    EmulatorGone,
    /// The caller: no such link.
    #[error("there is no link `{name}` in this lab; its links are {}", known.join(", "))]
    UnknownLink {
        /// The name that was asked for.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// The caller: a command that the link cannot carry out.
    #[error("link `{name}` has no NAT that could rebind; set `nat = true` for it")]
    NoNat {
        /// The link.
        name: String,
    },
    /// The caller: a scenario the lab cannot hold.
    #[error("{0}")]
    Scenario(String),
}

fn hint(what: &str, source: &io::Error) -> &'static str {
    let unsupported = rustix::io::Errno::OPNOTSUPP.raw_os_error();
    if what.contains("veth") && source.raw_os_error() == Some(unsupported) {
        ". This kernel has no veth interfaces; load the module with `modprobe veth` as root"
    } else {
        ""
    }
}

/// Why a measurement has no result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// The environment: a socket call failed.
    #[error("cannot {what}: {source}")]
    Socket {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The caller: more than the generator is made for.
    #[error("a probe of {packets} packets is too much; the most is {limit}")]
    TooManyPackets {
        /// Packets asked for.
        packets: u64,
        /// The bound.
        limit: u64,
    },
    /// The caller: a packet too small for the probe's header.
    #[error(
        "a probe packet of {size} bytes is too small or too large; {least} to {most} bytes of UDP payload"
    )]
    PacketSize {
        /// Bytes asked for.
        size: usize,
        /// The least.
        least: usize,
        /// The most.
        most: usize,
    },
    /// The other end was not there in time.
    #[error("no connection to {to} within {seconds:.1} s")]
    NoAnswer {
        /// Where to.
        to: std::net::SocketAddr,
        /// How long was waited.
        seconds: f64,
    },
    /// A thread of the generator ended unexpectedly.
    #[error("a traffic thread ended without a result")]
    ThreadLost,
    /// The caller: no time between packets.
    #[error("a probe needs a time between its packets; 5 ms is 200 packets a second")]
    NoInterval,
}

impl TrafficError {
    pub(crate) fn socket(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Socket { what, source }
    }
}
