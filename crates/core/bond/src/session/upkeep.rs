//! What time demands: deadlines, path states, giving up, demotion.

use super::content::{Control, Item};
use super::priority::Tier;
use super::send::SHORT_CHALLENGE;
use super::{Delivery, Lane, Outlet, Session, SessionEvent};
use crate::types::PathChange;
use bondwire_path::{PathState, Traffic};
use bondwire_units::{Bitrate, Deadline, Timestamp};
use bondwire_wire::Mode;
use bondwire_wire::frame::{PathState as PeerState, PathStatus};
use core::time::Duration;

/// How often slow things are looked after.
const UPKEEP: Duration = Duration::from_millis(50);
/// Loss above which a path slows the others down more than it carries, where there are others: each loss there is
/// repaired elsewhere a round trip later, and ordered flows wait for it.
const POISON_LOSS: f64 = 0.15;
/// In so many windows in a row, each of so long and so many packets, during which no queue stood: a burst that overflows a queue is no poison.
const BAD_WINDOWS: u32 = 2;
const WINDOW: Duration = Duration::from_millis(200);
const WINDOW_PACKETS: u64 = 30;
const NO_QUEUE: Duration = Duration::from_millis(25);
/// A demoted path is tried again after this; each time it fails the wait doubles.
const DEMOTION_FIRST: Duration = Duration::from_secs(5);
const DEMOTION_LONGEST: Duration = Duration::from_secs(60);
/// For so long after a path's fall its flows' queues are left alone.
const PATIENT: Duration = Duration::from_secs(5);
const PACER_ROUNDING: Duration = Duration::from_micros(50);
/// For so long a path that is tried again is not judged.
const TRIAL: Duration = Duration::from_secs(2);
/// A flow counts as traffic for so long after its last packet.
const TRAFFIC: Duration = Duration::from_secs(10);

impl Session {
    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, delivery: &mut Delivery<'_>, now: Timestamp) {
        for index in 0..self.lanes.len() {
            let mut lost = core::mem::take(&mut self.lost);
            self.lanes[index].path.handle_timeout(&mut lost, now);
            for content in lost.drain(..) {
                self.on_lost_on(index, content, now);
            }
            self.lost = lost;
            self.give_up_on_parities(index, Some(now));
            self.after_path_change(index, now);
        }
        self.keys.handle_timeout(now);
        let wait = self.order_wait();
        let mut outlet = Outlet { batch: delivery.batch, smoother: &mut self.smoother, now };
        self.order.handle_timeout(wait, &mut outlet, &mut self.pool, now);
        self.smoother.handle_timeout(delivery.batch, now);
        if now >= self.upkeep_due {
            self.upkeep_due = now + UPKEEP;
            self.upkeep(now);
        }
    }

    /// When to call again.
    pub(crate) fn poll_deadline(&self, now: Timestamp) -> Option<Deadline> {
        if self.close.is_some() {
            return None;
        }
        let mut next = self
            .order
            .poll_deadline(self.order_wait())
            .map(|at| Deadline::new(at, "a gap has been waited for"));
        let held = self.smoother.poll_deadline();
        next =
            Deadline::earliest(next, held.map(|at| Deadline::new(at, "an acknowledgement that came early")));
        if self.is_alive() {
            next = Deadline::earliest(next, self.keys.poll_deadline());
        }
        if self.has_work() {
            next = Deadline::earliest(next, Some(Deadline::new(self.upkeep_due, "upkeep")));
        }
        // Until a path is proven there is none that could carry an acknowledgement.
        let proven = self.lanes.iter().any(|lane| lane.challenge.is_none());
        for lane in &self.lanes {
            next = Deadline::earliest(next, lane.path.poll_deadline());
            let parity =
                lane.guard.poll_deadline().map(|at| Deadline::new(at, "a parity that has not helped"));
            next = Deadline::earliest(next, parity);
            let cross = lane.cross.as_ref().and_then(|cross| cross.poll_deadline());
            next = Deadline::earliest(next, cross.map(|at| Deadline::new(at, "a real-time parity")));
            let quiet = self.ingress.bytes() == 0 && self.repairs.is_empty();
            if quiet
                && lane.is_active()
                && let Some(tail) = lane.guard.tail_due()
                && let Some(pacer) = lane.path.poll_send_time(now)
            {
                // The pacer's time is rounded: a moment later it has credit for certain.
                let pacer = if pacer > now { pacer + PACER_ROUNDING } else { pacer };
                let at = Deadline::new(tail.max(pacer), "the parity of a burst");
                next = Deadline::earliest(next, Some(at));
            }
            if let Some(challenge) = lane.challenge.filter(|_| lane.allowance.is_none_or(|a| a >= 1_200)) {
                next = Deadline::earliest(next, Some(Deadline::new(challenge.due, "a challenge")));
            }
            if let Some(candidate) = lane.candidate {
                let may = candidate.allowance >= SHORT_CHALLENGE;
                let at = if may { candidate.expires.min(candidate.challenge.due) } else { candidate.expires };
                next = Deadline::earliest(next, Some(Deadline::new(at, "a changed address")));
            }
            if let Some(at) = lane.path.ack_deadline().filter(|_| proven) {
                next = Deadline::earliest(next, Some(Deadline::new(at, "an acknowledgement")));
            }
            if lane.is_active()
                && (self.ingress.bytes() > 0
                    || !self.repairs.is_empty()
                    || !self.urgent_repairs.is_empty()
                    || !lane.copies.is_empty())
                && let Some(at) =
                    lane.path.poll_send_time(now).map(|at| at.max(lane.room.at())).filter(|at| *at > now)
            {
                // A path that has room now and got nothing is one that a flow is better off without: not even a moment later.
                next = Deadline::earliest(next, Some(Deadline::new(at, "the pacer")));
            }
        }
        next
    }

    /// Whether anything is under way that needs looking after.
    fn has_work(&self) -> bool {
        self.ingress.bytes() > 0
            || self.store.bytes() > 0
            || self.order.held_bytes() > 0
            || self.lanes.iter().any(|lane| lane.demotion.active || !lane.copies.is_empty())
            || self.upkeep_due.since(self.last_data) < TRAFFIC + UPKEEP * 2
    }

    fn upkeep(&mut self, now: Timestamp) {
        while let Some(stored) = self.store.poll_given_up(now) {
            if !stored.ordered {
                self.pool.give_back(stored.bytes);
                continue;
            }
            // docs/protocol.md, DATA-7
            match self.control.back_mut() {
                Some(Control::Skip { flow, first, count })
                    if *flow == stored.flow
                        && *first + u64::from(*count) == stored.sequence
                        && *count < u16::MAX =>
                {
                    *count += 1;
                }
                _ => self.control.push_back(Control::Skip {
                    flow: stored.flow,
                    first: stored.sequence,
                    count: 1,
                }),
            }
            self.counters.given_up += 1;
            self.pool.give_back(stored.bytes);
        }
        self.ingress.set_params(self.codel_params(now));
        self.ingress.hurry(now < self.patient_until);
        self.ingress.forget_delivered(&self.store);
        self.smoother.set_floor(self.rtt_floor(), now);
        self.upkeep_streams(now);
        let traffic = if now.since(self.last_data) < TRAFFIC { Traffic::Bulk } else { Traffic::Idle };
        let pto = self.lanes.iter().map(|lane| lane.path.rtt().pto()).max().unwrap_or_default();
        self.keys.set_old_key_life((pto * 3).clamp(Duration::from_secs(1), Duration::from_secs(10)));
        self.watch_priorities(now);
        self.share_memory();
        for index in 0..self.lanes.len() {
            let traffic = if self.lanes[index].tier == Tier::Standby { Traffic::Idle } else { traffic };
            let traffic = if self.carries_real_time(index) { Traffic::Realtime } else { traffic };
            self.lanes[index].path.set_traffic(traffic, now);
            self.judge(index, now);
            let lane = &mut self.lanes[index];
            lane.guard.set_loss(if self.mode == Mode::Redundant { 0.0 } else { lane.path.own_loss() });
            if lane.cross.as_ref().is_some_and(|cross| cross.is_unused(now)) {
                lane.cross = None;
            }
            if lane.solver.as_ref().is_some_and(|solver| solver.is_unused(now)) {
                lane.solver = None;
            }
        }
    }

    /// Keeps a path out of use that loses so much that the bond is better without it, and tries it again later.
    fn judge(&mut self, index: usize, now: Timestamp) {
        // Paths that together carry less than this one do not replace it, however much it loses.
        let rest: Bitrate = self
            .lanes
            .iter()
            .enumerate()
            .filter(|(i, lane)| *i != index && lane.is_useful())
            .map(|(_, lane)| lane.path.delivery_rate())
            .sum();
        let lane = &mut self.lanes[index];
        let others = rest > Bitrate::ZERO && rest >= lane.path.delivery_rate();
        if lane.demotion.active {
            if now >= lane.demotion.until || !others {
                lane.demotion.active = false;
                lane.demotion.until = now;
            }
            return;
        }
        // A path that is tried again gets time to show what it loses now.
        let settled = now.since(lane.demotion.until) >= TRIAL;
        lane.count_losses(now);
        let poisoned = lane.demotion.bad >= BAD_WINDOWS && lane.path.own_loss() > POISON_LOSS;
        if settled && lane.is_active() && others && poisoned {
            let relapse = now.since(lane.demotion.until) < DEMOTION_LONGEST;
            let span = if relapse { lane.demotion.span * 2 } else { DEMOTION_FIRST };
            lane.demotion.span = span.min(DEMOTION_LONGEST);
            lane.demotion.until = now + lane.demotion.span;
            lane.demotion.active = true;
        }
    }

    /// To be called after whatever may have changed a path's state: what sits on a path in doubt goes out again elsewhere, the peer and the
    /// endpoint are told.
    pub(super) fn after_path_change(&mut self, index: usize, now: Timestamp) {
        let lane = &mut self.lanes[index];
        let (from, to) = (lane.state, lane.path.state());
        if from == to {
            return;
        }
        lane.state = to;
        self.assign_tiers(now);
        let lane = &mut self.lanes[index];
        let change = PathChange { path: lane.id, link: lane.route.link, from, to };
        self.events.push_back(SessionEvent::Path(change));
        if from == PathState::Active {
            // What the peer sends again of what has arrived keeps a slower path busy.
            lane.path.acknowledge_again(now);
            self.rescue_in_flight(index, now);
            self.give_up_on_parities(index, None);
            self.on_fall(index, now);
            while let Some(copy) = self.lanes[index].copies.pop_front() {
                if let super::lane::Outgoing::Once { bytes, .. } = copy.packet {
                    self.pool.give_back(bytes);
                }
            }
        }
        let down = self.lanes[index].link_down;
        let state = match to {
            PathState::Active => PeerState::Usable,
            _ if down => PeerState::NotUsable,
            _ => PeerState::Standby,
        };
        if from != PathState::Probing {
            self.tell_status(index, state);
        }
    }

    /// A path is in doubt: the others take over what it carried.
    fn on_fall(&mut self, index: usize, now: Timestamp) {
        let gone = self.lanes[index].path.delivery_rate();
        let rest: Bitrate =
            self.lanes.iter().filter(|lane| lane.is_active()).map(|lane| lane.path.delivery_rate()).sum();
        // A thin link that comes and goes is no reason to let queues grow.
        if gone.as_bps() < rest.as_bps() / 4 {
            return;
        }
        self.patient_until = now + PATIENT;
        self.ingress.set_params(self.codel_params(now));
        self.ingress.hurry(true);
        if gone < rest {
            return;
        }
        // They have carried little, and what they can carry may be more than they have shown.
        for lane in self.lanes.iter_mut().filter(|lane| lane.is_useful()) {
            lane.path.on_takeover(now);
        }
    }

    /// Lets everything that is under way on a path go out again, wherever it arrives soonest. What went last is lost; of what went before that
    /// perhaps only the acknowledgement is missing. On a slow path the one lasts as long as the other, and nobody can tell where the border is: they
    /// take turns, so that the receiver has something to go on with either way.
    pub(super) fn rescue_in_flight(&mut self, index: usize, now: Timestamp) {
        let mut lost = Vec::new();
        let arrived = self.lanes[index].path.take_in_flight(&mut lost, now);
        let lost_for_certain = lost.split_off(arrived);
        let mut lists = [lost_for_certain.into_iter().peekable(), lost.into_iter().peekable()];
        while lists.iter_mut().any(|list| list.peek().is_some()) {
            for content in lists.iter_mut().filter_map(Iterator::next) {
                for item in content.items() {
                    self.rescue(item);
                }
            }
        }
    }

    fn rescue(&mut self, item: Item) {
        match item {
            Item::Data(id) | Item::Fragment(id, _, _) => {
                if self.store.on_doubtful(id) {
                    self.queue_repair(id);
                    self.counters.rescued += 1;
                }
            }
            Item::Control(control) => self.control_again(control),
        }
    }

    fn tell_status(&mut self, index: usize, state: PeerState) {
        self.status_sequence += 1;
        let lane = &self.lanes[index];
        let loss = (lane.path.loss().clamp(0.0, 1.0) * 65_535.0) as u16;
        let status = PathStatus { path: lane.id, sequence: self.status_sequence, state, loss };
        self.lanes[index].status_told = self.status_sequence;
        self.control.push_back(Control::Status(status));
    }
}

impl Lane {
    /// Closes the window in which losses are counted, if it is over.
    fn count_losses(&mut self, now: Timestamp) {
        let (began, sent_before, lost_before) = self.demotion.window;
        let (sent, (lost, spurious)) = (self.path.next_number(), self.path.lost_and_spurious());
        let lost = lost.saturating_sub(spurious);
        let packets = sent - sent_before;
        self.demotion.queued |= self.path.one_way_delay().standing_queue() > NO_QUEUE;
        if now.since(began) < WINDOW || packets < WINDOW_PACKETS {
            return;
        }
        let high = lost.saturating_sub(lost_before) as f64 > POISON_LOSS * packets as f64;
        self.demotion.bad = if high && !self.demotion.queued { self.demotion.bad + 1 } else { 0 };
        self.demotion.queued = false;
        self.demotion.window = (now, sent, lost);
    }
}
