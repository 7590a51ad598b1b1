//! Which path a packet takes.
//!
//! The rule is earliest arrival: a packet goes where its queueing and its one-way delay end soonest. For a sparse flow, a control frame or a repair
//! that is all. A flow with backlog is spread: a path that is not the quickest is used only if the flow's backlog would keep
//! the quicker paths busy until the slower one has delivered (ECF, CoNEXT'17, for one-way delays and for several quicker paths); until then it is better to wait.
//! What counts is the backlog that the flow has shown lately, not the one of this moment: an inner sender comes in bursts, and a slow path that is left
//! alone between them is lost to it. The price of using it, the delay of its order, was paid with the first packet.
//!
//! One-way delays come from the receiver's clock. Its offset is the same for all paths of a session, so differences between paths are
//! exact, and only differences are used.

use super::{Lane, Session};
use crate::codel::CodelParams;
use bondwire_units::{Bitrate, ByteCount, Timestamp};
use core::time::Duration;

/// A slower path has to win by this before it is used, so that measurement noise does not move packets.
const HYSTERESIS_MICROS: i64 = 1_000;
/// Paths whose round trips differ by less than this (or an eighth) are used side by side from a flow's first packets on.
const NEAR: Duration = Duration::from_millis(4);
/// A path with so many times the round trip of a quicker one waits until that one's rate is known. Nearer ones are used from a flow's first packets
/// on: a round trip that grows when they join later would end the inner sender's slow start.
const FAR: u32 = 4;
/// How long a packet may wait in the first seconds after a path died.
const PATIENCE: Duration = Duration::from_secs(3);
/// Jitter up to this is below what a sender takes for a queue.
const EVEN: Duration = Duration::from_millis(3);
/// Loss from which on a path's packets are copied onto a path that is idle.
const SPARE_LOSS: f64 = 0.002;
/// The backlog, as time at the bond's rate, up to which a flow leaves room for copies.
const SPARE_DEMAND: Duration = Duration::from_millis(10);

impl Session {
    /// The paths in use, as indices: useful ones, or, if there are none, any that are alive.
    pub(super) fn usable(&self) -> impl Iterator<Item = (usize, &Lane)> + Clone {
        let any_useful = self.lanes.iter().any(Lane::is_useful);
        self.lanes
            .iter()
            .enumerate()
            .filter(move |(_, lane)| if any_useful { lane.is_useful() } else { lane.is_wanted() })
    }

    /// The path on which a packet of `size` bytes that must not wait arrives first.
    pub(super) fn pick_urgent(&self, size: usize, now: Timestamp) -> Option<usize> {
        self.pick_first(size, |lane| lane.path.urgent_room(now), now)
    }

    /// The path on which a packet that is sent again arrives first. A few go at once; many, as when a fast path dies and leaves all that it
    /// carried to a slower one, keep to the pacer, or that one's queue would overflow, and leave the rest of the window to what is urgent.
    pub(super) fn pick_repair(&self, size: usize, many: bool, now: Timestamp) -> Option<usize> {
        if !many {
            return self.pick_urgent(size, now);
        }
        self.pick_first(size, |lane| lane.path.window_room(), now)
            .filter(|index| self.lanes[*index].path.send_budget(now) > 0)
    }

    fn pick_first(&self, size: usize, room: impl Fn(&Lane) -> usize, now: Timestamp) -> Option<usize> {
        self.usable()
            .filter(|(_, lane)| room(lane) >= size)
            .min_by_key(|(_, lane)| (lane.tier, lane.path.arrival_after(size, now)))
            .map(|(index, _)| index)
    }

    /// The path for a frame that is not subject to congestion control (an acknowledgement).
    pub(super) fn pick_quickest(&self, now: Timestamp) -> Option<usize> {
        self.usable()
            .min_by_key(|(_, lane)| (lane.doubted, lane.tier, lane.path.arrival_after(0, now)))
            .map(|(index, _)| index)
    }

    /// The path for the next packet of a flow that had up to `demand` bytes waiting lately; none if it is better to wait.
    pub(super) fn pick_bulk(&self, size: usize, demand: usize, now: Timestamp) -> Option<usize> {
        let has_room =
            |lane: &Lane| lane.path.send_budget(now) > 0 && lane.room.is_open(now) && !lane.is_full(now);
        let (index, candidate) = self
            .usable()
            .filter(|(_, lane)| has_room(lane))
            .min_by_key(|(_, lane)| (lane.tier, lane.path.arrival_after(size, now)))?;
        if !self.may_take(candidate) {
            return None;
        }
        let delay = candidate.path.arrival_after(size, now);
        let quicker = |lane: &Lane| {
            lane.tier <= candidate.tier && delay_of(lane).is_some_and(|d| Some(d) < delay_of(candidate))
        };
        let rate_beside = |lane: &Lane| {
            if candidate.path.rtt().min() > lane.path.rtt().min() * FAR {
                lane.path.prospect()
            } else {
                lane.path.delivery_rate()
            }
        };
        let rate: Bitrate = self.usable().filter(|(_, l)| quicker(l)).map(|(_, l)| rate_beside(l)).sum();
        let Some(quickest) = self.usable().filter(|(_, l)| quicker(l)).filter_map(|(_, l)| delay_of(l)).min()
        else {
            return Some(index);
        };
        if rate == Bitrate::ZERO {
            return Some(index);
        }
        let drained = rate.time_for(ByteCount::from(demand)).as_micros() as i64;
        if quickest + drained + HYSTERESIS_MICROS >= delay {
            return Some(index);
        }
        // Too early for this one; but a quicker one that has room takes it, though it has a queue of its own.
        self.usable()
            .filter(|(_, lane)| quicker(lane) && has_room(lane))
            .min_by_key(|(_, lane)| lane.path.arrival_after(size, now))
            .map(|(index, _)| index)
    }

    /// A path with nothing better to do that takes a copy of a packet that left on a lossy one: with the queue empty, protection costs nobody
    /// anything, and a loss that is never noticed delays no ordered flow by a round trip. Above all a flow's first round trips are spared.
    /// A flow that has shown a backlog lately needs the room itself.
    pub(super) fn pick_spare(&self, first: usize, demand: usize, now: Timestamp) -> Option<usize> {
        let rate: Bitrate = self.usable().map(|(_, lane)| lane.path.delivery_rate()).sum();
        let wants_more = rate.time_for(ByteCount::from(demand)) > SPARE_DEMAND;
        if wants_more || self.lanes[first].path.loss() < SPARE_LOSS {
            return None;
        }
        self.usable()
            .filter(|(index, lane)| *index != first && lane.takes_copies() && lane.path.send_budget(now) > 0)
            .min_by_key(|(_, lane)| lane.path.arrival_after(0, now))
            .map(|(index, _)| index)
    }

    /// The other paths that take a copy in mode `redundant`, the quickest first.
    pub(super) fn copy_lanes(&self, first: usize, now: Timestamp) -> Vec<usize> {
        let mut others: Vec<_> = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(index, lane)| *index != first && lane.is_active() && lane.takes_copies())
            .map(|(index, lane)| (lane.path.arrival_after(0, now), index))
            .collect();
        others.sort_unstable();
        others.into_iter().map(|(_, index)| index).take(self.max_redundant - 1).collect()
    }

    /// How patient the ingress queue is: a flow may have as much backlog as it takes to use the slowest useful path, and what its
    /// own congestion control needs to stay busy after a loss.
    pub(super) fn codel_params(&self, now: Timestamp) -> CodelParams {
        let delays = self.in_reach().filter_map(delay_of);
        let (low, high) = delays.fold((i64::MAX, i64::MIN), |(low, high), d| (low.min(d), high.max(d)));
        let spread = Duration::from_micros(high.saturating_sub(low).clamp(0, 1_000_000) as u64);
        let rtt = self.in_reach().map(|lane| lane.path.rtt().smoothed()).max().unwrap_or_default();
        // What was queued for a path that died is more than the others take at once, and a packet dropped now costs its flow that queue once more.
        let patience = if now < self.patient_until { PATIENCE } else { Duration::ZERO };
        CodelParams {
            target: patience.max(Duration::from_millis(15) + spread + rtt / 2),
            interval: Duration::from_millis(100).max((rtt + spread) * 2),
        }
    }

    /// The round trip that dense flows have: over the quickest paths that together are half of what the bond is known to carry, and those that
    /// are not half as slow again; with what jitter adds, without what queues add. Zero where it is even by itself; none as long as no path,
    /// or only a part that is even, has been measured.
    pub(super) fn rtt_floor(&self) -> Option<Duration> {
        let mut paths: Vec<_> = self
            .usable()
            .filter(|(_, lane)| lane.path.rtt().is_measured())
            .map(|(_, lane)| (lane.path.rtt().min(), proven_rate(lane), dense_rtt(lane)))
            .collect();
        paths.sort_unstable_by_key(|(least, ..)| *least);
        let half = paths.iter().map(|(_, rate, _)| rate).sum::<u64>() / 2;
        let mut carried = 0;
        let (least, ..) = paths.iter().find(|(_, rate, _)| {
            carried += rate;
            carried >= half
        })?;
        let near = *least + (*least / 2).max(NEAR);
        let floor = paths.iter().filter(|(least, ..)| *least <= near).map(|(.., dense)| *dense).max();
        let floor = floor.unwrap_or_default();
        if floor >= paths[0].0 + EVEN {
            return Some(floor);
        }
        (paths.len() == self.usable().count()).then_some(Duration::ZERO)
    }
}

/// What a path has shown that it carries, in bit/s; zero as long as its source has been too slow to tell.
fn proven_rate(lane: &Lane) -> u64 {
    if lane.path.is_measured() { lane.path.delivery_rate().as_bps() } else { 0 }
}

/// What most packets' round trips over a path stay below.
fn dense_rtt(lane: &Lane) -> Duration {
    let (rtt, delay) = (lane.path.rtt(), lane.path.one_way_delay());
    let queue = Duration::from_micros((delay.smoothed() - delay.unqueued()).max(0) as u64);
    let bare = rtt.smoothed().saturating_sub(queue);
    bare + (rtt.variation() * 2).min(bare / 2)
}

/// The delay of a path without our own queue, the measure by which paths are quicker or slower than others: the one that is quickest by it is
/// never left unused.
fn delay_of(lane: &Lane) -> Option<i64> {
    let delay = lane.path.one_way_delay();
    delay.is_measured().then(|| delay.unqueued())
}
