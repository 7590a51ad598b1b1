//! Watching links come, change and go.
//!
//! The kernel's notifications only say that it is time to look: after any of them the links are listed again and
//! compared with what was known. So a notification that was lost (the socket's buffer is bounded) costs nothing but a look.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::error::NetError;
use crate::link::Link;
use crate::model::Route;
use crate::netlink::Netlink;

/// Multicast groups of rtnetlink: links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes.
const GROUPS: [u32; 5] = [1, 5, 9, 7, 11];

/// The most notifications that are taken off the socket in one look.
const DRAIN: usize = 4_096;

/// What happened to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It appeared.
    Added(Link),
    /// It has another name, MTU, state, address or gateway.
    Changed {
        /// As it was.
        before: Box<Link>,
        /// As it is.
        now: Box<Link>,
    },
    /// It is gone.
    Removed(Link),
}

/// Tells the changes of the machine's links. Its descriptor is readable when [`Watcher::poll`] is worth a call.
#[derive(Debug)]
pub struct Watcher {
    socket: Socket,
    netlink: Netlink,
    known: BTreeMap<u32, Link>,
    noticed: bool,
}

impl Watcher {
    /// Starts watching. [`Watcher::links`] gives what is there now; later calls of [`Watcher::poll`] give what changed since.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn open() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind(&SocketAddr::new(0, 0))?;
            for group in GROUPS {
                socket.add_membership(group)?;
            }
            socket.set_non_blocking(true)?;
            Ok(socket)
        };
        let socket = open().map_err(|source| NetError::kernel("watch the links", source))?;
        let mut netlink = Netlink::open()?;
        let known = netlink.links()?.into_iter().map(|link| (link.index, link)).collect();
        Ok(Self { socket, netlink, known, noticed: false })
    }

    /// The links as they were at the last look.
    pub fn links(&self) -> impl Iterator<Item = &Link> + Clone {
        self.known.values()
    }

    /// Whether anything was heard since this was asked last: of a link, an address, or a route that belongs to none.
    pub fn take_noticed(&mut self) -> bool {
        std::mem::take(&mut self.noticed)
    }

    /// The routes of all tables that are not ours, as [`Netlink::routes`] gives them.
    ///
    /// # Errors
    /// The kernel refuses to list them.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetError> {
        self.netlink.routes()
    }

    /// What changed since the last look. Does not block; empty if nothing did.
    ///
    /// # Errors
    /// The kernel refuses to list the links.
    pub fn poll(&mut self) -> Result<Vec<LinkEvent>, NetError> {
        if !self.drain()? {
            return Ok(Vec::new());
        }
        self.noticed = true;
        let now: BTreeMap<u32, Link> =
            self.netlink.links()?.into_iter().map(|link| (link.index, link)).collect();
        let mut events: Vec<LinkEvent> = self
            .known
            .values()
            .filter(|link| !now.contains_key(&link.index))
            .map(|link| LinkEvent::Removed(link.clone()))
            .collect();
        for link in now.values() {
            match self.known.get(&link.index) {
                None => events.push(LinkEvent::Added(link.clone())),
                Some(before) if before != link => events.push(LinkEvent::Changed {
                    before: Box::new(before.clone()),
                    now: Box::new(link.clone()),
                }),
                Some(_) => {}
            }
        }
        self.known = now;
        Ok(events)
    }

    /// Takes the notifications off the socket. Whether there were any.
    fn drain(&mut self) -> Result<bool, NetError> {
        let mut any = false;
        for _ in 0..DRAIN {
            let mut buffer = Vec::with_capacity(64);
            match self.socket.recv(&mut buffer, libc::MSG_TRUNC) {
                Ok(_) => any = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Notifications were lost: all the more reason to look.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => any = true,
                Err(source) => return Err(NetError::kernel("watch the links", source)),
            }
        }
        Ok(any)
    }
}

impl AsFd for Watcher {
    #[allow(unsafe_code, reason = "the socket type has no AsFd of its own")]
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor belongs to `self.socket`, which lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }
}
