//! One link: what was said about it, what was learnt, and how it stands.

use bondwire_units::{Bitrate, Timestamp};
use core::time::Duration;

use crate::config::{LinkConfig, MAX_TARGETS, Priority};
use crate::delay::Delay;
use crate::event::{Evidence, LinkState, LinkStatus};
use crate::flows::counts;
use crate::health::{Change, Health};
use crate::meter::{LEAST, Meter, Signs};
use crate::request::TcpSample;

/// Above this rate, in bits per second, a link carries enough for a queue.
const BUSY: f64 = 1e6;
/// For how long a link has to be full, or to have room again, before that counts.
const FULL_AFTER: Duration = Duration::from_millis(500);
const ROOM_AFTER: Duration = Duration::from_secs(3);
/// Less than this in one look at the counters is no answer but a neighbour's chatter.
const CHATTER: u64 = 200;
/// This much received lately proves that the link lives; half is forgotten in this time. Enough for the
/// acknowledgements of an upload of 1 Mbit/s, whose queue may hold up probes for a second.
const ANSWERS: f64 = 700.0;
const ANSWERS_FADE: f64 = 0.3;
/// Resets within a second that are a sign.
const RESETS: u32 = 5;

/// One direction's meter and what it is worth.
#[derive(Clone, Debug, Default)]
pub(crate) struct Side {
    pub(crate) meter: Meter,
    /// What the choice of links reckons with, in bits per second.
    pub(crate) capacity: f64,
    /// Sockets that transfer.
    pub(crate) transfers: u32,
}

impl Side {
    /// What a transfer gets, in bits per second; 0 if there is none.
    pub(crate) fn each(&self, now: Timestamp) -> f64 {
        if self.transfers == 0 { 0.0 } else { self.meter.rate(now) / f64::from(self.transfers) }
    }

    /// Whether a queue may be this direction's rather than that of `other`: it has transfers, or carries about all
    /// it can and more than acknowledgements.
    fn is_busier(&self, other: &Self, now: Timestamp) -> bool {
        let rate = self.meter.rate(now);
        let is_near = rate >= LEAST && rate >= self.meter.capacity() * 0.7;
        self.transfers > 0 || (is_near && rate > other.meter.rate(now) * 0.1)
    }
}

/// A link. A removed one keeps its slot, and what it knows, until another link needs the slot.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) config: LinkConfig,
    pub(crate) priority: Priority,
    pub(crate) is_present: bool,
    pub(crate) absent_since: Timestamp,
    pub(crate) health: Health,
    pub(crate) delay: Delay,
    pub(crate) up: Side,
    pub(crate) down: Side,
    /// Sockets of unknown size, and transfers that may still be growing.
    pub(crate) fresh: u32,
    pub(crate) growing: u32,
    pub(crate) sockets: u32,
    pub(crate) opened: u64,
    pub(crate) connects_failed: u64,
    /// Sockets that it got beyond its share, so far: what remains of exact proportions.
    pub(crate) credit: f64,
    pub(crate) is_full: bool,
    full_changed: Option<Timestamp>,
    answered: Timestamp,
    answers: f64,
    unanswered: Option<Timestamp>,
    looked: Option<Timestamp>,
    pub(crate) rotation: u8,
    /// Targets, as bits: that were asked since the link appeared; that ever answered here; that others outlived; that missed the last time.
    pub(crate) asked: u8,
    pub(crate) proven: u8,
    pub(crate) discredited: u8,
    /// Connects were answered: what no probe gets through, traffic does.
    pub(crate) carries: bool,
    missed: u8,
    doubts: [u8; MAX_TARGETS],
    retransmits: f64,
    resets: (u32, Timestamp),
}

impl Link {
    pub(crate) fn new(config: LinkConfig, now: Timestamp) -> Self {
        Self {
            priority: config.priority.resolve(config.kind),
            config,
            is_present: true,
            absent_since: now,
            health: Health::new(now),
            delay: Delay::default(),
            up: Side::default(),
            down: Side::default(),
            fresh: 0,
            growing: 0,
            sockets: 0,
            opened: 0,
            connects_failed: 0,
            credit: 0.0,
            is_full: false,
            full_changed: None,
            answered: now,
            answers: 0.0,
            unanswered: None,
            looked: None,
            rotation: 0,
            asked: 0,
            proven: 0,
            discredited: 0,
            carries: false,
            missed: 0,
            doubts: [0; MAX_TARGETS],
            retransmits: 0.0,
            resets: (0, now),
        }
    }

    pub(crate) fn configure(&mut self, config: LinkConfig) {
        self.priority = config.priority.resolve(config.kind);
        self.config = config;
    }

    pub(crate) fn may_be_used(&self) -> bool {
        self.is_present && self.priority != Priority::Never
    }

    pub(crate) fn is_stable(&self) -> bool {
        self.health.state() == LinkState::Stable
    }

    /// What it carried has moved: it failed, and is not trusted again yet.
    pub(crate) fn is_lost(&self) -> bool {
        matches!(self.health.state(), LinkState::Failed | LinkState::Returning)
    }

    /// It appears or vanishes: what the counters said is over.
    pub(crate) fn on_presence(&mut self, is_present: bool, now: Timestamp) {
        self.is_present = is_present;
        self.absent_since = now;
        self.looked = None;
        self.unanswered = None;
        self.answered = now;
        self.answers = 0.0;
        self.is_full = false;
        self.full_changed = None;
        (self.asked, self.discredited, self.carries) = (0, 0, false);
        self.up.meter.restart();
        self.down.meter.restart();
        if is_present {
            self.health.on_appeared(now);
        } else {
            self.health.on_removed(now);
        }
    }

    pub(crate) fn limits(&self) -> (f64, f64) {
        let limit = |limit: Option<Bitrate>| limit.map_or(f64::INFINITY, |rate| rate.as_bps() as f64);
        (limit(self.config.limit_up), limit(self.config.limit_down))
    }

    pub(crate) fn is_busy(&self, now: Timestamp) -> bool {
        let rate = self.up.meter.rate(now).max(self.down.meter.rate(now));
        rate >= BUSY || self.up.transfers + self.down.transfers > 0
    }

    /// Counts a socket's part of the load in or out.
    pub(crate) fn count(&mut self, counted: u8, step: i32) {
        let bump = |n: &mut u32| *n = n.saturating_add_signed(step);
        if counted & counts::FRESH != 0 {
            bump(&mut self.fresh);
        }
        if counted & counts::GROWING != 0 {
            bump(&mut self.growing);
        }
        if counted & counts::UP != 0 {
            bump(&mut self.up.transfers);
        }
        if counted & counts::DOWN != 0 {
            bump(&mut self.down.transfers);
        }
    }

    /// Takes the counters, and what a transfer gets where it gets most, up and down; what passed up and down since the last ones, and what that says of the link's health.
    pub(crate) fn on_counters(
        &mut self,
        received: u64,
        sent: u64,
        best: (f64, f64),
        testable: bool,
        now: Timestamp,
    ) -> (u64, u64, Option<Change>) {
        let inflated = self.delay.is_inflated(now);
        let (up_poor, down_poor) = (self.up.each(now) < best.0 / 2.0, self.down.each(now) < best.1 / 2.0);
        let before = self.down.meter.rate(now);
        let (up, down) = (self.up.transfers, self.down.transfers);
        let (up_busy, down_busy) = (self.up.is_busier(&self.down, now), self.down.is_busier(&self.up, now));
        let signs = |poor, transfers, other_busy| Signs { inflated, poor, transfers, other_busy };
        let sent = self.up.meter.update(sent, signs(up_poor, up, down_busy), now);
        let received = self.down.meter.update(received, signs(down_poor, down, up_busy), now);
        let looked = self.looked.replace(now).unwrap_or(now);
        let (Some(sent), Some(received)) = (sent, received) else { return (0, 0, None) };
        let change = self.on_passed(received, sent, before, testable, looked, now);
        self.on_fullness(now);
        (sent, received, change)
    }

    /// `looked`: when the counters were seen before; `before`: what was being received then.
    fn on_passed(
        &mut self,
        received: u64,
        sent: u64,
        before: f64,
        testable: bool,
        looked: Timestamp,
        now: Timestamp,
    ) -> Option<Change> {
        if received >= CHATTER.max(sent / 200) {
            self.answered = now;
            self.unanswered = None;
            let fade = (-now.since(looked).as_secs_f64() / ANSWERS_FADE).exp2();
            self.answers = self.answers * fade + received as f64;
            return if self.answers >= ANSWERS { self.health.on_traffic(now) } else { None };
        }
        if sent > 0 {
            self.unanswered.get_or_insert(looked);
        }
        let silence = self.delay.silence();
        let sends_only = self.unanswered.is_some_and(|since| now.since(since) > silence);
        // A download that stops leaves nothing to acknowledge: nothing is sent either.
        let stopped = before >= 100e3 && self.down.transfers > 0 && now.since(self.answered) > silence;
        let worth_asking = testable || self.fresh + self.down.transfers + self.up.transfers > 0;
        if (sends_only || stopped) && worth_asking {
            self.unanswered = Some(now.saturating_sub(silence));
            return self.health.on_suspicion(Evidence::SendsOnly, testable, now);
        }
        None
    }

    fn on_fullness(&mut self, now: Timestamp) {
        let (up, down) = self.limits();
        let is_full = self.up.meter.is_full(up, now) || self.down.meter.is_full(down, now);
        if is_full == self.is_full {
            self.full_changed = None;
            return;
        }
        let since = *self.full_changed.get_or_insert(now);
        if now.since(since) >= if is_full { FULL_AFTER } else { ROOM_AFTER } {
            self.is_full = is_full;
            self.full_changed = None;
        }
    }

    pub(crate) fn on_tcp_sample(
        &mut self,
        sample: TcpSample,
        testable: bool,
        now: Timestamp,
    ) -> Option<Change> {
        if let Some(rtt) = sample.rtt {
            let busy = self.is_busy(now);
            self.delay.on_tcp(rtt, busy, now);
        }
        if sample.sent > 0 {
            let ratio = (sample.retransmitted as f64 / sample.sent as f64).min(1.0);
            self.retransmits += (ratio - self.retransmits) * 0.3;
        }
        if sample.stalled > 0 && sample.progressing == 0 {
            return self.health.on_suspicion(Evidence::Retransmits, testable, now);
        }
        None
    }

    pub(crate) fn on_reset(&mut self, testable: bool, now: Timestamp) -> Option<Change> {
        if now.since(self.resets.1) > Duration::from_secs(1) {
            self.resets = (0, now);
        }
        self.resets.0 += 1;
        let alone = now.since(self.answered) > self.delay.silence();
        if self.resets.0 >= RESETS && (testable || alone) {
            self.resets.0 = 0;
            return self.health.on_suspicion(Evidence::Resets, testable, now);
        }
        None
    }

    /// Target `index` answered: those that missed meanwhile are doubted, since the link lives.
    pub(crate) fn on_target_answered(&mut self, index: usize) {
        let bit = 1 << index;
        self.proven |= bit;
        self.discredited &= !bit;
        self.missed &= !bit;
        self.doubts[index] = 0;
        for (other, doubts) in self.doubts.iter_mut().enumerate() {
            if self.missed >> other & 1 == 1 {
                *doubts = doubts.saturating_add(1);
                if *doubts >= 2 {
                    self.discredited |= 1 << other;
                }
            }
        }
        self.missed = 0;
    }

    /// Target `index` cannot be asked over this link.
    pub(crate) fn on_target_excluded(&mut self, index: usize) {
        self.discredited |= 1 << index;
    }

    pub(crate) fn on_target_missed(&mut self, index: usize) {
        self.missed |= 1 << index;
    }

    pub(crate) fn status(&self, share: f64, now: Timestamp) -> LinkStatus {
        let capacity = |side: &Side| {
            Some(Bitrate::from_bps(side.meter.capacity() as u64)).filter(|&capacity| capacity > Bitrate::ZERO)
        };
        let rate = |side: &Side| Bitrate::from_bps(side.meter.rate(now) as u64);
        LinkStatus {
            link: self.config.id,
            name: self.config.name.clone(),
            kind: self.config.kind,
            priority: self.priority,
            state: self.health.state(),
            since: self.health.since(),
            why: self.health.why(),
            share,
            capacity_up: capacity(&self.up),
            capacity_down: capacity(&self.down),
            is_capacity_known: self.up.meter.is_known(now) || self.down.meter.is_known(now),
            rate_up: rate(&self.up),
            rate_down: rate(&self.down),
            is_full: self.is_full,
            rtt: self.delay.present(),
            idle_rtt: self.delay.idle(),
            retransmits: self.retransmits,
            sockets: self.sockets,
            opened: self.opened,
            connects_failed: self.connects_failed,
            failures: self.health.failures(),
            patience: self.delay.patience(),
        }
    }
}
