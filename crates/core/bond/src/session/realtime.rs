//! What a session does for its real-time flows, and for datagram flows that keep to one path.
//!
//! A real-time packet takes the preferred path (`realtime::preference`), whatever the pacer says, and is kept for a short time: if its path
//! turns suspect it goes out again at once over another one, and if it is lost it is sent again while that can still be of use. Nothing
//! waits for it at the other end. Where the path loses packets, parities go over another one, within the
//! flow's budget (`cross`). While such flows run, bulk leaves a little of the preferred path's rate unused ([`Room`]).

use super::content::Control;
use super::lane::Outgoing;
use super::send::DATAGRAM_OVERHEAD;
use super::{Lane, Role, Session, SessionEvent};
use crate::ingress::{Head, Queued};
use crate::order::Tag;
use crate::realtime::{NO_STREAM, Rules, StreamStatus, score};
use crate::store::StoreId;
use crate::types::DatagramBatch;
use bondwire_packet::{FlowClass, FlowKey, parse, protocol};
use bondwire_units::{Bitrate, ByteCount, PathId, Timestamp};
use bondwire_wire::{FlowClassFrame, Mode, Writer};
use core::time::Duration;

/// A real-time packet that is older than this is not sent again: who listens has gone on without it.
const REPAIR_AGE: Duration = Duration::from_millis(250);
/// How often the preferred path is chosen again.
const CHOOSE: Duration = Duration::from_millis(20);
/// A packet that would wait for longer than this behind others on the preferred path takes the one on which it arrives first.
const CROWDED: i64 = 15_000;
/// By how much a path to which a flow keeps may be later than the best one, in microseconds, while nothing of the flow waits.
const STICKY: i64 = 10_000;
/// Flows that let others go before them in one go, since the path to which they keep has no room.
const MAX_DEFERRED: usize = 64;
/// With so many control frames waiting no more flows are announced.
const MAX_CONTROL: usize = 1_024;
/// Loss from which on a path holds down a transfer that is not repaired: at 25 ms and 0.1 % CUBIC gets some 20 Mbit/s.
const LOSSY: f64 = 0.001;
/// What bulk leaves of the preferred path's rate: one part in so many.
const ROOM: u32 = 20;
/// A queue on the preferred path, beyond what its delay varies by, in microseconds, from which on bulk takes other paths until it has drained...
const FULL: i64 = 15_000;
/// ...for so long at most: what has not drained by then is not ours.
const FULL_MOST: Duration = Duration::from_secs(1);
/// Credit of the room, as the pacer's.
const ROOM_CREDIT: Duration = Duration::from_millis(1);
/// For how long bulk stays off a path at most after real-time packets took more than its rate.
const ROOM_DEBT: Duration = Duration::from_millis(50);

/// A second pacer for bulk alone, a little slower than the path's own.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Room {
    kept: bool,
    next: Timestamp,
    /// Since when a queue stands.
    full_since: Option<Timestamp>,
}

impl Room {
    /// Whether room is to be kept from now on.
    pub(crate) fn keep(&mut self, kept: bool) {
        self.kept = kept;
        if !kept {
            self.next = Timestamp::ZERO;
        }
    }

    /// Whether a queue stands on the path, as looked at every now and then.
    fn set_full(&mut self, full: bool, now: Timestamp) {
        self.full_since = self.full_since.filter(|_| full).or(full.then_some(now));
    }

    /// A packet of `size` bytes leaves on a path that is paced at `rate`.
    pub(crate) fn on_sent(&mut self, size: usize, rate: Bitrate, now: Timestamp) {
        if self.kept && rate > Bitrate::ZERO {
            let time = rate.time_for(ByteCount::from(size));
            self.next = (self.next.max(now) + time + time / ROOM).min(now + ROOM_DEBT);
        }
    }

    /// Whether bulk may use the path.
    pub(crate) fn is_open(&self, now: Timestamp) -> bool {
        self.at() <= now
    }

    /// When it may.
    pub(crate) fn at(&self) -> Timestamp {
        if self.kept { self.next.saturating_sub(ROOM_CREDIT) } else { Timestamp::ZERO }
    }
}

impl Session {
    /// The flow that sends next, and its path. A flow that waits for the one path that it keeps to lets others go first.
    pub(super) fn pick_for(&mut self, head: Head, now: Timestamp) -> Option<(Head, usize)> {
        let picked = self.pick_in_turn(head, now);
        if picked.is_none() {
            self.ingress.restore();
        }
        picked
    }

    fn pick_in_turn(&mut self, mut head: Head, now: Timestamp) -> Option<(Head, usize)> {
        for _ in 0..MAX_DEFERRED {
            let size = head.size + DATAGRAM_OVERHEAD;
            if head.class == FlowClass::RealTime {
                return self.pick_real_time(size, now).map(|index| (head, index));
            }
            let lane = head
                .pin
                .filter(|_| self.mode != Mode::Redundant)
                .and_then(|path| self.usable().find(|(_, lane)| lane.id == path))
                .filter(|(_, lane)| head.sparse || !self.is_slow(lane))
                .map(|(index, lane)| (index, lane.path.send_budget(now) > 0 && lane.room.is_open(now)));
            match lane {
                Some((index, _)) if head.sparse => {
                    let path = |index: usize| self.lanes[index].path.arrival_after(size, now);
                    let best = self.pick_urgent(size, now)?;
                    let keep =
                        self.lanes[index].path.urgent_room(now) >= size && path(index) - path(best) < STICKY;
                    return Some((head, if keep { index } else { best }));
                }
                Some((index, true)) => return Some((head, index)),
                Some((_, false)) => {
                    if !self.ingress.defer() {
                        return None;
                    }
                    head = self.ingress.peek(&mut self.pool, now)?;
                }
                None if head.sparse => return self.pick_urgent(size, now).map(|index| (head, index)),
                None => return self.pick_bulk(size, head.demand, now).map(|index| (head, index)),
            }
        }
        None
    }

    /// Whether a flow with backlog is better off leaving this path, at the price of some disorder.
    fn is_slow(&self, lane: &Lane) -> bool {
        let best = self.usable().map(|(_, lane)| lane.path.delivery_rate()).max().unwrap_or_default();
        lane.path.delivery_rate().as_bps() < best.as_bps() / 4
    }

    /// The path for a real-time packet: the preferred one, unless others crowd it.
    fn pick_real_time(&mut self, size: usize, now: Timestamp) -> Option<usize> {
        if self.preference.is_due(now) || !self.is_preferred_usable() {
            let mut preference = self.preference;
            preference.choose(self.usable().map(|(_, lane)| (lane.id, score_of(lane))), CHOOSE, now);
            self.preference = preference;
        }
        let preferred = self
            .usable()
            .find(|(_, lane)| Some(lane.id) == self.preference.path())
            .filter(|(_, lane)| lane.path.urgent_room(now) >= size)
            .map(|(index, lane)| (index, lane.path.arrival_after(size, now)));
        let Some((index, arrival)) = preferred else { return self.pick_urgent(size, now) };
        let waits = arrival - self.lanes[index].path.one_way_delay().unqueued();
        if self.lanes[index].path.one_way_delay().is_measured() && waits > CROWDED {
            return self.pick_urgent(size, now);
        }
        Some(index)
    }

    fn is_preferred_usable(&self) -> bool {
        self.usable().any(|(_, lane)| Some(lane.id) == self.preference.path())
    }

    /// Whether real-time flows depend on this path now.
    pub(super) fn carries_real_time(&self, index: usize) -> bool {
        self.real_time && Some(self.lanes[index].id) == self.preference.path()
    }

    /// Sends a packet of a real-time flow for the first time.
    pub(super) fn send_real_time(
        &mut self,
        index: usize,
        packet: Queued,
        out: &mut DatagramBatch,
        now: Timestamp,
    ) {
        let (size, stream) = (packet.bytes.len(), packet.stream);
        self.streams.on_sent(stream, size, packet.since, self.lanes[index].id, now);
        let id = self.store.keep_loose(packet.flow, packet.sequence, packet.bytes, stream, now);
        let outgoing = Outgoing::Kept(id);
        if self.mode == Mode::Redundant {
            self.queue_copies(index, &outgoing, now);
        }
        self.send_outgoing(index, outgoing, out, now);
        self.send_cross_parities(out, now);
    }

    /// Lets a packet be sent again, with its likes.
    pub(super) fn queue_repair(&mut self, id: StoreId) {
        match self.store.get_mut(id) {
            Some(stored) if !stored.ordered => self.urgent_repairs.push_back(id),
            _ => self.repairs.push_back(id),
        }
    }

    /// Sends one packet of a real-time flow again. False if there is none, or no path has room.
    pub(super) fn send_urgent_repair(&mut self, out: &mut DatagramBatch, now: Timestamp) -> bool {
        while let Some(id) = self.urgent_repairs.front().copied() {
            let stored = self
                .store
                .get_mut(id)
                .map(|stored| (stored.bytes.len(), stored.first_sent, stored.fate.stream));
            let Some((size, first_sent, stream)) = stored else {
                self.urgent_repairs.pop_front();
                continue;
            };
            if now.since(first_sent) > REPAIR_AGE {
                self.urgent_repairs.pop_front();
                self.store.forget(id, &mut self.pool);
                continue;
            }
            let Some(index) = self.pick_urgent(size + DATAGRAM_OVERHEAD, now) else { return false };
            self.urgent_repairs.pop_front();
            if let Some(stored) = self.store.get_mut(id) {
                stored.queued = false;
                stored.fragments = 0;
            }
            self.send_stored(index, id, out, now);
            self.streams.on_extra(stream, size);
            self.counters.repaired += 1;
            return true;
        }
        false
    }

    /// A packet arrived for the first time: who sends it, how steadily, and what is missing.
    pub(super) fn on_arrival(&mut self, tag: Tag, packet: &[u8], path: PathId, now: Timestamp) {
        let (arrival, look) = self.arrivals.on_packet(tag.flow, tag.sequence, path, packet.len(), now);
        let mut key = None;
        if look {
            let info = parse(packet).ok();
            key = info.map(|info| info.key.reversed());
            let udp = info.filter(|info| info.protocol == protocol::UDP && !info.is_fragment);
            arrival.payload_at = udp.map_or(0, |info| info.transport_at + 8);
        }
        let payload = packet.get(arrival.payload_at..).filter(|_| arrival.payload_at > 0);
        let hint = arrival.stream;
        if key.is_none() && hint == NO_STREAM {
            return;
        }
        let stream = self.streams.on_received(hint, key.as_ref(), packet.len(), payload, self.mode, now);
        if stream != hint {
            arrival.restart(stream);
        }
    }

    /// The peer says how it sees a flow (docs/protocol.md, FLOW-1).
    pub(super) fn handle_flow_class(&mut self, frame: &FlowClassFrame, now: Timestamp) {
        let key = FlowKey {
            protocol: frame.protocol,
            src: frame.client.0,
            dst: frame.remote.0,
            src_port: frame.client.1,
            dst_port: frame.remote.1,
        };
        let key = if self.role == Role::Client { key } else { key.reversed() };
        self.streams.on_told(&key, frame.class, self.mode, now);
    }

    /// Writes a FLOW_CLASS with what is true now; false if `control` is none, or if there is no room.
    pub(super) fn write_flow_class(&mut self, writer: &mut Writer<'_>, control: Control) -> bool {
        let Control::FlowClass(index) = control else { return false };
        let Some((key, class)) = self.streams.announcement(index) else { return false };
        let key = if self.role == Role::Client { key } else { key.reversed() };
        writer.flow_class(&FlowClassFrame {
            class,
            protocol: key.protocol,
            client: (key.src, key.src_port),
            remote: (key.dst, key.dst_port),
        })
    }

    /// What the user says of flows from now on.
    pub(crate) fn set_rules(&mut self, rules: Rules) {
        self.streams.set_rules(rules);
    }

    /// What is done for real-time flows every now and then.
    pub(super) fn upkeep_streams(&mut self, now: Timestamp) {
        let rate: Bitrate = self.usable().map(|(_, lane)| lane.path.delivery_rate()).sum();
        let lossy = self.usable().any(|(_, lane)| lane.path.loss() >= LOSSY);
        self.ingress.set_paths(rate, lossy);
        self.streams.upkeep(rate, self.ingress.has_others(), self.mode, now);
        self.real_time = self.streams.is_needed(now);
        for index in 0..self.lanes.len() {
            let kept = self.carries_real_time(index);
            let lane = &mut self.lanes[index];
            lane.room.keep(kept);
            lane.room.set_full(lane.has_queue(), now);
        }
        while let Some((fate, arrived)) = self.store.poll_fate() {
            self.streams.on_fate(fate, arrived);
        }
        while self.control.len() < MAX_CONTROL
            && let Some(index) = self.streams.poll_announcement()
        {
            self.control.push_back(Control::FlowClass(index));
        }
        while let Some(change) = self.streams.poll_change() {
            self.events.push_back(SessionEvent::Stream(change));
        }
    }

    /// The real-time flows.
    pub(crate) fn stream_status(&self, now: Timestamp) -> Vec<StreamStatus> {
        let path = |id: PathId| {
            let lane = self.lanes.iter().find(|lane| lane.id == id)?;
            let variation = Duration::from_micros(lane.path.one_way_delay().variation().max(0) as u64);
            Some((lane.route.link, lane.path.rtt().smoothed() / 2, variation))
        };
        self.streams.status(&self.arrivals, path, now)
    }
}

impl Lane {
    /// Whether bulk has to leave this path alone, so that its queue drains for the real-time flows: above all when a transfer begins, and overshoots.
    pub(super) fn is_full(&self, now: Timestamp) -> bool {
        let ours = self.room.full_since.is_none_or(|since| now.since(since) < FULL_MOST);
        self.room.kept && ours && self.has_queue()
    }

    fn has_queue(&self) -> bool {
        let delay = self.path.one_way_delay();
        delay.is_measured() && delay.smoothed() - delay.base() > FULL + delay.variation()
    }
}

fn score_of(lane: &Lane) -> i64 {
    let delay = lane.path.one_way_delay();
    let half = (lane.path.rtt().smoothed() / 2).as_micros() as i64;
    let smoothed = if delay.is_measured() { delay.smoothed() } else { half };
    score(smoothed, delay.variation(), lane.path.loss())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_is_timed_from_when_it_was_first_seen() {
        let mut room = Room::default();
        let at = Timestamp::from_millis;
        room.set_full(true, at(50));
        room.set_full(true, at(100));
        assert_eq!(room.full_since, Some(at(50)));
        room.set_full(false, at(150));
        assert_eq!(room.full_since, None);
        room.set_full(true, at(200));
        assert_eq!(room.full_since, Some(at(200)));
    }
}
