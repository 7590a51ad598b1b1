//! The sockets of this machine, as the kernel describes them (sock_diag(7)): which there are, over which link they go, how they
//! fare, whose they are; and how to close one from outside.
//!
//! [`SockDiag::dump`] lists the TCP and UDP sockets of the caller's network namespace, all of them or those with certain marks. A
//! [`Socket`] has its addresses, its state, its owner's user and inode, and for TCP what `TCP_INFO` says ([`TcpFigures`]). [`Owners`] finds
//! the process behind an inode. [`SockDiag::destroy`] closes a TCP socket as if the other side had reset it, so that its application
//! connects again instead of waiting on a link that is dead.
//!
//! To list sockets needs no right. Marks are told, and asked for, with `CAP_NET_ADMIN` only; so is closing.
//!
//! The kernel's answers are read field by field: what is too short, of another request or of another sender is passed over, never trusted.
//!
//! Bounds: a dump holds at most [`MAX_SOCKETS`] sockets (the rest is counted), [`Owners`] at most as many inodes, and one search
//! of `/proc` looks at a bounded number of descriptors.
#![forbid(unsafe_code)]

mod diag;
mod error;
mod figures;
mod owners;
mod request;
mod socket;

#[cfg(test)]
mod tests;

pub use diag::{Dump, Query, SockDiag};
pub use error::DiagError;
pub use figures::TcpFigures;
pub use owners::{Owners, Process};
pub use request::{MAX_MARKS, Mark};
pub use socket::{Protocol, Socket, SocketKey, State};

/// The most sockets that a dump holds.
pub const MAX_SOCKETS: usize = 65_536;
