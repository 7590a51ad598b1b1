//! Congestion control: how much may be on its way, and how fast it may leave.
//!
//! The model is BBR's (draft-cardwell-iccrg-bbr): a link is a rate and a delay; send at the rate, keep the
//! product in flight, probe now and then whether there is more. What differs, and why:
//!
//! - **Delay tells first.** The peer reports when packets came in, so the queue of *this direction* is seen
//!   within a round trip, apart from the way back. Startup ends, probes end and a standing queue is drained on
//!   that signal, before a drop-tail queue is full.
//! - **While a queue stands, the delivery rate is the link's rate**: the guard takes it for the estimate
//!   instead of guessing a factor.
//! - **Draining is verified.** If the delay does not fall while we send less, it is jitter that came with the
//!   load, another base, or somebody else's traffic: the base is moved and the estimate restored, instead of
//!   starving.
//! - **Probes are bounded in time, not in round trips** (`span`), so a probe over a satellite does not
//!   put a quarter of 600 ms into its queue. A probe that finds more is followed at once by a stronger one,
//!   which is what follows a link that doubles.
//! - **Random loss is the link's business.** Loss of packets that were sent gently (below the rate) is
//!   compensated in the pace, so that the link stays full; loss that comes with a plateau lowers the estimate
//!   (policers).
//!
//! - **Half beside a rival.** Who drains queues beside somebody who fills them gets nothing. Once that is plain, half of what the link
//!   gave before is sent, whatever the delay (docs/congestion.md).
//!
//! Life-cycle: `Startup → Drain → Cruise → (Up → Down → Cruise)*`, with `Guard`, `Share` and `ProbeDelay` when needed.

mod bandwidth;
mod phase;

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::delivery::RateSample;
use crate::one_way::OneWayDelay;
use crate::rtt::{MAX_ACK_DELAY, RttEstimator};
use bandwidth::Bandwidth;
use phase::Phase;

/// Full packets in flight before anything is known (RFC 6928).
const INITIAL_PACKETS: usize = 10;
/// Within which the first packets are sent of a path that has to take over: a satellite takes more than ten in its round trip.
const TAKEOVER_SPAN: Duration = Duration::from_millis(75);
/// Full packets that may always be in flight.
const MIN_PACKETS: usize = 4;
/// Full packets that may always leave in a round trip and this time, whatever the estimate is.
const LEAST_PACKETS: usize = 2;
const LEAST_OVER: Duration = Duration::from_millis(100);
/// The greatest loss that the pace makes up for: with more, the gentle phases would exceed a policer's rate and
/// could not tell it from a lossy link.
const MAX_COMPENSATED: f64 = 0.25;
/// Loss over a window above which the delivery rate is believed rather than the estimate.
const POLICED: f64 = 0.2;
/// The share of the estimate at which a returning path starts.
const RETURN: f64 = 0.5;
/// The share of the estimate from which on a path is busy.
const BUSY: f64 = 0.3;
/// The share of the estimate from which on a path is full.
const FULL: f64 = 0.6;
/// Idle longer than this ages the estimate.
const IDLE: Duration = Duration::from_secs(10);

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AckEvent<'a> {
    pub(crate) rate: Option<RateSample>,
    pub(crate) round_start: bool,
    pub(crate) in_flight: usize,
    pub(crate) rtt: &'a RttEstimator,
    /// The share of the packets lost lately, and of those sent gently.
    pub(crate) loss: f64,
    pub(crate) gentle_loss: f64,
}

/// One path's controller. Rates are bytes per second.
#[derive(Clone, Debug)]
pub(crate) struct Congestion {
    bandwidth: Bandwidth,
    phase: Phase,
    /// Pacing gain of the phase.
    gain: f64,
    /// Window gain of the phase.
    window_gain: f64,
    /// Round trip without our own queue, smoothed.
    pipe: Duration,
    slack: Duration,
    packet: usize,
    ceiling: Option<f64>,
    compensation: f64,
    /// Rounds of startup without growth, and the rate that they did not grow beyond.
    plateau: u32,
    plateau_rate: f64,
    /// The delay's variation in startup, before there can be a queue.
    noise: Duration,
    pulse_until: Timestamp,
    /// Since startup nothing has shown yet that the estimate is all there is.
    unproven: bool,
    probe_base: f64,
    probe_gain: f64,
    /// The queue when the last probe began.
    probe_queue: Duration,
    probe_strength: f64,
    failed_drains: u32,
    /// Guards since the link was last at rest, the newest of them, and the greatest estimate that they found.
    guards: u32,
    guarded_at: Timestamp,
    height: f64,
    /// The newest that was well below the one before it.
    low: f64,
    /// When the base delay was last moved because draining did not help.
    rebased_at: Option<Timestamp>,
    last_sent: Option<Timestamp>,
    stagger: u64,
    span: Duration,
}

impl Congestion {
    /// `packet` is a full packet's size, `seed` staggers the probes of several paths.
    pub(crate) fn new(packet: usize, seed: u64) -> Self {
        Self {
            bandwidth: Bandwidth::new(),
            phase: Phase::Startup,
            gain: phase::STARTUP_GAIN,
            window_gain: phase::STARTUP_GAIN,
            pipe: Duration::from_millis(333),
            slack: Duration::ZERO,
            packet,
            ceiling: None,
            compensation: 1.0,
            plateau: 0,
            plateau_rate: 0.0,
            noise: Duration::ZERO,
            pulse_until: Timestamp::MAX,
            unproven: false,
            probe_base: 0.0,
            probe_queue: Duration::ZERO,
            probe_gain: phase::STARTUP_GAIN,
            probe_strength: 1.0,
            failed_drains: 0,
            guards: 0,
            guarded_at: Timestamp::ZERO,
            height: 0.0,
            low: 0.0,
            rebased_at: None,
            last_sent: None,
            stagger: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32,
            span: phase::MIN_SPAN,
        }
    }

    /// What may be counted on: the estimate, or the ceiling where that is less.
    pub(crate) fn bandwidth(&self) -> f64 {
        let rate = self.bandwidth.get();
        self.ceiling.map_or(rate, |ceiling| rate.min(ceiling))
    }

    /// Whether a user's limit holds.
    pub(crate) fn has_ceiling(&self) -> bool {
        self.ceiling.is_some()
    }

    /// Whether it is the ceiling that holds the pace back.
    pub(crate) fn at_ceiling(&self) -> bool {
        self.ceiling.is_some_and(|ceiling| self.pacing_rate() >= ceiling)
    }

    pub(crate) fn set_packet(&mut self, packet: usize) {
        self.packet = packet;
    }

    pub(crate) fn set_ceiling(&mut self, ceiling: Option<f64>) {
        self.ceiling = ceiling;
    }

    pub(crate) fn phase_name(&self) -> &'static str {
        self.phase.name()
    }

    /// Whether what is sent now is below the path's rate, so that its delivery rate and its loss are no limits
    /// of the link.
    pub(crate) fn is_gentle(&self) -> bool {
        self.gain < 0.9
    }

    /// Whether the rate is still being looked for.
    pub(crate) fn is_starting(&self) -> bool {
        self.phase.is_startup()
    }

    /// Whether the path is used for a good part of its rate.
    pub(crate) fn is_busy(&self) -> bool {
        self.bandwidth.latest().is_some_and(|rate| rate >= BUSY * self.bandwidth.get())
    }

    /// The window for the delivery sampler.
    pub(crate) fn sample_window(&self) -> Duration {
        match self.phase {
            Phase::Startup => (self.pulse() * 2 / 3).max(Duration::from_millis(8)),
            _ => self.span,
        }
    }

    /// The window of the standing queue.
    pub(crate) fn queue_window(&self) -> Duration {
        self.span.clamp(Duration::from_millis(100), phase::MAX_SPAN)
    }

    /// The rate to work with. In startup it is at least what ten packets in a round trip make: what little a source has sent so far is no
    /// measure of the link.
    fn believed(&self) -> f64 {
        // Fewer packets than these are too few to be measured by, and the estimate would never rise again.
        let least = (LEAST_PACKETS * self.packet) as f64 / (self.pipe + LEAST_OVER).as_secs_f64();
        let rate = self.bandwidth.get().max(least);
        if self.phase.is_startup() {
            rate.max(self.initial_window() / self.pipe.as_secs_f64().max(0.001))
        } else {
            rate
        }
    }

    fn initial_window(&self) -> f64 {
        (INITIAL_PACKETS * self.packet) as f64
    }

    /// Whether the link's rate is still being looked for.
    pub(crate) fn is_startup(&self) -> bool {
        self.phase.is_startup()
    }

    /// Bytes that may be in flight.
    pub(crate) fn window(&self) -> usize {
        if self.bandwidth.get() == 0.0 {
            return INITIAL_PACKETS * self.packet;
        }
        let pipe = self.pipe.as_secs_f64() + MAX_ACK_DELAY.as_secs_f64();
        let bytes =
            self.believed() * self.compensation * (self.window_gain * pipe + self.slack.as_secs_f64());
        (bytes as usize).max(MIN_PACKETS * self.packet)
    }

    /// Bytes per second at which packets leave.
    pub(crate) fn pacing_rate(&self) -> f64 {
        let paced = self.believed() * self.compensation * self.gain;
        self.ceiling.map_or(paced, |ceiling| paced.min(ceiling)).max(self.packet as f64 * 4.0)
    }

    /// Bytes per second at which the link is believed to drain what we send.
    pub(crate) fn drain_rate(&self) -> f64 {
        let rate = self.believed() * self.compensation;
        if self.phase.is_startup() { rate.max(self.pacing_rate()) } else { rate }
    }

    /// The rate that the path may turn out to have: the estimate, or, as long as that is still being looked for, what the next round would prove.
    pub(crate) fn prospect(&self) -> f64 {
        if !self.phase.is_startup() {
            return self.bandwidth();
        }
        let rate = self.believed() * phase::STARTUP_GAIN;
        self.ceiling.map_or(rate, |ceiling| rate.min(ceiling))
    }

    /// A packet leaves.
    pub(crate) fn on_sent(&mut self, now: Timestamp) {
        if let Some(last) = self.last_sent
            && now.since(last) > IDLE
        {
            self.bandwidth.after_idle(now.since(last));
        }
        self.last_sent = Some(now);
        if self.phase.is_startup() && now >= self.pulse_until {
            self.gain = 1.0;
        }
    }

    /// An acknowledgement was processed.
    pub(crate) fn on_ack(&mut self, ack: &AckEvent<'_>, delay: &mut OneWayDelay, now: Timestamp) {
        self.learn_pipe(ack.rtt, delay);
        if let Some(sample) = ack.rate {
            self.bandwidth.update(sample, now);
        }
        let random = ack.loss.min(ack.gentle_loss).min(MAX_COMPENSATED);
        self.compensation = 1.0 / (1.0 - random);
        self.on_heavy_loss(ack);
        self.advance(ack, delay, now);
    }

    /// Loss far beyond the link's own, on a plateau: a policer or a queue too small to be seen. What arrives is
    /// what there is.
    fn on_heavy_loss(&mut self, ack: &AckEvent<'_>) {
        if ack.loss > POLICED
            && ack.loss > 2.0 * ack.gentle_loss
            && let Some(sample) = ack.rate
            && !sample.limited
            && sample.rate < self.bandwidth.get() * 0.9
        {
            self.bandwidth.set(sample.rate);
            if self.phase.is_startup() {
                self.plateau = 3;
            }
        }
    }

    fn learn_pipe(&mut self, rtt: &RttEstimator, delay: &OneWayDelay) {
        if rtt.is_measured() {
            let queue = if self.phase.is_sharing() { Duration::ZERO } else { delay.standing_queue() };
            self.pipe = rtt.smoothed().saturating_sub(queue).max(rtt.min()).max(Duration::from_micros(500));
            self.slack = rtt.variation() * 2;
            let restless = (delay.unrest() * 50).min(phase::MAX_RESTLESS_SPAN);
            self.span = self.pipe.clamp(phase::MIN_SPAN, phase::MAX_SPAN).max(restless);
        }
    }

    /// The path carries data again after it has stood by: what is remembered is old, or was learnt from a trickle.
    pub(crate) fn on_rejoined(&mut self, now: Timestamp) {
        self.enter_startup(now);
    }

    /// The path has to carry what another one did: its rate is looked for anew, from what it has shown or what little any link carries. One that was
    /// full already has shown what it can, and more than that would only overflow its queue.
    pub(crate) fn on_takeover(&mut self, now: Timestamp) {
        let full = self.bandwidth.latest().is_some_and(|rate| rate >= FULL * self.bandwidth.get());
        if full && !self.unproven && !self.phase.is_startup() {
            return;
        }
        let least = self.initial_window() / TAKEOVER_SPAN.as_secs_f64();
        if self.bandwidth.get() < least {
            self.bandwidth.set(least);
        }
        self.enter_startup(now);
    }

    /// The path is back after having been silent for `outage`.
    pub(crate) fn on_return(&mut self, outage: Duration, rtt: &RttEstimator, now: Timestamp) {
        if outage > (rtt.smoothed() * 3).max(Duration::from_millis(250)) {
            let rate = self.bandwidth.get();
            self.bandwidth.set(rate * RETURN);
            self.enter_startup(now);
        }
    }
}
