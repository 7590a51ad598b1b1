//! A path of a session with what the bond keeps beside it: where it leads, whether that is proven, and what waits to be sent on it.

use super::content::Content;
use super::cross::CrossGuard;
use super::parity::{Guard, Solver};
use super::priority::Tier;
use super::realtime::Room;
use crate::meter::Meter;
use crate::store::StoreId;
use crate::types::{LinkRules, PathStatus, Route};
use bondwire_crypto::ReplayWindow;
use bondwire_path::{Path, PathConfig, PathState};
use bondwire_units::{ByteCount, PathId, Timestamp};
use core::time::Duration;
use std::collections::VecDeque;

/// A challenge is repeated after this, doubling up to [`CHALLENGE_LONGEST`].
const CHALLENGE_FIRST: Duration = Duration::from_millis(250);
const CHALLENGE_LONGEST: Duration = Duration::from_secs(2);
/// A copy that has waited for longer is no copy any more (targets: copies that would queue over 20 ms are dropped).
pub(crate) const COPY_WAIT: Duration = Duration::from_millis(20);
/// An address that is not validated gets at most so many times what it sent (docs/protocol.md, PATH-4).
const AMPLIFICATION: u64 = 3;

/// A challenge that was sent, or is to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Challenge {
    /// Its eight bytes.
    pub(crate) token: [u8; 8],
    /// When it is due (again).
    pub(crate) due: Timestamp,
    /// The next repetition's distance.
    pub(crate) backoff: Duration,
}

impl Challenge {
    pub(crate) fn new(token: [u8; 8], now: Timestamp) -> Self {
        Self { token, due: now, backoff: CHALLENGE_FIRST }
    }

    pub(crate) fn on_sent(&mut self, now: Timestamp) {
        self.due = now + self.backoff;
        self.backoff = (self.backoff * 2).min(CHALLENGE_LONGEST);
    }
}

/// An address from which the peer was heard and that has not proven itself yet (docs/protocol.md, PATH-5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) route: Route,
    pub(crate) challenge: Challenge,
    pub(crate) expires: Timestamp,
    /// Bytes that may still be sent there.
    pub(crate) allowance: u64,
}

/// An inner packet on its way to a path.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Of an ordered flow: the store has it.
    Kept(StoreId),
    /// Of any other flow: sent, and forgotten.
    Once { flow: u16, sequence: u64, bytes: Vec<u8> },
}

/// A copy that waits for its path (mode `redundant`).
#[derive(Debug)]
pub(crate) struct Copy {
    pub(crate) packet: Outgoing,
    pub(crate) since: Timestamp,
}

/// Whether a path is kept out of use, and until when (it adds nothing, by measurement).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demotion {
    /// The window in which loss is counted: when it began, and the packets sent and lost before it.
    pub(crate) window: (Timestamp, u64, u64),
    /// A queue stood in this window.
    pub(crate) queued: bool,
    /// Windows in a row that lost too much, and not to a queue.
    pub(crate) bad: u32,
    pub(crate) until: Timestamp,
    pub(crate) span: Duration,
    pub(crate) active: bool,
}

/// A path and its surroundings.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) id: PathId,
    pub(crate) path: Path<Content>,
    pub(crate) route: Route,
    pub(crate) replay: ReplayWindow,
    /// The next packet number expected from the peer.
    pub(crate) expected: u64,
    /// Our challenge on this path; none once it was answered.
    pub(crate) challenge: Option<Challenge>,
    /// Bytes that may be sent before the address has proven itself; only a server is held to it.
    pub(crate) allowance: Option<u64>,
    /// The peer's challenge, to be answered where it came from.
    pub(crate) response: Option<([u8; 8], Route)>,
    pub(crate) candidate: Option<Candidate>,
    pub(crate) copies: VecDeque<Copy>,
    pub(crate) demotion: Demotion,
    pub(crate) guard: Guard,
    /// Only where real-time flows lose packets.
    pub(crate) cross: Option<Box<CrossGuard>>,
    /// Only where the peer sends parities.
    pub(crate) solver: Option<Box<Solver>>,
    pub(crate) state: PathState,
    pub(crate) tx: Meter,
    pub(crate) rx: Meter,
    pub(crate) last_received: Timestamp,
    /// The next probe is due at once, whatever the schedule says.
    pub(crate) probe_now: bool,
    /// The newest status that the peer sent.
    pub(crate) status_seen: u64,
    /// The newest status that the peer was told.
    pub(crate) status_told: u64,
    /// When it is used, and how much it may carry.
    pub(crate) rules: LinkRules,
    /// The newest policy that was told (client) or heard (server); 0: none.
    pub(crate) policy_sequence: u64,
    /// How it is used at present, by its priority.
    pub(crate) tier: Tier,
    /// Since when it stands by, if it does.
    pub(crate) standby_since: Option<Timestamp>,
    /// The link is known to be gone, not merely silent.
    pub(crate) link_down: bool,
    /// The peer hears nothing of us here, or doubts its own way: acknowledgements take another path.
    pub(crate) doubted: bool,
    /// What bulk leaves to real-time flows.
    pub(crate) room: Room,
    /// The packet that is being built probes for this MTU.
    pub(crate) mtu_probe: Option<usize>,
}

impl Lane {
    /// A path to `route` that still has to prove itself.
    pub(crate) fn new(
        id: PathId,
        route: Route,
        link_mtu: usize,
        challenge: Challenge,
        server: bool,
        now: Timestamp,
    ) -> Self {
        let overhead = overhead(route.remote);
        let config = PathConfig { mtu: link_mtu.saturating_sub(overhead), overhead, seed: u64::from(id.0) };
        Self {
            id,
            path: Path::new(config, now),
            route,
            replay: ReplayWindow::new(),
            expected: 0,
            challenge: Some(challenge),
            allowance: server.then_some(0),
            response: None,
            candidate: None,
            copies: VecDeque::new(),
            demotion: Demotion {
                window: (now, 0, 0),
                queued: false,
                bad: 0,
                until: Timestamp::ZERO,
                span: Duration::from_secs(5),
                active: false,
            },
            guard: Guard::default(),
            cross: None,
            solver: None,
            state: PathState::Probing,
            tx: Meter::default(),
            rx: Meter::default(),
            last_received: now,
            probe_now: false,
            status_seen: 0,
            status_told: 0,
            rules: LinkRules::default(),
            policy_sequence: 0,
            tier: Tier::First,
            standby_since: None,
            link_down: false,
            doubted: false,
            room: Room::default(),
            mtu_probe: None,
        }
    }

    /// It may carry data.
    pub(crate) fn is_active(&self) -> bool {
        self.state == PathState::Active
    }

    /// It may carry data, and is worth it.
    pub(crate) fn is_useful(&self) -> bool {
        self.is_active() && !self.demotion.active && self.tier != Tier::Standby
    }

    /// Takes note of `bytes` (with outer headers) that arrived from where the path leads.
    pub(crate) fn on_received(&mut self, bytes: usize, now: Timestamp) {
        self.rx.add(bytes, now);
        self.last_received = now;
        if let Some(allowance) = &mut self.allowance {
            *allowance += AMPLIFICATION * bytes as u64;
        }
    }

    /// The path's own address has proven itself.
    pub(crate) fn on_validated(&mut self, now: Timestamp) {
        self.challenge = None;
        self.allowance = None;
        self.path.on_validated(now);
    }

    /// A packet came from another address than the path's.
    pub(crate) fn on_other_address(&mut self, route: Route, bytes: usize, token: [u8; 8], now: Timestamp) {
        let earned = AMPLIFICATION * bytes as u64;
        match &mut self.candidate {
            Some(candidate) if candidate.route == route => candidate.allowance += earned,
            _ => {
                let patience = (self.path.rtt().pto() * 3).max(Duration::from_secs(1));
                self.candidate = Some(Candidate {
                    route,
                    challenge: Challenge::new(token, now),
                    expires: now + patience,
                    allowance: earned,
                });
            }
        }
    }

    /// The status for people.
    pub(crate) fn status(&mut self, now: Timestamp) -> PathStatus {
        let rtt = self.path.two_way_rtt();
        PathStatus {
            id: self.id,
            link: self.route.link,
            remote: self.route.remote,
            state: self.state,
            demoted: self.demotion.active,
            standby: self.tier == Tier::Standby,
            priority: self.rules.priority,
            rtt: rtt.is_measured().then(|| rtt.smoothed()),
            rtt_variation: self.path.rtt().variation(),
            loss: self.path.loss(),
            packets_tx: self.path.next_number(),
            spurious: self.path.lost_and_spurious().1,
            capacity_tx: self.path.delivery_rate(),
            capacity_rx: self.rx.peak(now),
            tx: self.tx.rate(now),
            rx: self.rx.rate(now),
            bytes_tx: self.tx.total(),
            bytes_rx: self.rx.total(),
            in_flight: ByteCount::from(self.path.in_flight()),
            mtu: self.path.mtu() as u16,
        }
    }
}

/// The bytes of the outer IP and UDP headers.
pub(crate) fn overhead(remote: core::net::SocketAddr) -> usize {
    if remote.is_ipv4() { 28 } else { 48 }
}
