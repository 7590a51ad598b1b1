use std::io;

/// Why the kernel did not answer, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// The caller lacks a right.
    #[error("no permission to {what}\nrun bondwire as root (sudo), or give it CAP_NET_ADMIN")]
    NoPermission {
        /// What was asked for.
        what: &'static str,
    },
    /// The kernel was built without it (`CONFIG_INET_DIAG`, `CONFIG_INET_UDP_DIAG`, `CONFIG_INET_DIAG_DESTROY`).
    #[error("this kernel cannot {what}\nload its module (modprobe tcp_diag udp_diag), or do without")]
    NotSupported {
        /// What was asked for.
        what: &'static str,
    },
    /// More marks were asked for than fit in one request.
    #[error("{count} marks are too many for one request: at most {most}")]
    TooManyMarks {
        /// As many were asked for.
        count: usize,
        /// As many are possible.
        most: usize,
    },
    /// Something else.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was asked for.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl DiagError {
    pub(crate) fn kernel(what: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NoPermission { what },
            // An unknown protocol is ENOENT, a handler without `destroy` EOPNOTSUPP.
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT) => Self::NotSupported { what },
            _ => Self::Kernel { what, source },
        }
    }

    /// Whether the socket had gone already.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Kernel { source, .. } if source.raw_os_error() == Some(libc::ENOENT))
    }
}
