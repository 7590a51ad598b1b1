use std::io;
use std::path::PathBuf;

/// Why the network could not be observed or changed. The text says what, why, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The kernel refused for want of a capability.
    #[error("no permission to {what}\n  changing the network takes root or CAP_NET_ADMIN: run it with sudo")]
    NoPermission {
        /// What was tried.
        what: String,
    },
    /// The interface is not there.
    #[error(
        "link `{name}` does not exist\n  it may have been unplugged or renamed: `ip link` lists the links of this machine"
    )]
    NoSuchLink {
        /// Its name.
        name: String,
    },
    /// The kernel refused for another reason.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The program `nft` is not installed.
    #[error(
        "cannot {what}: the program `nft` is not installed\n  install it (`apt-get install nftables`), or switch NAT off and let another machine do it"
    )]
    NftMissing {
        /// What was tried.
        what: String,
    },
    /// The program `nft` refused.
    #[error("cannot {what}: nft says: {message}")]
    Nft {
        /// What was tried.
        what: String,
        /// Its first lines.
        message: String,
    },
    /// All table numbers are taken.
    #[error(
        "no free routing table between {first} and {last}\n  other software uses all of them: `ip rule` and `ip route show table all` show which"
    )]
    NoFreeTable {
        /// The first that was tried.
        first: u32,
        /// The last.
        last: u32,
    },
    /// Another process holds the journal.
    #[error("another bondwire is running with this state directory ({path})\n  stop it first with `bondwire down`, or use another --state-dir", path = .path.display())]
    JournalInUse {
        /// The journal.
        path: PathBuf,
    },
    /// The journal cannot be read or written. Nothing was changed, since a change that is not written down is not made.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Journal {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl NetError {
    /// The error of a request to the kernel.
    pub(crate) fn kernel(what: impl Into<String>, source: io::Error) -> Self {
        let what = what.into();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES | libc::EROFS) => Self::NoPermission { what },
            _ => Self::Kernel { what, source },
        }
    }

    /// Whether the thing to be made was there before.
    pub(crate) fn is_exists(&self) -> bool {
        matches!(self, Self::Kernel { source, .. } if source.raw_os_error() == Some(libc::EEXIST))
    }

    /// Whether the thing to be undone, or what it hung on, is gone.
    pub(crate) fn is_gone(&self) -> bool {
        match self {
            Self::NoSuchLink { .. } => true,
            Self::Kernel { source, .. } => matches!(
                source.raw_os_error(),
                Some(libc::ENOENT | libc::ESRCH | libc::ENODEV | libc::EADDRNOTAVAIL | libc::ENXIO)
            ),
            _ => false,
        }
    }
}
