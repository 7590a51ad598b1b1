//! The delay of one link: what its probes and its connects say.
//!
//! A probe target has a distance of its own, so each has its own base (the least of the last five to ten
//! minutes); what a sample stands above its base is the link's queue. Sites that applications connect to are
//! anywhere, so connects make the patience, and say something about queues only where nothing can be probed.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::config::MAX_TARGETS;

/// Seconds as a number.
type Seconds = f64;

/// What a connect may take when nothing is known.
pub(crate) const DEFAULT_PATIENCE: Duration = Duration::from_millis(300);
const MIN_PATIENCE: Duration = Duration::from_millis(150);
const MAX_PATIENCE: Duration = Duration::from_millis(1500);
/// Bounds of a probe's patience, and what it is before the first answer.
const MIN_PROBE: Duration = Duration::from_millis(150);
const MAX_PROBE: Duration = Duration::from_millis(2000);
const DEFAULT_PROBE: Duration = Duration::from_millis(500);
/// The longest silence before a link is asked.
const MAX_SILENCE: Duration = Duration::from_millis(1000);
/// What a probe may take above four times its last answers, in seconds: the past of a link that was full fades
/// slowly otherwise.
const SLACK: Seconds = 0.2;
/// What it may take at least above one and a half times its last answers, in seconds; a shorter delay at most again.
const MARGIN: Seconds = 0.15;
/// How long a sample says something about the queue.
const RECENT: Duration = Duration::from_millis(1500);
/// A base is the least of this and the last such span.
const BASE_SPAN: Duration = Duration::from_secs(300);

/// Smoothed time and its mean deviation (RFC 6298, section 2).
#[derive(Clone, Copy, Debug, Default)]
struct Smoothed {
    mean: Seconds,
    deviation: Seconds,
    measured: bool,
}

impl Smoothed {
    fn update(&mut self, sample: Seconds) {
        if self.measured {
            self.deviation += ((sample - self.mean).abs() - self.deviation) / 4.0;
            self.mean += (sample - self.mean) / 8.0;
        } else {
            *self = Self { mean: sample, deviation: sample / 2.0, measured: true };
        }
    }
}

/// The least of the present span and of the one before.
#[derive(Clone, Copy, Debug)]
struct Base {
    since: Timestamp,
    now: Seconds,
    before: Seconds,
}

impl Default for Base {
    fn default() -> Self {
        Self { since: Timestamp::ZERO, now: Seconds::INFINITY, before: Seconds::INFINITY }
    }
}

impl Base {
    fn update(&mut self, sample: Seconds, now: Timestamp) {
        if now.since(self.since) > BASE_SPAN {
            self.before = self.now;
            self.now = sample;
            self.since = now;
        }
        self.now = self.now.min(sample);
    }

    fn get(&self) -> Option<Seconds> {
        Some(self.now.min(self.before)).filter(|least| least.is_finite())
    }
}

/// One target as seen over this link.
#[derive(Clone, Copy, Debug, Default)]
struct TargetDelay {
    smoothed: Smoothed,
    base: Base,
    latest: Seconds,
    before: Seconds,
}

/// The queue as seen by the last samples of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    latest: Seconds,
    before: Seconds,
    at: Timestamp,
    samples: u32,
    /// Mean deviation of an idle link.
    noise: Seconds,
}

impl Queue {
    fn update(&mut self, queue: Seconds, busy: bool, now: Timestamp) {
        self.samples = if now.since(self.at) > RECENT { 1 } else { self.samples + 1 };
        self.before = self.latest;
        self.latest = queue;
        self.at = now;
        if !busy {
            self.noise += (queue - self.noise) / 8.0;
        }
    }

    /// Whether the last two samples stand above `threshold` and the link's own noise.
    fn is_above(&self, threshold: Seconds, now: Timestamp) -> Option<bool> {
        if now.since(self.at) > RECENT || self.samples == 0 {
            return None;
        }
        let threshold = threshold.max(self.noise * 3.0);
        let least = if self.samples > 1 { self.latest.min(self.before) } else { self.latest };
        Some(least > threshold)
    }
}

/// The delay of one link.
#[derive(Clone, Debug, Default)]
pub(crate) struct Delay {
    targets: [TargetDelay; MAX_TARGETS],
    probed: Queue,
    connects: Smoothed,
    /// Connects that were not answered in time since the last that was.
    unanswered: u32,
    base: Base,
    others: Queue,
}

impl Delay {
    /// A target answered. `busy`: the link carries something worth a queue.
    pub(crate) fn on_probe(&mut self, target: usize, rtt: Duration, busy: bool, now: Timestamp) {
        let sample = rtt.as_secs_f64();
        let Some(target) = self.targets.get_mut(target) else { return };
        let is_first = target.base.get().is_none();
        if is_first && now.since(self.probed.at) < RECENT {
            // Met under load: its distance is what the queue leaves of the sample.
            target.base.update((sample - self.probed.latest).max(sample * 0.1), now);
        }
        target.base.update(sample, now);
        target.smoothed.update(sample);
        target.before = if target.latest > 0.0 { target.latest } else { sample };
        target.latest = sample;
        let queue = sample - target.base.get().unwrap_or(sample);
        self.probed.update(queue, busy, now);
    }

    /// A connect was answered. One of zero was not measured.
    pub(crate) fn on_connect(&mut self, rtt: Duration, busy: bool, now: Timestamp) {
        self.unanswered = 0;
        if rtt.is_zero() {
            return;
        }
        self.connects.update(rtt.as_secs_f64());
        self.on_tcp(rtt, busy, now);
    }

    /// The kernel measured a round trip of some connection.
    pub(crate) fn on_tcp(&mut self, rtt: Duration, busy: bool, now: Timestamp) {
        let sample = rtt.as_secs_f64();
        self.base.update(sample, now);
        self.others.update(sample - self.base.get().unwrap_or(sample), busy, now);
    }

    /// Whether there is a queue; none if nothing was measured in the last 1.5 s.
    pub(crate) fn is_inflated(&self, now: Timestamp) -> Option<bool> {
        let nearest = self.nearest().map_or(0.0, |(base, _)| base);
        self.probed.is_above(0.008_f64.max(nearest * 0.3), now).or_else(|| {
            let enough = self.others.samples >= 3;
            let base = self.base.get().unwrap_or_default();
            self.others.is_above(0.02_f64.max(base * 0.5), now).filter(|_| enough)
        })
    }

    /// Base and mean of the nearest target.
    fn nearest(&self) -> Option<(Seconds, Seconds)> {
        let measured =
            self.targets.iter().filter_map(|target| Some((target.base.get()?, target.smoothed.mean)));
        measured.min_by(|a, b| a.0.total_cmp(&b.0))
    }

    /// The delay with the queue of the moment: what links are compared by.
    pub(crate) fn present(&self) -> Option<Duration> {
        let connects = self.connects.measured.then_some(self.connects.mean);
        self.nearest().map(|(_, mean)| mean).or(connects).map(Duration::from_secs_f64)
    }

    /// The delay of the idle link.
    pub(crate) fn idle(&self) -> Option<Duration> {
        self.nearest().map(|(base, _)| base).or(self.base.get()).map(Duration::from_secs_f64)
    }

    /// A connect was not answered in time.
    pub(crate) fn on_connect_unanswered(&mut self) {
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// How long a connect may take before the next link is raced: three times the mean of this link's connects,
    /// or the mean and four deviations, and three times the nearest target's delay. Only what was answered in time
    /// is measured, so a distant link would never be without the last; and one that nothing can probe gets half
    /// as much again with each connect that is not answered, until one is.
    pub(crate) fn patience(&self) -> Duration {
        let Smoothed { mean, deviation, measured } = self.connects;
        let probed = self.nearest().map(|(_, mean)| mean * 3.0);
        let known = if measured { (mean * 3.0).max(mean + deviation * 4.0) } else { 0.0 };
        let unknown = DEFAULT_PATIENCE.as_secs_f64();
        let patience = match (measured, probed) {
            (true, probed) => known.max(probed.unwrap_or(0.0)),
            (false, Some(probed)) => unknown.max(probed),
            (false, None) => unknown * 1.5_f64.powi(self.unanswered.min(8) as i32),
        };
        Duration::from_secs_f64(patience).clamp(MIN_PATIENCE, MAX_PATIENCE)
    }

    /// How long `target` may take to answer.
    pub(crate) fn probe_patience(&self, target: usize) -> Duration {
        let Some(TargetDelay { smoothed, latest, before, .. }) =
            self.targets.get(target).filter(|target| target.smoothed.measured)
        else {
            return DEFAULT_PROBE;
        };
        let recent = latest.max(*before);
        let usual = smoothed.mean + smoothed.deviation * 4.0;
        let expected = (recent * 1.5 + recent.min(MARGIN)).max(usual.min(recent * 4.0 + SLACK));
        Duration::from_secs_f64(expected).clamp(MIN_PROBE, MAX_PROBE)
    }

    /// After how long without any answer the link is asked whether it lives.
    pub(crate) fn silence(&self) -> Duration {
        self.present().map_or(DEFAULT_PATIENCE, |present| (present * 3).clamp(DEFAULT_PATIENCE, MAX_SILENCE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn patience_follows_connects_within_bounds() {
        let mut delay = Delay::default();
        assert_eq!(delay.patience(), DEFAULT_PATIENCE);
        for i in 0..50 {
            delay.on_connect(ms(100), false, Timestamp::from_millis(i));
        }
        assert!((ms(290)..ms(330)).contains(&delay.patience()), "{:?}", delay.patience());
        for i in 0..50 {
            delay.on_connect(ms(5_000), false, Timestamp::from_millis(100 + i));
        }
        assert_eq!(delay.patience(), MAX_PATIENCE);
    }

    /// An answer to a repeated SYN tells no round trip; the kernel says zero.
    #[test]
    fn a_round_trip_of_zero_was_not_measured() {
        let mut delay = Delay::default();
        for i in 0..50 {
            delay.on_connect(ms(100), false, Timestamp::from_millis(i));
        }
        let (patience, idle) = (delay.patience(), delay.idle());
        for i in 0..50 {
            delay.on_connect(Duration::ZERO, false, Timestamp::from_millis(100 + i));
        }
        assert_eq!((delay.patience(), delay.idle()), (patience, idle));
    }

    #[test]
    fn a_distant_link_gets_its_time() {
        let mut delay = Delay::default();
        for _ in 0..3 {
            delay.on_connect_unanswered();
        }
        assert!(delay.patience() > ms(1_000));
        let mut delay = Delay::default();
        delay.on_probe(0, ms(400), false, Timestamp::ZERO);
        assert_eq!(delay.patience(), ms(1_200));
    }

    #[test]
    fn a_queue_is_seen_whatever_the_target() {
        let mut delay = Delay::default();
        let mut now = Timestamp::ZERO;
        for i in 0..40 {
            now += ms(500);
            delay.on_probe(i % 2, ms(20 + (i as u64 % 2) * 150), false, now);
        }
        assert_eq!(delay.is_inflated(now), Some(false));
        assert_eq!(delay.is_inflated(now + ms(2_000)), None);
        assert!(delay.present() < Some(ms(30)));
        for i in 0..2 {
            now += ms(500);
            delay.on_probe(i % 2, ms(60 + (i as u64 % 2) * 150), true, now);
        }
        assert_eq!(delay.is_inflated(now), Some(true));
    }
}
