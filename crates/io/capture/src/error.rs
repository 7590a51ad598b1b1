use std::io;

use bondwire_netctl::NetError;

use crate::plan::{MAX_LINKS, Slot};

/// Why sockets cannot be captured. The text says what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The network could not be changed.
    #[error(transparent)]
    Network(#[from] NetError),
    /// Neither way is possible.
    #[error(
        "sockets cannot be captured here\n  eBPF: {ebpf}\n  nftables: {nftables}\n  run it as root outside of containers, or use the proxy: bondwire balance --proxy 127.0.0.1:1080"
    )]
    Unsupported {
        /// Why not by eBPF.
        ebpf: String,
        /// Why not by nftables.
        nftables: String,
    },
    /// There is no cgroup2 to attach to.
    #[error(
        "no cgroup2 file system can be reached: {source}\n  mount one: mount -t cgroup2 none /sys/fs/cgroup/unified"
    )]
    NoCgroup {
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel refused a program or a map.
    #[error(
        "the kernel refuses to {what}: {why}\n  this needs Linux 5.15 or later, and root or CAP_BPF with CAP_NET_ADMIN"
    )]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        why: String,
    },
    /// The programs are attached, and are not called for this process' own sockets.
    #[error(
        "the hook is attached, but sees nothing of this process\n  it belongs to a cgroup outside of those that are mounted here, as in some containers"
    )]
    NotCalled,
    /// A socket option that every supported kernel has is missing.
    #[error("cannot {what}: {source}")]
    Socket {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A plan beyond the bounds.
    #[error("a plan has {found} {what}, and {limit} are possible")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many there can be.
        limit: usize,
    },
    /// A slot that no link can have.
    #[error("there is no slot {slot}: links have the numbers 0 to {}", MAX_LINKS - 1)]
    NoSuchSlot {
        /// The number.
        slot: Slot,
    },
    /// A link that was not given to [`Capture::attach`](crate::Capture::attach).
    #[error("no link has the slot {slot}")]
    UnknownLink {
        /// The number.
        slot: Slot,
    },
}

impl CaptureError {
    pub(crate) fn kernel(what: &'static str, error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Kernel { what, why: chain(error) }
    }
}

/// An error and its causes, each once.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    shortened(text)
}

/// The verifier's protocol can have thousands of lines; what matters stands at its end.
fn shortened(text: String) -> String {
    const HEAD: usize = 160;
    const TAIL: usize = 480;
    let letters = text.chars().count();
    if letters <= HEAD + TAIL {
        return text;
    }
    let head: String = text.chars().take(HEAD).collect();
    let tail: String = text.chars().skip(letters - TAIL).collect();
    format!("{head} … {tail}")
}
