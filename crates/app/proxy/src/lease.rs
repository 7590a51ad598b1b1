//! One open socket, as the director and the sweeper know it.
//!
//! A [`Lease`] begins when the director places a socket and ends, exactly once, when it is dropped: that reports the last
//! bytes and the close. While it lives it is listed with its worker, which sweeps the list twice a second: bytes that moved
//! are reported, sockets without traffic end, and sockets of an evicted link are told so.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bondwire_units::LinkId;
use slab::Slab;

use crate::director::{Director, SocketId, Traffic, Transport};
use crate::worker::Worker;

/// Why a socket has to end, or to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// No traffic for too long: an orderly end.
    Idle,
    /// Its link was evicted: a reset.
    Evicted,
    /// The proxy stops.
    Stopped,
}

/// A socket's entry in its worker's list.
pub(crate) struct Entry {
    pub(crate) socket: SocketId,
    pub(crate) transport: Transport,
    /// The link that carries it; `None` before there is one, and for a socket that no link carries.
    pub(crate) link: Cell<Option<LinkId>>,
    /// Its source address, once a TCP socket is connected.
    pub(crate) local: Cell<Option<IpAddr>>,
    /// All bytes towards the internet.
    pub(crate) up: Cell<u64>,
    /// All bytes from the internet.
    pub(crate) down: Cell<u64>,
    /// Both together, as last reported.
    reported: Cell<u64>,
    /// Sweeps since the last traffic.
    quiet: Cell<u32>,
    /// The sweeps that it may be quiet; `u32::MAX` before it is connected.
    patience: Cell<u32>,
    fate: Cell<Option<Fate>>,
    waker: RefCell<Option<Waker>>,
}

impl Entry {
    fn new(socket: SocketId, transport: Transport) -> Self {
        Self {
            socket,
            transport,
            link: Cell::new(None),
            local: Cell::new(None),
            up: Cell::new(0),
            down: Cell::new(0),
            reported: Cell::new(0),
            quiet: Cell::new(0),
            patience: Cell::new(u32::MAX),
            fate: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// What to report, if anything moved since the last report.
    fn take_report(&self) -> Option<Traffic> {
        let (up, down) = (self.up.get(), self.down.get());
        (self.reported.replace(up + down) != up + down).then_some(Traffic { socket: self.socket, up, down })
    }

    /// How long it may be without traffic from now on.
    pub(crate) fn allow_quiet(&self, time: Duration) {
        let sweeps = time.as_millis().div_ceil(SWEEP.as_millis());
        self.patience.set(u32::try_from(sweeps).unwrap_or(u32::MAX).max(1));
        self.quiet.set(0);
    }

    fn doom(&self, fate: Fate) {
        self.fate.set(Some(fate));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// What has to happen to it, if anything; taken, so told once.
    pub(crate) fn poll_fate(&self, cx: &Context<'_>) -> Poll<Fate> {
        if let Some(fate) = self.fate.take() {
            return Poll::Ready(fate);
        }
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Whether it has to end.
    pub(crate) fn is_doomed(&self) -> bool {
        self.fate.get().is_some()
    }

    /// Whether it was found without traffic for too long.
    pub(crate) fn is_idle(&self) -> bool {
        self.fate.get() == Some(Fate::Idle)
    }

    /// Waits for the end.
    pub(crate) async fn fate(&self) -> Fate {
        poll_fn(|cx| self.poll_fate(cx)).await
    }
}

/// The time between two sweeps.
pub(crate) const SWEEP: Duration = Duration::from_millis(500);

/// A worker's list of open sockets. Bounded by the limits on clients, associations and flows.
pub(crate) type Leases = RefCell<Slab<Rc<Entry>>>;

/// One sweep: reports what moved and ends what was quiet for too long. `report` is scratch.
pub(crate) fn sweep(leases: &Leases, director: &dyn Director, report: &mut Vec<Traffic>) {
    report.clear();
    for (_, entry) in leases.borrow().iter() {
        if let Some(traffic) = entry.take_report() {
            entry.quiet.set(0);
            report.push(traffic);
            continue;
        }
        entry.quiet.set(entry.quiet.get().saturating_add(1));
        if entry.quiet.get() >= entry.patience.get() && entry.patience.get() != u32::MAX {
            entry.doom(Fate::Idle);
        }
    }
    if !report.is_empty() {
        director.traffic(report);
    }
}

/// Tells TCP sockets on this link that they were evicted: all, or those with one of the addresses that were lost.
pub(crate) fn evict(leases: &Leases, link: LinkId, lost: Option<&[IpAddr]>) {
    let is_meant = |entry: &Entry| match (lost, entry.local.get()) {
        (None, _) => true,
        (Some(lost), local) => local.is_some_and(|local| lost.contains(&local)),
    };
    for (_, entry) in leases.borrow().iter() {
        let on_it = entry.transport == Transport::Tcp && entry.link.get() == Some(link);
        if on_it && is_meant(entry) {
            entry.doom(Fate::Evicted);
        }
    }
}

/// Gives UDP flows other links, from their next datagram on.
pub(crate) fn move_flows(leases: &Leases, moves: &[(SocketId, LinkId)]) {
    for (_, entry) in leases.borrow().iter().filter(|(_, entry)| entry.transport == Transport::Udp) {
        if let Some((_, to)) = moves.iter().rev().find(|(socket, _)| *socket == entry.socket) {
            entry.link.set(Some(*to));
        }
    }
}

/// Tells every socket that the proxy stops.
pub(crate) fn stop(leases: &Leases) {
    for (_, entry) in leases.borrow().iter() {
        entry.doom(Fate::Stopped);
    }
}

/// The right to an open socket. Its end is the socket's end.
pub(crate) struct Lease {
    worker: Rc<Worker>,
    key: usize,
    pub(crate) entry: Rc<Entry>,
}

impl Lease {
    /// Enters a socket that the director placed.
    pub(crate) fn new(worker: &Rc<Worker>, socket: SocketId, transport: Transport) -> Self {
        let entry = Rc::new(Entry::new(socket, transport));
        let key = worker.leases.borrow_mut().insert(entry.clone());
        Self { worker: worker.clone(), key, entry }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.worker.leases.borrow_mut().remove(self.key);
        let director = &self.worker.shared.director;
        if let Some(traffic) = self.entry.take_report() {
            director.traffic(&[traffic]);
        }
        director.closed(self.entry.socket);
    }
}
