//! The queue where a flow waits when no path may send: FQ-CoDel (RFC 8290), one queue per flow.
//!
//! The queue of the whole bond lives here and not in the modems, because only here is it known which flow a packet belongs to.
//! Flows take turns by deficit round robin; a flow that was empty when its packet came (a *sparse* flow: a call, a DNS query, the
//! ACKs of a download) goes before those with backlog. Each queue is managed by CoDel; where the inner packet is ECN-capable it
//! is marked instead of dropped (RFC 6040 carries the mark as the inner header's own).
//!
//! *Real-time* flows go before all of these, taking turns, as long as together they take no more than half of the bond's rate; beyond that
//! the others have their turn first. A flow over UDP that is *bulk* (large packets, and backlog for [`BULK_AFTER`]) moves to an identifier
//! of the ordered kind with all that it has queued, so that it is put in order and repaired like a TCP connection; it moves back when it had
//! no backlog for [`BULK_UNTIL`]. Sequences are given when packets leave, so that a move loses and doubles nothing. Until it is bulk it
//! keeps to one path ([`Head::pin`]), since its receiver may take three overtaken packets for a loss (RFC 9002, 6.1.1).
//!
//! A flow keeps its identifier (the wire's flow id) for as long as it is not idle; sequences count on when the id goes to another
//! flow (docs/protocol.md, DATA-1).
//!
//! Bounds: [`MAX_FLOWS`] flows, and the bytes given at construction, each packet with [`OVERHEAD`] bytes more; when they are exceeded the head of the fattest queue goes.

use crate::codel::{Codel, CodelParams};
use crate::pool::{OVERHEAD, Pool};
use crate::realtime::{NO_STREAM, Standing, Streams};
use crate::store::{Store, StoreId};
use crate::waiting::{FlowQueue, Segment, Turn, Waiting};
use bondwire_packet::{FlowClass, FlowKey, PacketInfo, protocol, set_ce};
use bondwire_units::{Bitrate, PathId, Timestamp};
use bondwire_wire::Mode;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

/// How many flows have a queue of their own at a time; more share the last one that came free.
pub const MAX_FLOWS: usize = 2_048;
/// What a flow may send in its turn, in bytes: one full packet.
const QUANTUM: i64 = 1_514;
/// A flow with no more packets than these has no backlog.
const SPARSE: usize = 2;
/// How many flows are looked through for one without.
const MAX_SCAN: usize = 32;
/// For how long a flow's backlog is remembered.
const MEMORY: Duration = Duration::from_secs(1);
/// A flow that was idle for this long gives its identifier to another when one is needed.
const IDLE: Duration = Duration::from_millis(500);

/// For how long a flow over UDP must have backlog until it is bulk.
const BULK_AFTER: Duration = Duration::from_secs(1);
/// For how long it must have none until it is like any other again.
const BULK_UNTIL: Duration = Duration::from_secs(5);
/// Backlog lasts while no more than this passes between two packets that find it: an inner sender comes in bursts.
const BULK_PAUSE: Duration = Duration::from_millis(400);
/// A packet that finds others waiting for so long finds backlog; what is gone sooner is a burst, such as a frame of a video.
const BULK_WAIT: Duration = Duration::from_millis(5);
/// Where the paths lose packets a transfer is held down by that and has no backlog: there one counts as bulk of which this share of the
/// packets has full size, with at most so many microseconds between two in the mean.
const BULK_FULL: f32 = 0.8;
const BULK_GAP: f32 = 25_000.0;
/// The mean size from which on packets are large, in bytes.
const BULK_SIZE: f32 = 900.0;
/// The burst in which real-time flows may exceed their share of the bond, as time at that share.
const URGENT_BURST: Duration = Duration::from_millis(200);
/// The share of real-time flows is at least this, in bytes a second: before anything was sent, nothing is known of the bond's rate.
const URGENT_LEAST: f64 = 3e6 / 8.0;
/// A packet of a real-time flow that has waited for longer is of no use.
const URGENT_WAIT: Duration = Duration::from_millis(300);

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
    /// The record of the flow in the table of streams.
    pub(crate) stream: u32,
    /// When it was queued.
    pub(crate) since: Timestamp,
    /// Its data, if it is a TCP segment with new data.
    pub(crate) segment: Option<Segment>,
}

/// What is at the head, before it is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// Bytes of the packet.
    pub(crate) size: usize,
    /// Bytes that wait in the same flow, this packet included, or that did so lately (the peak, fading over [`MEMORY`]), and as much for each
    /// other flow that waits: what leaves until the last of the flow does.
    pub(crate) demand: usize,
    /// The flow had no backlog when its turn came.
    pub(crate) sparse: bool,
    /// What kind of flow it is.
    pub(crate) class: FlowClass,
    /// It comes from the list of real-time flows.
    pub(crate) urgent: bool,
    /// A datagram flow with large packets: the path that carried its last packet, to which it keeps.
    pub(crate) pin: Option<PathId>,
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
    /// TCP segments that were sent again although their first copy still waited; dropped.
    pub repeated: u64,
}

#[derive(Debug)]
struct Flow {
    key: Option<FlowKey>,
    class: FlowClass,
    queue: FlowQueue,
    deficit: i64,
    list: List,
    codel: Codel,
    next_sequence: u64,
    last_used: Timestamp,
    /// The peak of the backlog, and when it was valid; it fades.
    peak: f64,
    peak_at: Timestamp,
    /// Its record in the table of streams.
    stream: u32,
    /// The path that carried its last packet.
    path: Option<PathId>,
    bulk: Bulk,
}

/// Whether a flow over UDP behaves as bulk.
#[derive(Clone, Copy, Debug, Default)]
struct Bulk {
    /// Since when it has had backlog, with pauses of at most [`BULK_PAUSE`].
    since: Option<Timestamp>,
    /// When a packet last found others waiting.
    last: Timestamp,
    /// The mean size of its packets, the greatest one lately, and the share of those that are as large.
    size: f32,
    greatest: f32,
    full: f32,
    /// The mean gap between packets in microseconds, and when the last one came.
    gap: f32,
    seen: Timestamp,
}

impl Bulk {
    /// A packet of `size` bytes comes behind others of which the first has `waited`. `lossy`: the paths lose packets.
    fn on_packet(&mut self, size: usize, waited: Duration, lossy: bool, now: Timestamp) {
        let size = size as f32;
        if self.size == 0.0 {
            self.size = size;
        }
        self.size += (size - self.size) / 16.0;
        self.greatest = size.max(self.greatest * 0.999);
        let full = if size >= self.greatest * 0.98 { 1.0 } else { 0.0 };
        self.full += (full - self.full) / 32.0;
        let gap = now.since(self.seen).as_secs_f32() * 1e6;
        self.gap += (gap.min(1e6) - self.gap) / 32.0;
        self.seen = now;
        if now.since(self.last) > BULK_PAUSE {
            self.since = None;
        }
        let held_down = lossy && self.full >= BULK_FULL && self.gap <= BULK_GAP;
        if waited >= BULK_WAIT || held_down {
            self.since.get_or_insert(now);
            self.last = now;
        }
    }

    fn is_large(&self) -> bool {
        self.size >= BULK_SIZE
    }

    fn begins(&self, now: Timestamp) -> bool {
        self.is_large() && self.since.is_some_and(|since| now.since(since) >= BULK_AFTER)
    }

    fn is_over(&self, now: Timestamp) -> bool {
        now.since(self.last) >= BULK_UNTIL
    }
}

impl Flow {
    /// The backlog that the flow has shown lately. An inner sender comes in bursts, a round trip apart: what it can use is seen at their peaks.
    fn demand(&self, now: Timestamp) -> f64 {
        let faded = self.peak * (-now.since(self.peak_at).as_secs_f64() / MEMORY.as_secs_f64()).exp();
        faded.max(self.queue.bytes() as f64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    None,
    Urgent,
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
    /// Real-time flows with packets.
    urgent: VecDeque<u16>,
    /// What real-time flows may still send before the others, in bytes, and at which rate that grows, in bytes a second.
    urgent_credit: f64,
    urgent_rate: f64,
    urgent_at: Timestamp,
    /// The paths lose packets.
    lossy: bool,
    new: VecDeque<u16>,
    old: VecDeque<u16>,
    /// Flows that let others go first, for the time of one choice.
    aside: Vec<u16>,
    hand: [usize; 2],
    bytes: usize,
    limit: usize,
    params: CodelParams,
    /// What is sent again goes first.
    in_hurry: bool,
    counters: IngressCounters,
}

impl Ingress {
    /// Queues that hold at most `limit` bytes together.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            flows: [Vec::new(), Vec::new()],
            by_key: HashMap::new(),
            urgent: VecDeque::new(),
            urgent_credit: 0.0,
            urgent_rate: URGENT_LEAST,
            urgent_at: Timestamp::ZERO,
            lossy: false,
            new: VecDeque::new(),
            old: VecDeque::new(),
            aside: Vec::new(),
            hand: [0, 0],
            bytes: 0,
            limit,
            params: CodelParams { target: Duration::from_millis(20), interval: Duration::from_millis(100) },
            in_hurry: false,
            counters: IngressCounters::default(),
        }
    }

    /// Sets how long a queue may stand.
    pub(crate) fn set_params(&mut self, params: CodelParams) {
        self.params = params;
    }

    /// Says whether what inner TCP senders send again goes first (see [`crate::waiting`]).
    pub(crate) fn hurry(&mut self, in_hurry: bool) {
        if in_hurry && !self.in_hurry {
            let [ordered, _] = &mut self.flows;
            ordered.iter_mut().for_each(|flow| flow.queue.hurry(true));
        }
        self.in_hurry = in_hurry;
    }

    /// Forgets which segments were kept for repair and are no more.
    pub(crate) fn forget_delivered(&mut self, store: &Store) {
        let [ordered, _] = &mut self.flows;
        ordered.iter_mut().for_each(|flow| flow.queue.forget_delivered(store));
    }

    /// A segment that was taken is kept for repair.
    pub(crate) fn on_kept(&mut self, id: u16, segment: Segment, kept: StoreId, store: &Store) {
        flow_mut(&mut self.flows, id).queue.on_kept(segment, kept, store);
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

    /// Tells what the bond can send, of which real-time flows go first with half, and whether its paths lose packets.
    pub(crate) fn set_paths(&mut self, rate: Bitrate, lossy: bool) {
        self.lossy = lossy;
        self.urgent_rate = (rate.as_bps() as f64 / 16.0).max(URGENT_LEAST);
    }

    /// Whether flows wait that are not real-time.
    pub(crate) fn has_others(&self) -> bool {
        !self.old.is_empty() || !self.new.is_empty()
    }

    /// Queues an inner packet.
    pub(crate) fn push(
        &mut self,
        packet: &[u8],
        info: &PacketInfo,
        streams: &mut Streams,
        mode: Mode,
        (pool, store): (&mut Pool, &Store),
        now: Timestamp,
    ) {
        let mut id = self.flow_id(info, now);
        if info.protocol != protocol::TCP {
            id = self.classify(id, packet, info, streams, mode, now);
        }
        let flow = flow_mut(&mut self.flows, id);
        flow.last_used = now;
        let turn = flow.queue.turn(info, store);
        if turn == Turn::Never {
            self.counters.repeated += 1;
            return;
        }
        flow.queue.hurry(self.in_hurry);
        flow.queue.push(pool.copy(packet), turn, now);
        (flow.peak, flow.peak_at) = (flow.demand(now), now);
        self.bytes += packet.len() + OVERHEAD;
        self.counters.queued += 1;
        if flow.list == List::None {
            flow.deficit = QUANTUM;
            if flow.class == FlowClass::RealTime {
                flow.list = List::Urgent;
                self.urgent.push_back(id);
            } else {
                flow.list = List::New;
                self.new.push_back(id);
            }
        }
        while self.bytes > self.limit {
            self.drop_from_fattest(pool);
        }
    }

    /// What would be taken next. Drops what has waited too long on the way.
    pub(crate) fn peek(&mut self, pool: &mut Pool, now: Timestamp) -> Option<Head> {
        if let Some(head) = self.peek_urgent(pool, now) {
            return Some(head);
        }
        let waiting = self.new.len() + self.old.len();
        loop {
            let (id, from_new) = match (self.new.front(), self.old.front()) {
                (Some(id), _) => (*id, true),
                (None, Some(id)) => (*id, false),
                (None, None) => return None,
            };
            let flow = flow_mut(&mut self.flows, id);
            if flow.deficit <= 0 {
                flow.deficit += QUANTUM;
                self.move_back(id, from_new);
                continue;
            }
            self.manage(id, pool, now);
            let flow = flow_mut(&mut self.flows, id);
            let Some(next) = flow.queue.front() else {
                self.retire(id, from_new);
                continue;
            };
            let sparse = from_new && flow.queue.len() <= SPARSE;
            let others = waiting.max(1);
            return Some(Head {
                size: next.bytes.len(),
                demand: flow.demand(now) as usize * others,
                sparse,
                class: flow.class,
                urgent: false,
                pin: flow.path.filter(|_| flow.class == FlowClass::Datagram && flow.bulk.is_large()),
            });
        }
    }

    /// The real-time flow whose turn it is, while such flows keep to their share or nobody else waits.
    fn peek_urgent(&mut self, pool: &mut Pool, now: Timestamp) -> Option<Head> {
        let most = self.urgent_rate * URGENT_BURST.as_secs_f64();
        self.urgent_credit += self.urgent_rate * now.since(self.urgent_at).as_secs_f64();
        self.urgent_credit = self.urgent_credit.min(most);
        self.urgent_at = now;
        loop {
            let id = *self.urgent.front()?;
            let flow = flow_mut(&mut self.flows, id);
            while flow.queue.front().is_some_and(|next| now.since(next.since) > URGENT_WAIT)
                && let Some(stale) = flow.queue.pop()
            {
                self.bytes -= stale.bytes.len() + OVERHEAD;
                self.counters.dropped_delay += 1;
                pool.give_back(stale.bytes);
            }
            let Some(next) = flow.queue.front() else {
                flow.list = List::None;
                self.urgent.pop_front();
                continue;
            };
            if self.urgent_credit <= 0.0 && (!self.new.is_empty() || !self.old.is_empty()) {
                return None;
            }
            let (size, demand) = (next.bytes.len(), flow.queue.bytes());
            let class = FlowClass::RealTime;
            return Some(Head { size, demand, sparse: true, class, urgent: true, pin: None });
        }
    }

    /// Takes what [`Ingress::peek`] showed.
    pub(crate) fn pop(&mut self, head: Head) -> Option<Queued> {
        let lists = [&self.urgent, &self.new, &self.old];
        let id = *lists.into_iter().skip(usize::from(!head.urgent)).find_map(VecDeque::front)?;
        let flow = flow_mut(&mut self.flows, id);
        let Waiting { since, bytes, segment, .. } = flow.queue.pop()?;
        while let Some(id) = self.aside.pop() {
            self.old.push_front(id);
        }
        if !head.urgent {
            flow.deficit -= bytes.len() as i64;
        }
        self.bytes -= bytes.len() + OVERHEAD;
        let sequence = flow.next_sequence;
        flow.next_sequence += 1;
        let (class, stream) = (flow.class, flow.stream);
        if head.urgent {
            self.urgent_credit -= bytes.len() as f64;
            self.urgent.rotate_left(1);
        }
        Some(Queued { flow: id, sequence, class, bytes, stream, since, segment })
    }

    /// The path that took the flow's last packet.
    pub(crate) fn set_path(&mut self, id: u16, path: PathId) {
        flow_mut(&mut self.flows, id).path = Some(path);
    }

    /// Sets the flow whose turn it is aside, as its path has no room, so that another may use another path's. False if there is no other.
    /// It keeps its turn: [`Ingress::pop`] and [`Ingress::restore`] put it back in front.
    pub(crate) fn defer(&mut self) -> bool {
        let Some(id) = self.new.pop_front().or_else(|| self.old.pop_front()) else { return false };
        flow_mut(&mut self.flows, id).list = List::Old;
        self.aside.push(id);
        self.has_others()
    }

    /// Puts what was set aside back in front.
    pub(crate) fn restore(&mut self) {
        while let Some(id) = self.aside.pop() {
            self.old.push_front(id);
        }
    }

    /// Lets a flow with little to send have its turn now, if one waits among the first [`MAX_SCAN`].
    pub(crate) fn bring_sparse(&mut self) {
        let flows = &mut self.flows;
        let waiting = self.old.iter().take(MAX_SCAN);
        let Some(place) =
            waiting.map(|id| flow_mut(flows, *id).queue.len()).position(|n| (1..=SPARSE).contains(&n))
        else {
            return;
        };
        if let Some(id) = self.old.remove(place) {
            let flow = flow_mut(flows, id);
            (flow.list, flow.deficit) = (List::New, flow.deficit.max(QUANTUM));
            self.new.push_front(id);
        }
    }

    fn move_back(&mut self, id: u16, from_new: bool) {
        if from_new {
            self.new.pop_front();
        } else {
            self.old.pop_front();
        }
        flow_mut(&mut self.flows, id).list = List::Old;
        self.old.push_back(id);
    }

    /// Decides what kind of flow a packet that is not TCP belongs to. Returns its identifier, which is another one if the flow moves between
    /// the ordered kind and the other.
    fn classify(
        &mut self,
        id: u16,
        packet: &[u8],
        info: &PacketInfo,
        streams: &mut Streams,
        mode: Mode,
        now: Timestamp,
    ) -> u16 {
        let flow = flow_mut(&mut self.flows, id);
        let (stream, standing) = streams.on_queued(flow.stream, packet, info, mode, now);
        flow.stream = stream;
        let waited = flow.queue.front().map_or(Duration::ZERO, |next| now.since(next.since));
        flow.bulk.on_packet(packet.len(), waited, self.lossy, now);
        let class = match standing {
            Standing::RealTime(_) => FlowClass::RealTime,
            Standing::Bulk => FlowClass::Stream,
            // What is copied over all links needs no order.
            Standing::Default if mode == Mode::Redundant => FlowClass::Datagram,
            Standing::Default if flow.class == FlowClass::Stream && !flow.bulk.is_over(now) => {
                FlowClass::Stream
            }
            Standing::Default if flow.bulk.begins(now) && info.protocol == protocol::UDP => FlowClass::Stream,
            Standing::Default => FlowClass::Datagram,
        };
        if class == flow.class {
            return id;
        }
        if (class == FlowClass::Stream) != (flow.class == FlowClass::Stream) {
            return self.move_flow(id, class, now);
        }
        flow.class = class;
        match flow.list {
            List::None => {}
            List::Urgent => {
                flow.list = List::Old;
                flow.deficit = QUANTUM;
                self.urgent.retain(|known| *known != id);
                self.old.push_back(id);
            }
            List::New | List::Old => {
                flow.list = List::Urgent;
                self.new.retain(|known| *known != id);
                self.old.retain(|known| *known != id);
                self.urgent.push_back(id);
            }
        }
        id
    }

    /// Gives a flow an identifier of the other kind, with all that it has queued.
    fn move_flow(&mut self, id: u16, class: FlowClass, now: Timestamp) -> u16 {
        let old = flow_mut(&mut self.flows, id);
        let Some(key) = old.key.take() else { return id };
        let queue = core::mem::take(&mut old.queue);
        let (bulk, stream, path, peak) = (old.bulk, old.stream, old.path, (old.peak, old.peak_at));
        let listed = old.list != List::None;
        // The emptied flow leaves its list when its turn comes, and its number waits for a while before it goes to another.
        old.last_used = now;
        self.by_key.remove(&key);
        let new = self.assign(key, class, now);
        let flow = flow_mut(&mut self.flows, new);
        // Somebody else's packets, if no flow was empty: they go on under the common number.
        flow.queue.append(queue);
        (flow.bulk, flow.stream, flow.path) = (bulk, stream, path);
        (flow.peak, flow.peak_at) = peak;
        if listed && flow.list == List::None {
            flow.deficit = QUANTUM;
            flow.list = List::Old;
            self.old.push_back(new);
        }
        new
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
        loop {
            let backlog = flow.queue.bytes();
            let Some(next) = flow.queue.front_in_turn() else { return };
            if !flow.codel.should_drop(now.since(next.since), backlog, self.params, now) {
                return;
            }
            if set_ce(&mut next.bytes) {
                self.counters.marked += 1;
                return;
            }
            if let Some(dropped) = flow.queue.pop() {
                self.bytes -= dropped.bytes.len() + OVERHEAD;
                self.counters.dropped_delay += 1;
                pool.give_back(dropped.bytes);
            }
        }
    }

    fn drop_from_fattest(&mut self, pool: &mut Pool) {
        let Some(flow) = self.flows.iter_mut().flatten().max_by_key(|f| f.queue.bytes()) else { return };
        // Several at once, since the search is long (RFC 8290, 4.1.2).
        for _ in 0..(flow.queue.len() / 2).clamp(1, 64) {
            let Some(dropped) = flow.queue.pop() else { return };
            self.bytes -= dropped.bytes.len() + OVERHEAD;
            self.counters.dropped_full += 1;
            pool.give_back(dropped.bytes);
        }
    }

    /// The identifier of a packet's flow: the one it has, a new one, or that of a flow that has been idle for longest.
    fn flow_id(&mut self, info: &PacketInfo, now: Timestamp) -> u16 {
        if let Some(id) = self.by_key.get(&info.key) {
            return *id;
        }
        let ordered = info.protocol == protocol::TCP;
        self.assign(info.key, if ordered { FlowClass::Stream } else { FlowClass::Datagram }, now)
    }

    /// Gives a flow an identifier of its kind.
    fn assign(&mut self, key: FlowKey, class: FlowClass, now: Timestamp) -> u16 {
        let kind = usize::from(class != FlowClass::Stream);
        let index =
            if self.flows[kind].len() < MAX_FLOWS / 2 { self.fresh(kind) } else { self.reuse(kind, now) };
        let id = (index * 2 + kind) as u16;
        let flow = &mut self.flows[kind][index];
        if let Some(old) = flow.key.take() {
            self.by_key.remove(&old);
        }
        flow.key = Some(key);
        flow.class = class;
        flow.codel = Codel::default();
        flow.queue.forget_connection();
        flow.peak = 0.0;
        flow.stream = NO_STREAM;
        flow.path = None;
        flow.bulk = Bulk::default();
        self.by_key.insert(key, id);
        id
    }

    fn fresh(&mut self, kind: usize) -> usize {
        self.flows[kind].push(Flow {
            key: None,
            class: FlowClass::Datagram,
            queue: FlowQueue::default(),
            deficit: 0,
            list: List::None,
            codel: Codel::default(),
            next_sequence: 0,
            last_used: Timestamp::ZERO,
            peak: 0.0,
            peak_at: Timestamp::ZERO,
            stream: NO_STREAM,
            path: None,
            bulk: Bulk::default(),
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
