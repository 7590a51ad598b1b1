//! Smooths the round trip that an inner TCP sender sees, by holding acknowledgements back that came sooner than usual.
//!
//! A sender in slow start takes a round trip that grows for a queue, and stops growing its window (HyStart, RFC 9406: 4 to 16 ms above the
//! least round trip that it knows). On links that jitter the least is a lucky packet of the first round; as soon as the flow is dense, its
//! packets are put in order and all take what the slowest take. The sender then leaves slow start with a twentieth of what the
//! links carry, and needs seconds for the rest. So the end at which a flow's data enters the bond notes when it did, and gives the sender no acknowledgement earlier than one
//! [floor](Smoother::set_floor) after: the round trip is even from the first packet on, and what rises above the floor is a real queue.
//! Data is never held, nor an acknowledgement that reports loss (SACK), opens, or closes.
//!
//! Bounds: as many flows as are given at construction, [`MAX_FLOWS`] at most, [`MAX_MARKS`] marks each; [`MAX_HELD`] acknowledgements, none for longer than the floor.

use crate::order::Deliver;
use crate::waiting::is_after;
use bondwire_packet::{FlowKey, Offload, PacketBatch, PacketInfo, TcpInfo, parse};
use bondwire_units::Timestamp;
use core::time::Duration;
use std::collections::{BTreeMap, HashMap, VecDeque};

/// Flows whose data is noted.
pub(crate) const MAX_FLOWS: usize = 256;
/// Moments noted of a flow: with [`SPACING`] between them, half a second.
const MAX_MARKS: usize = 256;
/// Time between two noted moments.
const SPACING: Duration = Duration::from_millis(2);
/// Acknowledgements that are held at a time.
const MAX_HELD: usize = 1_024;
/// A flow that sent nothing for so long is forgotten.
const IDLE: Duration = Duration::from_secs(10);
/// The greatest TCP header without SACK blocks: timestamps and two bytes of padding.
const PLAIN_HEADER: usize = 32;
/// What a held acknowledgement costs beside its bytes.
const HELD_OVERHEAD: usize = 64;
/// The greatest packet that is a mere acknowledgement: IPv6 and a full TCP header.
const SMALL: usize = 40 + 60;

/// What a flow takes at most.
pub(crate) const FLOW_BYTES: usize =
    size_of::<(FlowKey, Track)>() + MAX_MARKS * size_of::<(u32, Timestamp)>();
/// What held acknowledgements take at most.
#[cfg(test)]
pub(crate) const HELD_MOST: usize = MAX_HELD * (SMALL + HELD_OVERHEAD);

#[derive(Debug)]
struct Track {
    /// The flow's floor, from its first acknowledgement to its last: one that moves is itself a round trip that grows.
    floor: Option<Duration>,
    /// Sequence numbers, and when the segments that began with them entered the bond; both rise.
    marks: VecDeque<(u32, Timestamp)>,
    /// When the newest acknowledgement was, or will be, let go.
    released: Timestamp,
    last_used: Timestamp,
}

/// What is noted of the flows, and what is held back.
#[derive(Debug)]
pub(crate) struct Smoother {
    /// None as long as the paths are not all measured: a flow that begins meanwhile is followed, and has its floor when its first data is acknowledged.
    floor: Option<Duration>,
    flows: HashMap<FlowKey, Track>,
    held: BTreeMap<(Timestamp, u64), Vec<u8>>,
    /// Of all that is held, each with [`HELD_OVERHEAD`].
    held_bytes: usize,
    count: u64,
    max_flows: usize,
}

/// Where delivered packets go: out of the bond, but for acknowledgements that came too soon.
pub(crate) struct Outlet<'a> {
    pub(crate) batch: &'a mut PacketBatch,
    pub(crate) smoother: &'a mut Smoother,
    pub(crate) now: Timestamp,
}

impl Deliver for Outlet<'_> {
    fn deliver(&mut self, packet: &[u8]) {
        if !self.smoother.hold(packet, self.now) {
            // What it has made due goes first.
            self.smoother.handle_timeout(self.batch, self.now);
            self.batch.push(packet, Offload::default());
        }
    }
}

impl Smoother {
    /// One that follows no flow yet, and so many at most.
    pub(crate) fn new(max_flows: usize) -> Self {
        Self {
            floor: None,
            flows: HashMap::new(),
            held: BTreeMap::new(),
            held_bytes: 0,
            count: 0,
            max_flows: max_flows.min(MAX_FLOWS),
        }
    }

    /// Sets the round trip below which no acknowledgement is let go; zero switches this off, none says that it is not known yet.
    pub(crate) fn set_floor(&mut self, floor: Option<Duration>, now: Timestamp) {
        self.floor = floor;
        if floor == Some(Duration::ZERO) {
            self.flows.clear();
            // All of it is due, in the order in which it came.
            let held = core::mem::take(&mut self.held);
            self.held =
                held.into_iter().map(|((_, count), packet)| ((Timestamp::ZERO, count), packet)).collect();
        } else {
            self.flows.retain(|_, track| now.since(track.last_used) < IDLE);
        }
    }

    /// A packet enters the bond.
    pub(crate) fn on_sent(&mut self, info: &PacketInfo, now: Timestamp) {
        if self.floor == Some(Duration::ZERO) {
            return;
        }
        let Some(tcp) = info.tcp else { return };
        if tcp.has_syn() && self.flows.len() < self.max_flows {
            let track =
                Track { floor: None, marks: VecDeque::new(), released: Timestamp::ZERO, last_used: now };
            self.flows.insert(info.key, track);
            return;
        }
        let Some(track) = self.flows.get_mut(&info.key).filter(|_| tcp.payload_len > 0) else { return };
        track.last_used = now;
        if let Some((sequence, at)) = track.marks.back() {
            // What is sent again says nothing about the round trip.
            if now.since(*at) < SPACING || !is_after(tcp.sequence, *sequence) {
                return;
            }
        }
        if track.marks.len() >= MAX_MARKS {
            track.marks.pop_front();
        }
        track.marks.push_back((tcp.sequence, now));
    }

    /// Takes a packet that is to be delivered if it has to wait. False if it may go.
    fn hold(&mut self, packet: &[u8], now: Timestamp) -> bool {
        if self.flows.is_empty() || packet.len() > SMALL {
            return false;
        }
        let Ok(info) = parse(packet) else { return false };
        let Some(tcp) = info.tcp else { return false };
        let Some(release) = self.release_of(&info, tcp, now) else { return false };
        if release <= now || self.held.len() >= MAX_HELD {
            return false;
        }
        self.count += 1;
        self.held.insert((release, self.count), packet.to_vec());
        self.held_bytes += packet.len() + HELD_OVERHEAD;
        true
    }

    /// When an acknowledgement may go; none if it is none, or not of a flow that is noted.
    fn release_of(&mut self, info: &PacketInfo, tcp: TcpInfo, now: Timestamp) -> Option<Timestamp> {
        let key = info.key.reversed();
        let track = self.flows.get_mut(&key)?;
        let plain = tcp.is_pure_ack() && tcp.header_len <= PLAIN_HEADER;
        if plain {
            // The last segment that it acknowledges began before the number that it names.
            while track.marks.len() > 1 && is_after(tcp.acknowledgement, track.marks[1].0) {
                track.marks.pop_front();
            }
            if let Some((sequence, at)) = track.marks.front().copied()
                && is_after(tcp.acknowledgement, sequence)
            {
                let floor = *track.floor.get_or_insert(self.floor.unwrap_or_default());
                track.released = track.released.max(at + floor);
            }
            return Some(track.released);
        }
        // Whatever else the peer sends goes at once, and what is held of it before that.
        if track.released > now {
            track.released = now;
            self.let_go(info.key);
        }
        None
    }

    /// Makes everything that is held of a flow due.
    fn let_go(&mut self, key: FlowKey) {
        let due: Vec<_> = self
            .held
            .iter()
            .filter(|(_, packet)| parse(packet).is_ok_and(|info| info.key == key))
            .map(|(place, _)| *place)
            .collect();
        for place in due {
            if let Some(packet) = self.held.remove(&place) {
                self.held.insert((Timestamp::ZERO, place.1), packet);
            }
        }
    }

    /// Delivers what has waited long enough.
    pub(crate) fn handle_timeout(&mut self, batch: &mut PacketBatch, now: Timestamp) {
        while let Some(entry) = self.held.first_entry()
            && entry.key().0 <= now
        {
            let packet = entry.remove();
            self.held_bytes -= packet.len() + HELD_OVERHEAD;
            batch.push(&packet, Offload::default());
        }
    }

    /// Bytes that wait.
    pub(crate) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Bytes that flows and their marks take at most.
    pub(crate) fn marks_bytes(&self) -> usize {
        self.flows.len() * FLOW_BYTES
    }

    /// When something will have waited long enough.
    pub(crate) fn poll_deadline(&self) -> Option<Timestamp> {
        self.held.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
#[path = "smoothing_tests.rs"]
mod tests;
