//! The controller's phases and every step from one to the next.

use bondwire_units::Timestamp;
use core::time::Duration;

use super::{AckEvent, Congestion};
use crate::one_way::OneWayDelay;

/// Startup: a pulse of this much, seen in a sample of its own, doubles the rate in each round and has something to spare for what blurs it.
pub(super) const STARTUP_GAIN: f64 = 2.5;
/// The first probe of a cycle sends this much faster, or so much that [`UP_EXTRA`] is sent on top.
const UP: f64 = 0.2;
/// The least that a probe is stronger.
const MIN_UP: f64 = 0.06;
/// The strongest probe.
const MAX_UP: f64 = 0.5;
/// What a first probe sends on top of the rate, at most, in time at the rate.
const UP_EXTRA: Duration = Duration::from_millis(12);
/// A probe that found more is followed by one that much stronger.
const STRONGER: f64 = 1.5;
/// The strongest probe, in first ones.
const STRONGEST: f64 = 4.0;
/// While a probe's queue drains.
const DOWN_GAIN: f64 = 0.75;
/// While a standing queue drains.
const GUARD_GAIN: f64 = 0.7;
/// While the base delay is looked for.
const DELAY_GAIN: f64 = 0.5;
/// The window's gain but in startup and while draining.
const WINDOW_GAIN: f64 = 2.0;
/// The share of a probe's extra that must arrive to make it a success.
const GROWTH: f64 = 0.4;
/// Loss beyond one and a half times the link's own that is of our making.
const OVERFLOW: f64 = 0.03;
/// How much slower cruising may become for a standing queue.
const MAX_EASING: f64 = 0.08;
/// The standing queue that cruising does not mind, besides the unrest of the link.
const EASE_ABOVE: Duration = Duration::from_millis(3);
/// The least and the greatest span of a probe.
pub(super) const MIN_SPAN: Duration = Duration::from_millis(40);
pub(super) const MAX_SPAN: Duration = Duration::from_millis(150);
/// The greatest span on a restless link, where a short one measures its jitter.
pub(super) const MAX_RESTLESS_SPAN: Duration = Duration::from_millis(300);
/// The most that startup's patience with a queue grows by the link's jitter.
const MAX_NOISE: Duration = Duration::from_millis(60);
/// How long startup sends faster than what it knows, in each round: long enough for a sample, short enough for the
/// queue that the last one makes.
const MIN_PULSE: Duration = Duration::from_millis(10);
const MAX_PULSE: Duration = Duration::from_millis(30);
/// How many full packets a pulse has at least, if that takes no longer than this.
const PULSE_PACKETS: usize = 8;
const LONGEST_PULSE: Duration = Duration::from_millis(100);
/// Spans of cruising between two probes, to which up to half as much is added by the path's seed.
const CRUISE_SPANS: u32 = 6;
/// The longest that cruising lasts without that.
const MAX_CRUISE: Duration = Duration::from_millis(900);
/// What the drain after a probe takes out besides what the probe put in, so that the base is seen each time.
const DOWN_EXTRA: Duration = Duration::from_millis(3);
/// The most that an estimate is lowered at the end of a cruise in which a queue stood.
const TRIM: f64 = 0.97;
/// A base that is out of reach twice within this time is no other base: somebody else fills the queue.
const RIVAL_MEMORY: Duration = Duration::from_secs(8);
/// The most of a queue that one drain takes on.
const MAX_DRAIN: Duration = Duration::from_millis(100);
/// So many drains in a row that did not help: the queue is not ours.
const FAILED_DRAINS: u32 = 3;
/// So many guards, none of them long after the one before, each of which lowered the estimate to this, and altogether so far: the same.
const RIVAL_GUARDS: u32 = 4;
const RIVAL_STEP: f64 = 0.95;
const RIVAL_SHRANK: f64 = 0.75;
/// On a link that jitters more than this, or reorders, guards are no evidence.
const RIVAL_JITTER: Duration = Duration::from_micros(2_500);
/// The share of the link that is taken beside somebody else.
const SHARE: f64 = 0.5;
/// After so many spans in which the queue stood still it is drained to see whose it is: a rival's moves.
const FLAT_SPANS: u32 = 3;
/// The part of that share that must arrive.
const DROPPED: f64 = 0.85;
/// How often it is asked whether the other one is still there.
const SHARE_SPAN: Duration = Duration::from_secs(2);
/// How long a base delay is believed without having been near it.
const BASE_EXPIRY: Duration = Duration::from_secs(10);

/// What the controller is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Doubling each round.
    Startup,
    /// Letting startup's queue go.
    Drain { until: Timestamp },
    /// At the estimated rate.
    Cruise { until: Timestamp },
    /// Probing for more.
    Up { until: Timestamp },
    /// Letting the probe's queue go.
    Down { from: Timestamp, until: Timestamp },
    /// Draining a standing queue of `queue`, having believed in `believed`.
    Guard { check: Timestamp, queue: Duration, believed: f64 },
    /// Beside somebody who fills the queue: at a share of the rate `believed`, whatever the delay is. `queue` is the
    /// least and the greatest one of this span, `flat` counts the spans in which it did not move.
    Share { until: Timestamp, believed: f64, queue: (Duration, Duration), flat: u32 },
    /// Looking for the base delay.
    ProbeDelay { until: Timestamp },
}

impl Phase {
    pub(super) fn is_startup(self) -> bool {
        self == Self::Startup
    }

    pub(super) fn is_sharing(self) -> bool {
        matches!(self, Self::Share { .. })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Drain { .. } => "drain",
            Self::Cruise { .. } => "cruise",
            Self::Up { .. } => "up",
            Self::Down { .. } => "down",
            Self::Guard { .. } => "guard",
            Self::Share { .. } => "share",
            Self::ProbeDelay { .. } => "probe delay",
        }
    }
}

impl Congestion {
    pub(super) fn enter_startup(&mut self, now: Timestamp) {
        self.plateau = 0;
        self.plateau_rate = 0.0;
        self.phase = Phase::Startup;
        self.gain = STARTUP_GAIN;
        self.window_gain = STARTUP_GAIN;
        self.pulse_until = now + self.pulse();
    }

    /// How long a pulse of startup lasts; longer where jitter would hide it, or it would be a few packets only.
    pub(super) fn pulse(&self) -> Duration {
        let usual = (self.pipe / 2).clamp(MIN_PULSE, MAX_PULSE + (self.noise * 4).min(MAX_NOISE));
        let rate = (self.believed() * STARTUP_GAIN).max(1.0);
        let packets = Duration::from_secs_f64((PULSE_PACKETS * self.packet) as f64 / rate);
        usual.max(packets.min(self.pipe).min(LONGEST_PULSE))
    }

    fn enter_cruise(&mut self, now: Timestamp) {
        self.stagger =
            self.stagger.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let least = self.pipe + self.span;
        let rest = if self.unproven { least } else { (self.span * CRUISE_SPANS).min(MAX_CRUISE).max(least) };
        let extra = (rest / 2).mul_f64((self.stagger >> 40) as f64 / f64::from(1_u32 << 24));
        self.phase = Phase::Cruise { until: now + rest + extra };
        self.gain = 1.0;
        self.window_gain = WINDOW_GAIN;
    }

    /// Probes `strength` times as strongly as a first probe.
    fn enter_up(&mut self, strength: f64, delay: &OneWayDelay, now: Timestamp) {
        self.probe_base = self.bandwidth.get();
        self.probe_strength = strength;
        let span = self.span.as_secs_f64();
        // Less than a packet on top is no probe.
        let packet = self.packet as f64 / (self.believed() * span).max(1.0);
        let first = (UP_EXTRA.as_secs_f64() / span).clamp(MIN_UP, UP).max(packet.min(MAX_UP));
        self.probe_queue = delay.quick_queue();
        self.phase = Phase::Up { until: now + self.span };
        self.gain = 1.0 + (first * strength).min(MAX_UP);
        self.probe_gain = self.gain;
        self.window_gain = WINDOW_GAIN;
    }

    fn enter_down(&mut self, now: Timestamp) {
        let extra = self.span.mul_f64((self.gain - 1.0).max(0.0)) + DOWN_EXTRA;
        let length = extra.mul_f64(1.0 / (1.0 - DOWN_GAIN));
        self.phase = Phase::Down { from: now, until: now + length.min(MAX_RESTLESS_SPAN) };
        self.gain = DOWN_GAIN;
    }

    /// Drains a standing queue. `rate` is what arrived while it stood: the link's rate.
    fn enter_guard(&mut self, rate: Option<f64>, delay: &OneWayDelay, now: Timestamp) {
        let queue = delay.standing_queue();
        let believed = match self.phase {
            Phase::Guard { believed, .. } => believed,
            _ => self.bandwidth.get(),
        };
        if let Some(rate) = rate {
            self.bandwidth.set(rate.clamp(believed / 4.0, believed));
        }
        let drain = queue.min(MAX_DRAIN).mul_f64(1.0 / (1.0 - GUARD_GAIN));
        self.phase = Phase::Guard { check: now + drain + self.pipe + self.queue_window(), queue, believed };
        self.gain = GUARD_GAIN;
        self.window_gain = 1.25;
    }

    /// The base was out of reach again: takes a share, and leaves the queue to whoever fills it.
    fn enter_share(&mut self, believed: f64, now: Timestamp) {
        self.height = believed;
        self.bandwidth.set(believed * SHARE);
        self.phase = self.share(believed, 0, now);
        self.gain = 1.0;
        self.window_gain = WINDOW_GAIN;
    }

    fn share(&self, believed: f64, flat: u32, now: Timestamp) -> Phase {
        let until = now + SHARE_SPAN.max(self.pipe * 3);
        Phase::Share { until, believed, queue: (Duration::MAX, Duration::ZERO), flat }
    }

    fn in_share(&mut self, delay: &mut OneWayDelay, now: Timestamp) {
        let Phase::Share { until, believed, queue: (trough, peak), flat } = self.phase else { return };
        delay.keep_base(now);
        let (trough, peak) = (trough.min(delay.quick_queue()), peak.max(delay.quick_queue()));
        self.bandwidth.set(believed * SHARE);
        if now < until {
            self.phase = Phase::Share { until, believed, queue: (trough, peak), flat };
            return;
        }
        let arrives = self.bandwidth.latest().is_none_or(|rate| rate >= believed * SHARE * DROPPED);
        let flat = if peak - trough < self.tolerance(delay) { flat + 1 } else { 0 };
        if peak <= self.tolerance(delay) {
            // The queue is at rest: whoever filled it has gone. If not, one failed drain will show it.
            self.rebased_at = Some(now);
            (self.guards, self.guarded_at) = (RIVAL_GUARDS - 1, now);
            (self.height, self.low) = (believed, believed);
            self.bandwidth.set(believed);
            self.probe_base = believed;
            self.enter_cruise(now);
        } else if !arrives || flat >= FLAT_SPANS {
            // The link became slower and the queue is our own, or its base delay moved: one drain tells.
            self.rebased_at = None;
            self.failed_drains = FAILED_DRAINS - 1;
            self.enter_guard(self.bandwidth.latest(), delay, now);
        } else {
            self.phase = self.share(believed, flat, now);
        }
    }

    /// The standing queue above which the guard steps in.
    fn tolerance(&self, delay: &OneWayDelay) -> Duration {
        let unrest = (delay.unrest() * 3 / 2).min(Duration::from_millis(30));
        (self.pipe / 4).clamp(Duration::from_millis(12), Duration::from_millis(20)) + delay.jitter() + unrest
    }

    /// One step of the machine, with each acknowledgement.
    pub(super) fn advance(&mut self, ack: &AckEvent<'_>, delay: &mut OneWayDelay, now: Timestamp) {
        match self.phase {
            Phase::Startup => self.in_startup(ack, delay, now),
            Phase::Drain { until } => {
                let full = (self.bandwidth.get() * self.pipe.as_secs_f64()) as usize;
                let drained = delay.quick_queue() < Duration::from_millis(2);
                if ack.in_flight <= full || now >= until || drained {
                    // The delays of startup, with little on the way, may be out of reach by what the link jitters.
                    delay.raise_base(self.noise * 4, now);
                    self.enter_cruise(now);
                }
            }
            Phase::Cruise { until } => {
                if self.guarded(ack, delay, now) || self.grew(ack, delay, now) {
                } else if now >= until {
                    self.after_cruise(ack, delay, now);
                } else {
                    self.ease(delay);
                }
            }
            Phase::Up { until } => self.in_up(until, ack, delay, now),
            Phase::Down { from, until } => {
                let drained = delay.quick_queue().is_zero() && now.since(from) >= self.span.min(self.pipe);
                if self.grew(ack, delay, now) {
                } else if now >= until || drained {
                    self.enter_cruise(now);
                }
            }
            Phase::Guard { check, queue, believed } => self.in_guard(check, queue, believed, delay, now),
            Phase::Share { .. } => self.in_share(delay, now),
            Phase::ProbeDelay { until } => {
                if now >= until {
                    delay.rebase(now);
                    self.enter_cruise(now);
                }
            }
        }
    }

    fn in_startup(&mut self, ack: &AckEvent<'_>, delay: &OneWayDelay, now: Timestamp) {
        let limit = (ack.rtt.min() / 4).clamp(Duration::from_millis(8), Duration::from_millis(15));
        let queued = delay.quick_queue() > limit + delay.jitter() + (self.noise * 3).min(MAX_NOISE);
        if ack.round_start {
            // As it was before this round: a queue that builds up in it must not excuse itself.
            self.noise = self.noise.max(Duration::from_micros(delay.variation().max(0) as u64));
        }
        if ack.round_start && ack.rate.is_some_and(|sample| !sample.limited) {
            if self.bandwidth.get() > self.plateau_rate * 1.25 {
                self.plateau_rate = self.bandwidth.get();
                self.plateau = 0;
            } else {
                self.plateau += 1;
            }
        }
        if self.bandwidth.get() > 0.0 && (queued || self.plateau >= 3) {
            self.phase = Phase::Drain { until: now + self.pipe * 2 };
            self.gain = DELAY_GAIN;
            self.window_gain = WINDOW_GAIN;
            self.probe_base = self.bandwidth.get();
            self.unproven = true;
        } else if ack.round_start {
            self.gain = STARTUP_GAIN;
            self.pulse_until = now + self.pulse();
        }
    }

    /// Starts the guard if a queue stands.
    fn guarded(&mut self, ack: &AckEvent<'_>, delay: &OneWayDelay, now: Timestamp) -> bool {
        let stands =
            delay.standing_queue() > self.tolerance(delay) && ack.rate.is_some_and(|sample| !sample.limited);
        if stands {
            self.failed_drains = 0;
            let before = self.bandwidth.get();
            self.enter_guard(self.bandwidth.latest(), delay, now);
            if self.is_rival(before, now) && is_evidence(delay) {
                self.enter_share(self.height, now);
            }
        }
        stands
    }

    /// Whether guard after guard took from the estimate. A link that became slower needs one of them; somebody who takes what is left free
    /// takes again each time.
    fn is_rival(&mut self, before: f64, now: Timestamp) -> bool {
        let rate = self.bandwidth.get();
        if now.since(self.guarded_at) > RIVAL_MEMORY || self.unproven {
            (self.guards, self.height, self.low) = (0, 0.0, before);
        }
        self.guarded_at = now;
        self.height = self.height.max(before);
        if rate < self.low * RIVAL_STEP {
            self.low = rate;
            self.guards += 1;
        }
        self.guards >= RIVAL_GUARDS && rate < RIVAL_SHRANK * self.height
    }

    /// Cruises a little slower while a queue stands, since the greatest of many samples is a little too great.
    fn ease(&mut self, delay: &OneWayDelay) {
        let queue = delay.standing_queue().saturating_sub(EASE_ABOVE + delay.unrest()).as_secs_f64();
        self.gain = 1.0 - MAX_EASING * (queue / EASE_ABOVE.as_secs_f64() / 4.0).min(1.0);
    }

    /// Starts a stronger probe if the last one found more.
    fn grew(&mut self, ack: &AckEvent<'_>, delay: &OneWayDelay, now: Timestamp) -> bool {
        let room = delay.quick_queue() < self.probe_queue.max(self.tolerance(delay) / 2) + delay.unrest();
        let wanted = self.probe_base * (1.0 + (self.probe_gain - 1.0) * GROWTH);
        let grew = room && !overflows(ack) && self.probe_base > 0.0 && self.bandwidth.get() > wanted;
        if grew {
            self.enter_up((self.probe_strength * STRONGER).min(STRONGEST), delay, now);
        }
        grew
    }

    fn after_cruise(&mut self, ack: &AckEvent<'_>, delay: &OneWayDelay, now: Timestamp) {
        if now.since(delay.base_seen_at()) > BASE_EXPIRY && ack.rate.is_some_and(|sample| !sample.limited) {
            self.phase = Phase::ProbeDelay { until: now + self.pipe * 2 + self.queue_window() };
            self.gain = DELAY_GAIN;
            self.window_gain = 1.0;
        } else {
            if (delay.standing_queue() > EASE_ABOVE + delay.unrest() || overflows(ack))
                && ack.rate.is_some_and(|sample| !sample.limited)
            {
                self.bandwidth.trim(TRIM);
            }
            self.bandwidth.next_cycle();
            self.enter_up(if self.unproven { STRONGEST / 2.0 } else { 1.0 }, delay, now);
        }
    }

    fn in_up(&mut self, until: Timestamp, ack: &AckEvent<'_>, delay: &OneWayDelay, now: Timestamp) {
        if self.guarded(ack, delay, now) {
            return;
        }
        let queued = delay.quick_queue()
            > self.probe_queue + Duration::from_millis(6) + delay.jitter() + delay.unrest();
        if queued || overflows(ack) {
            self.unproven = false;
            self.enter_down(now);
        } else if now >= until && !self.grew(ack, delay, now) {
            self.enter_down(now);
        }
    }

    fn in_guard(
        &mut self,
        check: Timestamp,
        queue: Duration,
        believed: f64,
        delay: &mut OneWayDelay,
        now: Timestamp,
    ) {
        if delay.quick_queue() < self.tolerance(delay) / 3 {
            self.unproven = false;
            self.probe_base = self.bandwidth.get();
            self.enter_cruise(now);
            return;
        }
        if now < check {
            return;
        }
        let left = delay.standing_queue();
        let latest = self.bandwidth.latest();
        let fell = queue.saturating_sub(left);
        if fell < queue.min(MAX_DRAIN) / 2 {
            self.failed_drains += 1;
            if self.failed_drains >= FAILED_DRAINS || delay.reorders() {
                self.on_out_of_reach(queue, believed, delay, now);
            } else {
                // The link is slower still, by as much at most as we send less than was believed.
                let sent = self.bandwidth.get() * GUARD_GAIN;
                let rate = latest.map(|latest| latest.max(sent));
                self.enter_guard(rate, delay, now);
            }
        } else if left > self.tolerance(delay) / 2 {
            self.enter_guard(None, delay, now);
        } else {
            self.probe_base = self.bandwidth.get();
            self.enter_cruise(now);
        }
    }

    /// The queue did not fall while we sent less: it is not ours.
    fn on_out_of_reach(&mut self, queue: Duration, believed: f64, delay: &mut OneWayDelay, now: Timestamp) {
        let again = self.rebased_at.is_some_and(|at| now.since(at) < RIVAL_MEMORY);
        self.rebased_at = Some(now);
        if again && !self.unproven && is_evidence(delay) {
            self.enter_share(believed.max(self.height), now);
            return;
        }
        delay.rebase(now);
        let believed = believed.max(self.height);
        self.bandwidth.set(believed);
        self.probe_base = believed;
        if core::mem::take(&mut self.unproven) {
            self.noise = self.noise.max(queue / 2);
            self.enter_startup(now);
        } else {
            self.enter_cruise(now);
        }
    }
}

/// Whether more is lost than the link loses by itself: a policer, or a queue too short to be seen.
fn overflows(ack: &AckEvent<'_>) -> bool {
    ack.loss > OVERFLOW + 1.5 * ack.gentle_loss
}

/// Whether what the delay shows can prove that somebody else uses the link.
fn is_evidence(delay: &OneWayDelay) -> bool {
    delay.jitter() < RIVAL_JITTER && !delay.reorders()
}
