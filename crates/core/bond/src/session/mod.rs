//! One session: the bond between a client and a server over their paths. The same on both ends but for who opens paths.
//!
//! Its parts: [`lane`] is a path with its address and validation, [`schedule`] chooses among them, [`send`] builds packets,
//! [`receive`] takes them apart, [`upkeep`] does what time demands. Queues, repair and order are modules of the crate. This type routes between
//! them and owns no algorithm.
//!
//! Bounds: at most [`MAX_PATHS`] paths; the memory given at construction, which [`budget`] divides between queues, order, parities and marks.
//! Beside that, and only where it is needed: for real-time flows half a megabyte.

mod budget;
mod content;
mod cross;
mod lane;
mod parity;
mod priority;
mod realtime;
mod receive;
mod schedule;
mod send;
mod upkeep;

use crate::ingress::Ingress;
use crate::order::Order;
use crate::pool::Pool;
use crate::random::Random;
use crate::realtime::{Arrivals, Preference, Rules, StreamChange, Streams};
use crate::reassembly::Reassembly;
use crate::smoothing::{Outlet, Smoother};
use crate::store::{Store, StoreId};
use crate::types::{Counters, DropReason, PathChange, PathStatus, Route};
use bondwire_crypto::SessionKeys;
use bondwire_packet::{PacketBatch, PacketInfo};
use bondwire_units::{ByteCount, LinkId, PathId, SessionId, Timestamp};
use bondwire_wire::{CloseCode, Mode};
use budget::Budget;
use content::{Content, Control};
use core::net::SocketAddr;
use core::time::Duration;
use lane::Challenge;
pub(crate) use lane::Lane;
use std::collections::{BTreeSet, VecDeque};

/// Paths that may be open at a time.
pub(crate) const MAX_PATHS: usize = 16;

/// Which end of the session this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client,
    Server,
}

/// What a session has to tell its endpoint.
#[derive(Clone, Debug)]
pub(crate) enum SessionEvent {
    /// A path changed its state.
    Path(PathChange),
    /// A flow became real-time, or is none any more.
    Stream(StreamChange),
    /// The peer ended the session.
    PeerClosed(CloseCode),
    /// The keys have sealed as much as they may.
    WornOut,
    /// This end has to end it.
    Fatal(&'static str),
}

/// What a session is made of.
#[derive(Debug)]
pub(crate) struct SessionSetup {
    pub(crate) role: Role,
    pub(crate) ours: SessionId,
    pub(crate) theirs: SessionId,
    pub(crate) keys: SessionKeys,
    pub(crate) mode: Mode,
    pub(crate) rules: Rules,
    pub(crate) max_redundant: usize,
    pub(crate) memory: ByteCount,
    pub(crate) seed: [u8; 32],
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    role: Role,
    ours: SessionId,
    theirs: SessionId,
    keys: SessionKeys,
    random: Random,
    mode: Mode,
    mode_sequence: u64,
    max_redundant: usize,
    budget: Budget,
    lanes: Vec<Lane>,
    next_path: u16,
    /// Paths that were closed: their ids are not used again.
    closed_paths: BTreeSet<PathId>,
    ingress: Ingress,
    streams: Streams,
    arrivals: Arrivals,
    preference: Preference,
    /// Real-time flows are under way, as of the last upkeep.
    real_time: bool,
    store: Store,
    order: Order,
    reassembly: Reassembly,
    smoother: Smoother,
    pool: Pool,
    /// Packets to be sent again.
    repairs: VecDeque<StoreId>,
    /// Those of real-time flows, which go first.
    urgent_repairs: VecDeque<StoreId>,
    /// Control frames to be sent, or sent again.
    control: VecDeque<Control>,
    status_sequence: u64,
    policy_sequence: u64,
    spill: priority::Spill,
    rekey_response: Option<bondwire_crypto::RekeyResponse>,
    close: Option<(CloseCode, &'static str)>,
    close_sent: Option<Timestamp>,
    events: VecDeque<SessionEvent>,
    counters: Counters,
    /// The last inner packet in either direction.
    last_data: Timestamp,
    last_received: Timestamp,
    started: Timestamp,
    upkeep_due: Timestamp,
    /// Until then the ingress queue may be long: a path died.
    patient_until: Timestamp,
    acked: Vec<Content>,
    lost: Vec<Content>,
}

impl Session {
    /// A session under new keys, without paths.
    pub(crate) fn new(setup: SessionSetup, now: Timestamp) -> Self {
        let budget = Budget::new(setup.memory);
        let mut streams = Streams::new();
        streams.set_rules(setup.rules);
        Self {
            role: setup.role,
            ours: setup.ours,
            theirs: setup.theirs,
            keys: setup.keys,
            random: Random::new(setup.seed),
            mode: setup.mode,
            mode_sequence: 0,
            max_redundant: setup.max_redundant.max(1),
            budget,
            lanes: Vec::new(),
            next_path: 0,
            closed_paths: BTreeSet::new(),
            ingress: Ingress::new(budget.ingress()),
            streams,
            arrivals: Arrivals::default(),
            preference: Preference::default(),
            real_time: false,
            store: Store::new(budget.store()),
            order: Order::new(budget.order(0)),
            reassembly: Reassembly::default(),
            smoother: Smoother::new(budget.marked_flows()),
            pool: Pool::new(1_024),
            repairs: VecDeque::new(),
            urgent_repairs: VecDeque::new(),
            control: VecDeque::new(),
            status_sequence: 0,
            policy_sequence: 0,
            spill: priority::Spill::default(),
            rekey_response: None,
            close: None,
            close_sent: None,
            events: VecDeque::new(),
            counters: Counters::default(),
            last_data: now,
            last_received: now,
            started: now,
            upkeep_due: now,
            patient_until: now,
            acked: Vec::new(),
            lost: Vec::new(),
        }
    }

    /// The id by which this end knows the session.
    pub(crate) fn id(&self) -> SessionId {
        self.ours
    }

    /// When anything that opened was received last.
    pub(crate) fn last_received(&self) -> Timestamp {
        self.last_received
    }

    /// How long it has lasted.
    pub(crate) fn age(&self, now: Timestamp) -> Duration {
        now.since(self.started)
    }

    /// The mode in use.
    pub(crate) fn mode(&self) -> Mode {
        self.mode
    }

    /// The next thing to tell.
    pub(crate) fn poll_event(&mut self) -> Option<SessionEvent> {
        self.events.pop_front()
    }

    /// Changes the mode, and tells the peer.
    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.mode = mode;
        self.mode_sequence += 1;
        self.control.push_back(Control::Mode { sequence: self.mode_sequence, mode });
    }

    /// Opens a path over a link (client only). False if sixteen are open, or all ids are used up (docs/protocol.md, PATH-1, PATH-2).
    pub(crate) fn open_path(&mut self, route: Route, link_mtu: u16, now: Timestamp) -> bool {
        if self.lanes.len() >= MAX_PATHS {
            // Links come and go under new identifiers: one that is gone makes room.
            let gone = self.lanes.iter().find(|lane| lane.link_down).map(|lane| lane.route.link);
            if let Some(link) = gone {
                self.close_link(link, now);
            }
        }
        if self.lanes.len() >= MAX_PATHS || self.is_out_of_paths() {
            return false;
        }
        let challenge = Challenge::new(self.random.token(), now);
        let id = PathId(self.next_path as u8);
        self.next_path += 1;
        self.lanes.push(Lane::new(id, route, usize::from(link_mtu), challenge, false, now));
        true
    }

    /// Whether a path may carry data.
    pub(crate) fn is_alive(&self) -> bool {
        self.lanes.iter().any(Lane::is_active)
    }

    /// Whether no path id is left.
    pub(crate) fn is_out_of_paths(&self) -> bool {
        self.next_path > 255
    }

    /// Closes the paths over a link that is gone for good (client only).
    pub(crate) fn close_link(&mut self, link: LinkId, now: Timestamp) {
        self.handle_link_down(link, now);
        let gone: Vec<PathId> = self.lanes.iter().filter(|l| l.route.link == link).map(|l| l.id).collect();
        for id in gone {
            self.control.push_back(Control::PathClose(id));
        }
        self.lanes.retain(|lane| lane.route.link != link);
    }

    /// The server's address on the path over this link, if there is one.
    pub(crate) fn link_remote(&self, link: LinkId) -> Option<SocketAddr> {
        self.lanes.iter().find(|lane| lane.route.link == link).map(|lane| lane.route.remote)
    }

    /// The link lost its carrier or its address: what is under way there goes out again elsewhere, at once.
    pub(crate) fn handle_link_down(&mut self, link: LinkId, now: Timestamp) {
        for index in 0..self.lanes.len() {
            if self.lanes[index].route.link == link {
                self.lanes[index].link_down = true;
                self.lanes[index].path.on_link_down(now);
                self.after_path_change(index, now);
            }
        }
    }

    /// The link can be used again, perhaps from another address.
    pub(crate) fn handle_link_up(&mut self, link: LinkId, now: Timestamp) {
        for lane in self.lanes.iter_mut().filter(|lane| lane.route.link == link) {
            lane.link_down = false;
            lane.path.on_link_up(now);
            lane.probe_now = lane.challenge.is_none();
        }
    }

    /// The kernel refused to send there. False if no path leads there.
    pub(crate) fn handle_send_error(&mut self, route: Route, now: Timestamp) -> bool {
        let Some(index) = self.lanes.iter().position(|lane| lane.route == route) else { return false };
        self.lanes[index].path.on_link_down(now);
        self.after_path_change(index, now);
        true
    }

    /// A datagram was too large for the link.
    pub(crate) fn handle_too_large(&mut self, route: Route, mtu: usize, now: Timestamp) {
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.route == route) {
            lane.path.on_too_long(mtu, now);
        }
    }

    /// Inner packets that leave through the bond.
    pub(crate) fn handle_packet(&mut self, packet: &[u8], info: &PacketInfo, now: Timestamp) {
        if self.close.is_some() {
            self.counters.drops.count(DropReason::NoSession);
            return;
        }
        self.last_data = now;
        self.smoother.on_sent(info, now);
        let keep = (&mut self.pool, &self.store);
        self.ingress.push(packet, info, &mut self.streams, self.mode, keep, now);
    }

    /// Ends the session: the peer is told once.
    pub(crate) fn close(&mut self, code: CloseCode, text: &'static str) {
        if self.close.is_none() {
            self.close = Some((code, text));
        }
    }

    /// Whether it was closed by this end.
    pub(crate) fn is_closed(&self) -> bool {
        self.close.is_some()
    }

    /// Totals.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            ingress: self.ingress.counters(),
            order: self.order.counters(),
            reassembly_dropped: self.reassembly.dropped(),
            kept_bytes: self.store.bytes() as u64,
            held_bytes: (self.order.held_bytes() + self.smoother.held_bytes()) as u64,
            queued_bytes: self.ingress.bytes() as u64,
            parity_bytes: self.bytes_beside() as u64,
            ..self.counters
        }
    }

    /// Inner flows that sent within the last ten seconds.
    pub(crate) fn flows(&self, now: Timestamp) -> usize {
        self.ingress.active_flows(now)
    }

    /// The paths.
    pub(crate) fn path_status(&mut self, now: Timestamp) -> Vec<PathStatus> {
        self.lanes.iter_mut().map(|lane| lane.status(now)).collect()
    }

    /// For how long a gap in an ordered flow is waited for (docs/protocol.md, DATA-3).
    fn order_wait(&self) -> Duration {
        // A path that died slow must not make every gap of the living ones wait.
        let alive = self.is_alive();
        let slowest = self
            .lanes
            .iter()
            .filter(|lane| if alive { lane.is_active() } else { lane.challenge.is_none() })
            .map(|lane| lane.path.rtt().smoothed() * 2 + lane.path.rtt().variation() * 4)
            .max()
            .unwrap_or_default();
        (slowest + Duration::from_millis(200)).min(Duration::from_secs(3))
    }
}

/// Where received inner packets go.
pub(crate) struct Delivery<'a> {
    pub(crate) batch: &'a mut PacketBatch,
    /// Whether an inner packet may come from, or go to, this session.
    pub(crate) admit: &'a mut dyn FnMut(&[u8]) -> Result<(), DropReason>,
}
