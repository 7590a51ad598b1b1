//! The table of flows over UDP: how each of them stands, and why.
//!
//! One record for both directions, found by the key under which this end sends. Queues and arrivals keep its index and check the key,
//! so that a packet of a known flow costs no search. Each end announces to the other how its rules and its own judgement stand
//! (docs/protocol.md, FLOW-1), and takes the other's word before its own judgement. What it was told it does not repeat, so that two ends
//! cannot keep each other believing.
//!
//! Bounds: [`MAX_STREAMS`] records, at most [`MAX_CHANGES`] changes that nobody has fetched.

use super::arrivals::Arrivals;
use super::behaviour::{Behaviour, Direction};
use super::rules::{RuleClass, Rules};
use super::stats::{Fates, Save};
use super::status::{DirectionStatus, StreamChange, StreamReason, StreamStatus};
use bondwire_packet::{FlowClass, FlowKey, PacketInfo, protocol};
use bondwire_units::{Bitrate, PathId, Timestamp};
use bondwire_wire::Mode;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

/// Flows over UDP that are known at a time.
pub const MAX_STREAMS: usize = 512;
/// No record.
pub(crate) const NO_STREAM: u32 = u32::MAX;
/// Changes that wait to be told.
const MAX_CHANGES: usize = 64;
/// Records that are looked at for one that may go.
const SEARCH: usize = 32;
/// A real-time flow that sends and receives nothing for so long is one no more.
const SILENCE: Duration = Duration::from_secs(30);
/// A flow needs its path to be known alive for so long after its last packet.
const NEEDED: Duration = Duration::from_secs(2);
/// For how long a flow is listed after its last packet.
const LISTED: Duration = Duration::from_secs(10);
/// The share of the bond's rate that one real-time flow may take while others wait.
const SHARE: u64 = 4;
/// What a flow may take in any case: a slow bond's owner wants the call.
const ALWAYS: Bitrate = Bitrate::from_bps(3_000_000);
/// For how long it must have taken more.
const GRACE: Duration = Duration::from_secs(2);
/// For how long it then is a flow like any other.
const BARRED: Duration = Duration::from_secs(10);
/// Bytes of protection for each byte of a flow.
const EXTRA: f32 = 0.4;
/// The most bytes that may be saved up for it.
const EXTRA_MOST: f32 = 16_000.0;

/// How a flow stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A flow like any other: bulk if it has backlog.
    #[default]
    Default,
    /// First, and protected.
    RealTime(StreamReason),
    /// Put in order from its first packet on.
    Bulk,
}

/// What became of a packet that is kept without order, for the books.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fate {
    /// The flow's record.
    pub(crate) stream: u32,
    /// A transmission of it was taken for lost.
    pub(crate) lost: bool,
    /// Why it was sent again, if it was.
    pub(crate) again: Option<Save>,
}

impl Fate {
    /// Nothing happened yet.
    pub(crate) const fn of(stream: u32) -> Self {
        Self { stream, lost: false, again: None }
    }
}

#[derive(Debug)]
struct Record {
    key: FlowKey,
    behaviour: Behaviour,
    dscp_real_time: bool,
    dscp: u8,
    rule: Option<RuleClass>,
    told: Option<RuleClass>,
    announced: u8,
    announcing: bool,
    standing: Standing,
    since: Timestamp,
    greedy_since: Option<Timestamp>,
    barred_until: Timestamp,
    sent: Fates,
    /// How long its packets wait here, in microseconds, smoothed.
    wait: f32,
    path: Option<PathId>,
    budget: f32,
}

/// All flows over UDP of a session.
#[derive(Debug)]
pub(crate) struct Streams {
    records: Vec<Record>,
    by_key: HashMap<FlowKey, u32>,
    /// Records that are real-time now.
    real_time: Vec<u32>,
    rules: Rules,
    hand: usize,
    announcements: VecDeque<u32>,
    changes: VecDeque<StreamChange>,
}

impl Streams {
    /// No flow is known.
    pub(crate) fn new() -> Self {
        Self {
            records: Vec::new(),
            by_key: HashMap::new(),
            real_time: Vec::new(),
            rules: Rules::default(),
            hand: 0,
            announcements: VecDeque::new(),
            changes: VecDeque::new(),
        }
    }

    /// The user's rules from now on.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.rules = rules;
        for record in &mut self.records {
            record.rule = self.rules.class_of(&record.key, record.dscp);
        }
    }

    /// A packet of a flow over UDP is about to be queued. `hint` is the record that the flow had before. Returns the record and how it stands.
    pub(crate) fn on_queued(
        &mut self,
        hint: u32,
        packet: &[u8],
        info: &PacketInfo,
        mode: Mode,
        now: Timestamp,
    ) -> (u32, Standing) {
        if info.protocol != protocol::UDP && info.protocol != protocol::UDP_LITE {
            let urgent = FlowClass::of(info) == FlowClass::RealTime;
            return (
                NO_STREAM,
                if urgent { Standing::RealTime(StreamReason::Dscp) } else { Standing::Default },
            );
        }
        let index = self.index(hint, &info.key, now);
        let record = &mut self.records[index as usize];
        if record.dscp != info.dscp {
            record.dscp = info.dscp;
            record.rule = self.rules.class_of(&record.key, info.dscp);
        }
        record.dscp_real_time = FlowClass::of(info) == FlowClass::RealTime;
        let payload = packet.get(info.transport_at + 8..).filter(|_| !info.is_fragment);
        record.behaviour.on_packet(Direction::Out, packet.len(), payload, now);
        self.settle(index, mode, now);
        (index, self.records[index as usize].standing)
    }

    /// A packet of a flow came in; `key` is the one under which this end answers. Returns the flow's record.
    pub(crate) fn on_received(
        &mut self,
        hint: u32,
        key: Option<&FlowKey>,
        size: usize,
        payload: Option<&[u8]>,
        mode: Mode,
        now: Timestamp,
    ) -> u32 {
        let index = match key {
            Some(key) if key.protocol == protocol::UDP || key.protocol == protocol::UDP_LITE => {
                self.index(hint, key, now)
            }
            None if (hint as usize) < self.records.len() => hint,
            _ => return NO_STREAM,
        };
        self.records[index as usize].behaviour.on_packet(Direction::In, size, payload, now);
        self.settle(index, mode, now);
        index
    }

    /// The peer says how a flow stands; `key` is the one under which this end sends.
    pub(crate) fn on_told(&mut self, key: &FlowKey, code: u8, mode: Mode, now: Timestamp) {
        let index = self.index(NO_STREAM, key, now);
        self.records[index as usize].told = RuleClass::from_code(code);
        self.settle(index, mode, now);
    }

    /// The next record whose standing the peer has to be told.
    pub(crate) fn poll_announcement(&mut self) -> Option<u32> {
        self.announcements.pop_front()
    }

    /// What there is to say about a record now: it is said as it is sent, so that the last word is always true.
    pub(crate) fn announcement(&mut self, index: u32) -> Option<(FlowKey, u8)> {
        let record = self.records.get_mut(index as usize)?;
        record.announcing = false;
        record.announced = code_of(record);
        Some((record.key, record.announced))
    }

    /// The next change to tell.
    pub(crate) fn poll_change(&mut self) -> Option<StreamChange> {
        self.changes.pop_front()
    }

    /// Whether a real-time flow has sent or received within the last two seconds.
    pub(crate) fn is_needed(&self, now: Timestamp) -> bool {
        self.live().any(|record| now.since(record.behaviour.last()) < NEEDED)
    }

    /// Looks after what time changes. `rate` is what the bond can send, if that is known; `contended`: others wait for it.
    pub(crate) fn upkeep(&mut self, rate: Bitrate, contended: bool, mode: Mode, now: Timestamp) {
        let share = Bitrate::from_bps((rate.as_bps() / SHARE).max(ALWAYS.as_bps()));
        for index in self.real_time.clone() {
            let record = &mut self.records[index as usize];
            if now.since(record.behaviour.last()) >= SILENCE {
                record.behaviour.reset();
                record.dscp_real_time = false;
            }
            let bytes = record.behaviour.measure(Direction::Out, now).bytes;
            let greedy = contended && f64::from(bytes) * 8.0 > share.as_bps() as f64;
            record.greedy_since = record.greedy_since.filter(|_| greedy).or(greedy.then_some(now));
            if record.greedy_since.is_some_and(|since| now.since(since) >= GRACE) {
                record.greedy_since = None;
                record.barred_until = now + BARRED;
            }
            self.settle(index, mode, now);
        }
    }

    /// A packet of a real-time flow leaves for the first time, having waited since `since`.
    pub(crate) fn on_sent(
        &mut self,
        index: u32,
        size: usize,
        since: Timestamp,
        path: PathId,
        now: Timestamp,
    ) {
        let Some(record) = self.records.get_mut(index as usize) else { return };
        record.sent.on_packets(1, size, now);
        record.wait += (now.since(since).as_secs_f32() * 1e6 - record.wait) / 16.0;
        record.path = Some(path);
        record.budget = (record.budget + size as f32 * EXTRA).min(EXTRA_MOST);
    }

    /// Whether a flow's budget has `bytes` of protection in it.
    pub(crate) fn affords(&self, index: u32, bytes: usize) -> bool {
        self.records.get(index as usize).is_some_and(|record| record.budget >= bytes as f32)
    }

    /// Takes `bytes` of protection out of a flow's budget, which may end up below zero by what could not be foreseen.
    pub(crate) fn spend(&mut self, index: u32, bytes: usize) {
        if let Some(record) = self.records.get_mut(index as usize) {
            record.budget -= bytes as f32;
            record.sent.extra_bytes += bytes as u64;
        }
    }

    /// Bytes were sent to protect a flow, budget or not.
    pub(crate) fn on_extra(&mut self, index: u32, bytes: usize) {
        if let Some(record) = self.records.get_mut(index as usize) {
            record.sent.extra_bytes += bytes as u64;
        }
    }

    /// A packet has arrived, or never will.
    pub(crate) fn on_fate(&mut self, fate: Fate, arrived: bool) {
        let Some(record) = self.records.get_mut(fate.stream as usize) else { return };
        if arrived && !fate.lost {
            return;
        }
        record.sent.on_lost_first(1);
        if arrived {
            record.sent.on_saved(fate.again.unwrap_or(Save::Redundancy));
        } else {
            record.sent.on_lost(1);
        }
    }

    /// A flow's loss by the first transmission and after all, lately, as this end's sending knows it: what its protection goes by.
    pub(crate) fn recent_loss(&self, index: u32) -> (f64, f64) {
        self.records.get(index as usize).map(|record| record.sent.recent_loss()).unwrap_or_default()
    }

    /// All real-time flows that were alive within the last ten seconds. `paths` tells a path's link, half its round trip, and its variation.
    pub(crate) fn status(
        &self,
        arrivals: &Arrivals,
        paths: impl Fn(PathId) -> Option<(bondwire_units::LinkId, Duration, Duration)>,
        now: Timestamp,
    ) -> Vec<StreamStatus> {
        let mut list = Vec::new();
        for &index in &self.real_time {
            let record = &self.records[index as usize];
            let Standing::RealTime(reason) = record.standing else { continue };
            let idle = now.since(record.behaviour.last());
            if idle >= LISTED {
                continue;
            }
            let path = record.path.and_then(&paths);
            let arrival = arrivals.iter().filter(|arrival| arrival.stream == index).max_by_key(|a| a.last());
            let mut sent = record.direction(Direction::Out, &record.sent, now);
            sent.delay = path.map(|(_, half, _)| half + Duration::from_micros(record.wait as u64));
            sent.jitter = path.map(|(_, _, variation)| variation);
            let mut received = DirectionStatus::default();
            if let Some(arrival) = arrival {
                received = record.direction(Direction::In, &arrival.fates, now);
                received.delay = arrival.path().and_then(&paths).map(|(_, half, _)| half);
                received.jitter = Some(arrival.jitter());
            }
            let link = path.map(|(link, _, _)| link);
            let age = now.since(record.since);
            list.push(StreamStatus { key: record.key, reason, age, idle, link, sent, received });
        }
        list
    }

    fn live(&self) -> impl Iterator<Item = &Record> {
        self.real_time.iter().filter_map(|index| self.records.get(*index as usize))
    }

    /// The record of a key: the one that the caller remembers, a known one, or a new one.
    fn index(&mut self, hint: u32, key: &FlowKey, now: Timestamp) -> u32 {
        if self.records.get(hint as usize).is_some_and(|record| record.key == *key) {
            return hint;
        }
        if let Some(index) = self.by_key.get(key) {
            return *index;
        }
        let record = Record {
            key: *key,
            behaviour: Behaviour::new([key.src_port, key.dst_port]),
            dscp_real_time: false,
            dscp: 0,
            rule: self.rules.class_of(key, 0),
            told: None,
            announced: 0,
            announcing: false,
            standing: Standing::Default,
            since: now,
            greedy_since: None,
            barred_until: Timestamp::ZERO,
            sent: Fates::default(),
            wait: 0.0,
            path: None,
            budget: 0.0,
        };
        let index = if self.records.len() < MAX_STREAMS {
            self.records.push(record);
            self.records.len() - 1
        } else {
            let index = self.oldest();
            self.by_key.remove(&self.records[index].key);
            self.real_time.retain(|known| *known as usize != index);
            self.announcements.retain(|known| *known as usize != index);
            self.records[index] = record;
            index
        };
        self.by_key.insert(*key, index as u32);
        index as u32
    }

    /// Of the next few records the one that was idle for longest.
    fn oldest(&mut self) -> usize {
        let count = self.records.len();
        let range = (0..SEARCH).map(|step| (self.hand + step) % count);
        let oldest = range.min_by_key(|&index| self.records[index].behaviour.last()).unwrap_or(0);
        self.hand = (self.hand + SEARCH) % count;
        oldest
    }

    /// Draws the consequences of whatever has changed about a record.
    fn settle(&mut self, index: u32, mode: Mode, now: Timestamp) {
        let record = &mut self.records[index as usize];
        let standing = record.judge(mode, now);
        if mode == Mode::Streaming && !record.announcing && code_of(record) != record.announced {
            record.announcing = true;
            self.announcements.push_back(index);
        }
        let before = core::mem::replace(&mut record.standing, standing);
        let (was, is) = (matches!(before, Standing::RealTime(_)), matches!(standing, Standing::RealTime(_)));
        if was == is {
            return;
        }
        record.since = now;
        let reason = if let Standing::RealTime(reason) = standing { Some(reason) } else { None };
        let change = StreamChange { key: record.key, reason, misuse: !is && now < record.barred_until };
        if is {
            self.real_time.push(index);
        } else {
            self.real_time.retain(|known| *known != index);
        }
        if self.changes.len() < MAX_CHANGES {
            self.changes.push_back(change);
        }
    }
}

impl Record {
    fn judge(&self, mode: Mode, now: Timestamp) -> Standing {
        match self.wanted(mode) {
            Standing::RealTime(_) if now < self.barred_until => Standing::Default,
            wanted => wanted,
        }
    }

    /// How it stands but for its misuse.
    fn wanted(&self, mode: Mode) -> Standing {
        let streaming = mode == Mode::Streaming;
        for (word, reason) in [(self.rule, StreamReason::Rule), (self.told, StreamReason::Peer)] {
            match word.filter(|_| streaming) {
                Some(RuleClass::RealTime) => return Standing::RealTime(reason),
                Some(RuleClass::Bulk) => return Standing::Bulk,
                Some(RuleClass::Default) => return Standing::Default,
                None => {}
            }
        }
        let behaviour = self.behaviour.reason().filter(|_| streaming);
        match behaviour {
            _ if self.dscp_real_time => Standing::RealTime(StreamReason::Dscp),
            Some(reason) => Standing::RealTime(reason),
            None => Standing::Default,
        }
    }

    fn direction(&self, direction: Direction, fates: &Fates, now: Timestamp) -> DirectionStatus {
        let measure = self.behaviour.measure(direction, now);
        let (loss_before, loss_after) = fates.recent_loss();
        DirectionStatus {
            rate: Bitrate::from_bps((f64::from(measure.bytes) * 8.0) as u64),
            packets_per_second: f64::from(measure.rate),
            packets: fates.packets,
            delay: None,
            jitter: None,
            lost_first: fates.lost_first,
            lost: fates.lost,
            loss_before,
            loss_after,
            saved_by_failover: fates.saved[Save::Failover as usize],
            saved_by_redundancy: fates.saved[Save::Redundancy as usize],
            saved_by_repair: fates.saved[Save::Repair as usize],
            extra_bytes: fates.extra_bytes,
            bytes: fates.bytes,
        }
    }
}

/// What the peer is to be told of a record.
fn code_of(record: &Record) -> u8 {
    let own = record.dscp_real_time || record.behaviour.reason().is_some();
    RuleClass::code(record.rule.or(own.then_some(RuleClass::RealTime)))
}
