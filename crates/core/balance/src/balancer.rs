//! The state machine that the world talks to. It routes; the algorithms stand in the modules beside it.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bondwire_units::{Deadline, LinkId, Timestamp};

use crate::config::{Config, LinkConfig, Priority};
use crate::event::{Event, Probe, ProbeId, Snapshot, SocketStatus};
use crate::plan::{KernelPlan, WEIGHTS};
use crate::request::{ConnectFailure, Placement, Reason, Refusal, Request, SocketId, TcpSample};

/// The policy. See the crate's page for how to drive it.
#[derive(Debug)]
pub struct Balancer {
    config: Config,
    links: BTreeMap<LinkId, LinkConfig>,
    sockets: BTreeMap<u32, Option<LinkId>>,
    events: VecDeque<Event>,
    next: u32,
    version: u64,
}

impl Balancer {
    /// A balancer without links. `seed` makes probes of several balancers differ, and the site table's order
    /// unpredictable to others; the same seed and calls give the same answers.
    pub fn new(config: Config, seed: u64) -> Self {
        Self {
            config,
            links: BTreeMap::new(),
            sockets: BTreeMap::new(),
            events: VecDeque::new(),
            next: (seed & 0xff) as u32,
            version: 0,
        }
    }

    // ---- links

    /// A link appeared, is there again, or its settings changed. What was learnt under its name within the last
    /// hour is known again. A link that appears is used at once, and probed. Beyond [`crate::MAX_LINKS`] it is
    /// not taken, and false comes back.
    pub fn set_link(&mut self, link: LinkConfig, now: Timestamp) -> bool {
        let _ = now;
        self.links.insert(link.id, link);
        self.on_change();
        true
    }

    /// A link lost its carrier, its address, or itself. Its UDP flows move ([`Event::SocketMoved`]), its TCP
    /// sockets are to be closed ([`Event::Evict`]).
    pub fn remove_link(&mut self, link: LinkId, now: Timestamp) {
        let _ = now;
        self.links.remove(&link);
        self.events.push_back(Event::Evict { link });
        self.on_change();
    }

    /// Other rules, from the next socket on.
    pub fn set_rules(&mut self, rules: Vec<crate::Rule>, now: Timestamp) {
        let _ = now;
        self.config.rules = rules;
        self.on_change();
    }

    /// The interface's counters since it came up, as `(received, sent)` bytes. Call every 100 to 250 ms.
    pub fn handle_link_counters(&mut self, link: LinkId, received: u64, sent: u64, now: Timestamp) {
        let _ = (link, received, sent, now);
    }

    /// What the kernel knows of this link's TCP sockets, together; once a second is enough.
    pub fn handle_tcp_sample(&mut self, link: LinkId, sample: TcpSample, now: Timestamp) {
        let _ = (link, sample, now);
    }

    // ---- sockets

    /// Chooses a link for a new socket.
    ///
    /// # Errors
    /// When no link may be used, or a strict rule names one that does not work.
    pub fn open(&mut self, request: &Request<'_>, now: Timestamp) -> Result<Placement, Refusal> {
        let _ = (request, now);
        let usable: Vec<LinkId> =
            self.links.values().filter(|link| link.priority != Priority::Never).map(|link| link.id).collect();
        if usable.is_empty() {
            return Err(Refusal::NoLink);
        }
        self.next = self.next.wrapping_add(1);
        let link = usable[self.next as usize % usable.len()];
        self.sockets.insert(self.next, Some(link));
        let (socket, link) = (SocketId::new(self.next, 0), Some(link));
        Ok(Placement { socket, link, reason: Reason::Load, patience: Duration::from_millis(300) })
    }

    /// The next link for a socket whose connect was not answered within its patience, or failed: the one before
    /// may still win ([`Balancer::handle_connected`] says which did). None if all that may be used were tried.
    pub fn next_link(&mut self, socket: SocketId, now: Timestamp) -> Option<Placement> {
        let _ = (socket, now);
        None
    }

    /// Takes in a socket for which the kernel chose `link` (none: bypassed). Not for sockets of [`Balancer::open`].
    pub fn adopt(&mut self, request: &Request<'_>, link: Option<LinkId>, now: Timestamp) -> SocketId {
        let _ = (request, now);
        self.next = self.next.wrapping_add(1);
        self.sockets.insert(self.next, link);
        SocketId::new(self.next, 0)
    }

    /// The connect was started on `link` (TCP).
    pub fn handle_connecting(&mut self, socket: SocketId, link: LinkId, now: Timestamp) {
        let _ = (socket, link, now);
    }

    /// The connect on `link` was answered after `rtt`, counted from its own start. The socket is on `link` now.
    pub fn handle_connected(&mut self, socket: SocketId, link: LinkId, rtt: Duration, now: Timestamp) {
        let _ = (socket, link, rtt, now);
    }

    /// The connect on `link` failed. The socket stays in the table for [`Balancer::next_link`]; if there is no
    /// next one, say [`Balancer::handle_closed`].
    pub fn handle_connect_failed(
        &mut self,
        socket: SocketId,
        link: LinkId,
        why: ConnectFailure,
        now: Timestamp,
    ) {
        let _ = (socket, link, why, now);
    }

    /// The kernel sent this socket's first SYN again (the kernel way; a proxy says `next_link`).
    pub fn handle_syn_repeated(&mut self, socket: SocketId, now: Timestamp) {
        let _ = (socket, now);
    }

    /// All that the socket has sent and received since it was opened. Every 250 ms to 2 s while it transfers,
    /// and before it is closed; nothing has to be said while nothing passes.
    pub fn handle_bytes(&mut self, socket: SocketId, up: u64, down: u64, now: Timestamp) {
        let _ = (socket, up, down, now);
    }

    /// The remote end, or something that pretended to be it, reset the connection. The socket is closed.
    pub fn handle_reset(&mut self, socket: SocketId, now: Timestamp) {
        self.handle_closed(socket, now);
    }

    /// One end has said that it sends no more (TCP).
    pub fn handle_closing(&mut self, socket: SocketId, now: Timestamp) {
        let _ = (socket, now);
    }

    /// The socket is gone. Unknown ones are no error: the table may have forgotten it.
    pub fn handle_closed(&mut self, socket: SocketId, now: Timestamp) {
        let _ = now;
        self.sockets.remove(&(socket.slot() as u32));
    }

    /// A name was resolved: rules by name hold for this address in the kernel's way. Kept if a rule speaks of
    /// the name, for an hour.
    pub fn handle_name(&mut self, name: &str, address: IpAddr, now: Timestamp) {
        let _ = (name, address, now);
    }

    // ---- probes

    /// The next probe to be sent now.
    pub fn poll_probe(&mut self, now: Timestamp) -> Option<Probe> {
        let _ = now;
        None
    }

    /// A probe was answered after `rtt`; a refusal is an answer.
    pub fn handle_probe_answer(&mut self, probe: ProbeId, rtt: Duration, now: Timestamp) {
        let _ = (probe, rtt, now);
    }

    /// A probe could not be sent, or an error came back. Silence needs not be told.
    pub fn handle_probe_failed(&mut self, probe: ProbeId, why: ConnectFailure, now: Timestamp) {
        let _ = (probe, why, now);
    }

    // ---- what it says

    /// What happened, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Balancer::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Deadline> {
        None
    }

    /// Does what is due. More calls than asked for do no harm.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        let _ = now;
    }

    /// What the kernel's program needs.
    pub fn plan(&mut self, now: Timestamp) -> KernelPlan {
        let _ = now;
        let weight = WEIGHTS / u16::try_from(self.links.len().max(1)).unwrap_or(1);
        let weights: Vec<_> = self.links.keys().map(|&link| (link, weight)).collect();
        KernelPlan {
            version: self.version,
            bulk: weights.clone(),
            interactive: weights,
            ..KernelPlan::default()
        }
    }

    /// How everything stands.
    pub fn snapshot(&self, now: Timestamp) -> Snapshot {
        let _ = now;
        Snapshot {
            links: Vec::new(),
            sockets: self.sockets.len(),
            sites: 0,
            opened: 0,
            refused: 0,
            forgotten: 0,
            raced: 0,
            moved: 0,
        }
    }

    /// Every socket of the table.
    pub fn sockets(&self, now: Timestamp) -> impl Iterator<Item = SocketStatus<'_>> {
        let _ = now;
        core::iter::empty()
    }

    /// One socket; none if it is not in the table any more.
    pub fn socket(&self, socket: SocketId, now: Timestamp) -> Option<SocketStatus<'_>> {
        let _ = (socket, now);
        None
    }

    fn on_change(&mut self) {
        self.version += 1;
        self.events.push_back(Event::PlanChanged);
    }
}
