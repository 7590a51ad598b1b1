//! The queue where a flow waits when no path may send: FQ-CoDel (RFC 8290), one queue per flow.
//!
//! The queue of the whole bond lives here and not in the modems, because only here is it known which flow a packet belongs to.
//! Flows take turns by deficit round robin; a flow that was empty when its packet came (a *sparse* flow: a call, a DNS query, the
//! ACKs of a download) goes before those with backlog. Each queue is managed by CoDel; where the inner packet is ECN-capable it
//! is marked instead of dropped (RFC 6040 carries the mark as the inner header's own).
//!
//! A flow keeps its identifier (the wire's flow id) for as long as it is not idle; sequences count on when the id goes to another
//! flow (docs/protocol.md, DATA-1).
//!
//! Bounds: [`MAX_FLOWS`] flows, and the bytes given at construction, each packet with [`OVERHEAD`] bytes more; when they are exceeded the head of the fattest queue goes.

use crate::codel::{Codel, CodelParams};
use crate::pool::{OVERHEAD, Pool};
use bondwire_packet::{FlowClass, FlowKey, PacketInfo, set_ce};
use bondwire_units::Timestamp;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

/// How many flows have a queue of their own at a time; more share the last one that came free.
pub const MAX_FLOWS: usize = 2_048;
/// What a flow may send in its turn, in bytes: one full packet.
const QUANTUM: i64 = 1_514;
/// For how long a flow's backlog is remembered.
const MEMORY: Duration = Duration::from_secs(1);
/// A flow that was idle for this long gives its identifier to another when one is needed.
const IDLE: Duration = Duration::from_millis(500);

/// An inner packet on its way out.
#[derive(Debug)]
pub(crate) struct Queued {
    /// The flow's identifier.
    pub(crate) flow: u16,
    /// Its place in the flow.
    pub(crate) sequence: u64,
    /// What kind of flow it belongs to.
    pub(crate) class: FlowClass,
    /// The inner packet.
    pub(crate) bytes: Vec<u8>,
}

/// What is at the head, before it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Bytes of the packet.
    pub(crate) size: usize,
    /// Bytes that wait in the same flow, this packet included, or that did so lately: the peak, fading over [`MEMORY`].
    pub(crate) demand: usize,
    /// The flow had no backlog when its turn came.
    pub(crate) sparse: bool,
}

/// What happened to packets here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngressCounters {
    /// Packets queued.
    pub queued: u64,
    /// Packets dropped by CoDel.
    pub dropped_delay: u64,
    /// Packets dropped since the memory was full.
    pub dropped_full: u64,
    /// Packets marked by CoDel.
    pub marked: u64,
}

#[derive(Debug)]
struct Flow {
    key: Option<FlowKey>,
    class: FlowClass,
    queue: VecDeque<(Timestamp, Vec<u8>)>,
    backlog: usize,
    deficit: i64,
    list: List,
    codel: Codel,
    next_sequence: u64,
    last_used: Timestamp,
    /// The peak of the backlog, and when it was valid; it fades.
    peak: f64,
    peak_at: Timestamp,
}

impl Flow {
    /// The backlog that the flow has shown lately. An inner sender comes in bursts, a round trip apart: what it can use is seen at their peaks.
    fn demand(&self, now: Timestamp) -> f64 {
        let faded = self.peak * (-now.since(self.peak_at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        faded.max(self.backlog as f64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    None,
    New,
    Old,
}

/// The queues of all flows.
#[derive(Debug)]
pub(crate) struct Ingress {
    /// Ordered flows (even identifiers) and the others (odd ones): an identifier never changes between the two, since a flow that is
    /// put in order must not wait for what a datagram flow lost under the same identifier.
    flows: [Vec<Flow>; 2],
    by_key: HashMap<FlowKey, u16>,
    new: VecDeque<u16>,
    old: VecDeque<u16>,
    hand: [usize; 2],
    bytes: usize,
    limit: usize,
    params: CodelParams,
    counters: IngressCounters,
}

impl Ingress {
    /// Queues that hold at most `limit` bytes together.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            flows: [Vec::new(), Vec::new()],
            by_key: HashMap::new(),
            new: VecDeque::new(),
            old: VecDeque::new(),
            hand: [0, 0],
            bytes: 0,
            limit,
            params: CodelParams { target: Duration::from_millis(20), interval: Duration::from_millis(100) },
            counters: IngressCounters::default(),
        }
    }

    /// Sets how long a queue may stand.
    pub(crate) fn set_params(&mut self, params: CodelParams) {
        self.params = params;
    }

    /// Bytes that wait.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Packets queued, dropped and marked so far.
    pub(crate) fn counters(&self) -> IngressCounters {
        self.counters
    }

    /// How many flows have sent within the last ten seconds.
    pub(crate) fn active_flows(&self, now: Timestamp) -> usize {
        self.flows
            .iter()
            .flatten()
            .filter(|f| f.key.is_some() && now.since(f.last_used) < Duration::from_secs(10))
            .count()
    }

    /// Bytes that leave before what a flow would queue now: its own, and as much of each other that waits.
    pub(crate) fn share_before(&self, key: &FlowKey) -> usize {
        let Some(id) = self.by_key.get(key) else { return 0 };
        let flow = &self.flows[usize::from(id & 1)][usize::from(id / 2)];
        flow.backlog * (self.new.len() + self.old.len()).max(1)
    }

    /// Queues an inner packet.
    pub(crate) fn push(&mut self, packet: &[u8], info: &PacketInfo, pool: &mut Pool, now: Timestamp) {
        let id = self.flow_id(info, now);
        let buffer = pool.copy(packet);
        let flow = flow_mut(&mut self.flows, id);
        flow.last_used = now;
        flow.backlog += packet.len();
        (flow.peak, flow.peak_at) = (flow.demand(now), now);
        flow.queue.push_back((now, buffer));
        self.bytes += packet.len() + OVERHEAD;
        self.counters.queued += 1;
        if flow.list == List::None {
            flow.list = List::New;
            flow.deficit = QUANTUM;
            self.new.push_back(id);
        }
        while self.bytes > self.limit {
            self.drop_from_fattest(pool);
        }
    }

    /// What would be taken next. Drops what has waited too long on the way.
    pub(crate) fn peek(&mut self, pool: &mut Pool, now: Timestamp) -> Option<Head> {
        loop {
            let (id, from_new) = match (self.new.front(), self.old.front()) {
                (Some(id), _) => (*id, true),
                (None, Some(id)) => (*id, false),
                (None, None) => return None,
            };
            let flow = flow_mut(&mut self.flows, id);
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                flow.list = List::Old;
                if from_new {
                    self.new.pop_front()
                } else {
                    self.old.pop_front()
                };
                self.old.push_back(id);
                continue;
            }
            self.manage(id, pool, now);
            let flow = flow_mut(&mut self.flows, id);
            let Some((_, packet)) = flow.queue.front() else {
                self.retire(id, from_new);
                continue;
            };
            let sparse = from_new && flow.queue.len() <= 2;
            return Some(Head { size: packet.len(), demand: flow.demand(now) as usize, sparse });
        }
    }

    /// Takes what [`Ingress::peek`] showed.
    pub(crate) fn pop(&mut self) -> Option<Queued> {
        let id = *self.new.front().or_else(|| self.old.front())?;
        let flow = flow_mut(&mut self.flows, id);
        let (_, bytes) = flow.queue.pop_front()?;
        flow.backlog -= bytes.len();
        flow.deficit -= bytes.len() as i64;
        self.bytes -= bytes.len() + OVERHEAD;
        let sequence = flow.next_sequence;
        flow.next_sequence += 1;
        Some(Queued { flow: id, sequence, class: flow.class, bytes })
    }

    /// An emptied flow leaves the rotation; one that was new goes through the old list once, so that it cannot starve the others
    /// (RFC 8290, 4.2).
    fn retire(&mut self, id: u16, from_new: bool) {
        if from_new {
            self.new.pop_front();
            if self.old.is_empty() {
                flow_mut(&mut self.flows, id).list = List::None;
            } else {
                flow_mut(&mut self.flows, id).list = List::Old;
                self.old.push_back(id);
            }
        } else {
            self.old.pop_front();
            flow_mut(&mut self.flows, id).list = List::None;
        }
    }

    /// Lets CoDel look at the head of a flow.
    fn manage(&mut self, id: u16, pool: &mut Pool, now: Timestamp) {
        let flow = flow_mut(&mut self.flows, id);
        while let Some((at, packet)) = flow.queue.front_mut() {
            if !flow.codel.should_drop(now.since(*at), flow.backlog, self.params, now) {
                return;
            }
            if set_ce(packet) {
                self.counters.marked += 1;
                return;
            }
            if let Some((_, packet)) = flow.queue.pop_front() {
                flow.backlog -= packet.len();
                self.bytes -= packet.len() + OVERHEAD;
                self.counters.dropped_delay += 1;
                pool.give_back(packet);
            }
        }
    }

    fn drop_from_fattest(&mut self, pool: &mut Pool) {
        let Some(flow) = self.flows.iter_mut().flatten().max_by_key(|f| f.backlog) else { return };
        // Several at once, since the search is long (RFC 8290, 4.1.2).
        for _ in 0..(flow.queue.len() / 2).clamp(1, 64) {
            let Some((_, packet)) = flow.queue.pop_front() else { return };
            flow.backlog -= packet.len();
            self.bytes -= packet.len() + OVERHEAD;
            self.counters.dropped_full += 1;
            pool.give_back(packet);
        }
    }

    /// The identifier of a packet's flow: the one it has, a new one, or that of a flow that has been idle for longest.
    fn flow_id(&mut self, info: &PacketInfo, now: Timestamp) -> u16 {
        if let Some(id) = self.by_key.get(&info.key) {
            return *id;
        }
        let class = FlowClass::of(info);
        let kind = usize::from(class != FlowClass::Stream);
        let index =
            if self.flows[kind].len() < MAX_FLOWS / 2 { self.fresh(kind) } else { self.reuse(kind, now) };
        let id = (index * 2 + kind) as u16;
        let flow = &mut self.flows[kind][index];
        if let Some(old) = flow.key.take() {
            self.by_key.remove(&old);
        }
        flow.key = Some(info.key);
        flow.class = class;
        flow.codel = Codel::default();
        flow.peak = 0.0;
        self.by_key.insert(info.key, id);
        id
    }

    fn fresh(&mut self, kind: usize) -> usize {
        self.flows[kind].push(Flow {
            key: None,
            class: FlowClass::Datagram,
            queue: VecDeque::new(),
            backlog: 0,
            deficit: 0,
            list: List::None,
            codel: Codel::default(),
            next_sequence: 0,
            last_used: Timestamp::ZERO,
            peak: 0.0,
            peak_at: Timestamp::ZERO,
        });
        self.flows[kind].len() - 1
    }

    /// A flow whose identifier may go to another: idle if there is one within a bounded search, else merely empty, else any.
    fn reuse(&mut self, kind: usize, now: Timestamp) -> usize {
        let count = self.flows[kind].len();
        let mut fallback = None;
        for step in 0..count.min(256) {
            let index = (self.hand[kind] + step) % count;
            let flow = &self.flows[kind][index];
            if flow.list == List::None && flow.queue.is_empty() {
                if now.since(flow.last_used) >= IDLE {
                    self.hand[kind] = (index + 1) % count;
                    return index;
                }
                fallback = fallback.or(Some(index));
            }
        }
        self.hand[kind] = (self.hand[kind] + 1) % count;
        fallback.unwrap_or(self.hand[kind])
    }
}

fn flow_mut(flows: &mut [Vec<Flow>; 2], id: u16) -> &mut Flow {
    &mut flows[usize::from(id & 1)][usize::from(id / 2)]
}

#[cfg(test)]
#[path = "ingress_tests.rs"]
mod tests;
