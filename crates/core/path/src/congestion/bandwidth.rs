//! The bandwidth estimate: the greatest delivery rate of this and the previous probing cycle.
//!
//! Limited samples (the source or our own gentleness held the rate down) may raise it, never lower it, and
//! never let a cycle end: what was learnt under load is remembered while idle. It then ages by 3 % per ten
//! seconds, and is verified by the next burst. Unlimited samples that stay below 0.8 of it for two windows take
//! its place: the link became slower.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::delivery::RateSample;

/// An estimate is lowered when unlimited samples stay below this share of it.
const DROP: f64 = 0.8;
/// For how many windows they must.
const DROP_WINDOWS: u32 = 2;
/// How long an estimate keeps its full value without being confirmed.
const FRESH: Duration = Duration::from_secs(10);
/// What it keeps of itself for each such span.
const AGED: f64 = 0.97;

/// The estimate in bytes per second.
#[derive(Clone, Debug)]
pub(crate) struct Bandwidth {
    previous: f64,
    current: f64,
    unlimited: bool,
    confirmed_at: Timestamp,
    window_end: Timestamp,
    window_best: f64,
    low_windows: u32,
    low_best: f64,
    latest: Option<f64>,
}

impl Bandwidth {
    pub(crate) fn new() -> Self {
        Self {
            previous: 0.0,
            current: 0.0,
            unlimited: false,
            confirmed_at: Timestamp::ZERO,
            window_end: Timestamp::ZERO,
            window_best: 0.0,
            low_windows: 0,
            low_best: 0.0,
            latest: None,
        }
    }

    /// Bytes per second; zero before the first sample.
    pub(crate) fn get(&self) -> f64 {
        self.previous.max(self.current)
    }

    /// The newest sample, limited or not.
    pub(crate) fn latest(&self) -> Option<f64> {
        self.latest
    }

    /// Takes a sample.
    pub(crate) fn update(&mut self, sample: RateSample, now: Timestamp) {
        self.latest = Some(sample.rate);
        if sample.limited {
            if sample.rate > self.get() {
                self.current = sample.rate;
                self.confirmed_at = now;
            }
            self.age(now);
            return;
        }
        self.unlimited = true;
        self.confirmed_at = now;
        self.current = self.current.max(sample.rate);
        self.window_best = self.window_best.max(sample.rate);
        if now < self.window_end {
            return;
        }
        if self.window_end > Timestamp::ZERO && self.window_best < DROP * self.get() {
            self.low_windows += 1;
            self.low_best = self.low_best.max(self.window_best);
            if self.low_windows >= DROP_WINDOWS {
                self.set(self.low_best);
            }
        } else {
            self.low_windows = 0;
            self.low_best = 0.0;
        }
        self.window_best = 0.0;
        self.window_end = now + sample.interval;
    }

    fn age(&mut self, now: Timestamp) {
        if now.since(self.confirmed_at) > FRESH {
            self.confirmed_at = now;
            self.previous *= AGED;
            self.current *= AGED;
        }
    }

    /// Replaces the estimate.
    pub(crate) fn set(&mut self, rate: f64) {
        self.previous = 0.0;
        self.current = rate;
        self.low_windows = 0;
        self.low_best = 0.0;
        self.window_best = 0.0;
        self.window_end = Timestamp::ZERO;
    }

    /// A queue stands: what arrives now is what there is, but for this sample's error, so one step goes no further than `least` of the estimate.
    pub(crate) fn trim(&mut self, least: f64) {
        if let Some(latest) = self.latest
            && latest < self.get()
        {
            let rate = latest.max(self.get() * least);
            self.previous = self.previous.min(rate);
            self.current = self.current.min(rate);
        }
    }

    /// Ages an estimate that nobody used for `idle`.
    pub(crate) fn after_idle(&mut self, idle: Duration) {
        let factor = AGED.powf(idle.as_secs_f64() / FRESH.as_secs_f64()).max(0.1);
        self.previous *= factor;
        self.current *= factor;
    }

    /// A probing cycle ended: what was seen before the last one is forgotten, if this one saw the link unlimited.
    pub(crate) fn next_cycle(&mut self) {
        if self.unlimited && self.current > 0.0 {
            self.previous = self.current;
            self.current = 0.0;
            self.unlimited = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(rate: f64, limited: bool) -> RateSample {
        RateSample { rate, limited, interval: Duration::from_millis(50) }
    }

    #[test]
    fn limited_samples_raise_and_never_lower() {
        let mut bandwidth = Bandwidth::new();
        bandwidth.update(sample(1e6, false), Timestamp::from_millis(0));
        for t in 1..9_000 {
            bandwidth.update(sample(1e5, true), Timestamp::from_millis(t));
        }
        assert_eq!(bandwidth.get(), 1e6);
        bandwidth.next_cycle();
        bandwidth.next_cycle();
        assert_eq!(bandwidth.get(), 1e6);
        bandwidth.update(sample(2e6, true), Timestamp::from_millis(9_000));
        assert_eq!(bandwidth.get(), 2e6);
        for t in 0..6 {
            bandwidth.update(sample(1e5, true), Timestamp::from_millis(20_000 + t * 10_001));
        }
        assert!((1.6e6..1.9e6).contains(&bandwidth.get()), "{}", bandwidth.get());
    }

    #[test]
    fn a_slower_link_is_followed_in_a_few_windows() {
        let mut bandwidth = Bandwidth::new();
        for t in 0..1_000 {
            bandwidth.update(sample(1e6, false), Timestamp::from_millis(t));
        }
        for t in 0..200 {
            bandwidth.update(sample(5e5, false), Timestamp::from_millis(1_000 + t));
        }
        assert_eq!(bandwidth.get(), 5e5);
    }
}
