//! When a packet counts as lost: RFC 9002, section 6.1, with windows that learn the link's own reordering (RFC
//! 8985).
//!
//! A packet is lost when a later one was acknowledged and either three later numbers were, or 9/8 of a round
//! trip went by. A link that reorders breaks both; each spurious loss (an ACK for what was declared lost)
//! widens the window that was too small: the packet threshold to the distance seen, up to 64 and above that to
//! "time only"; the time threshold to what the late packet took, up to two round trips. Ten quiet seconds
//! shrink both.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::rtt::{GRANULARITY, RttEstimator};

/// The packet threshold to begin with (RFC 9002, 6.1.1).
const PACKETS: u64 = 3;
/// The greatest packet threshold; distances beyond it are left to time alone.
const MAX_PACKETS: u64 = 64;
/// The time threshold to begin with, in eighths of a round trip (RFC 9002, 6.1.2).
const EIGHTHS: u32 = 9;
/// The greatest time threshold, in round trips.
const MAX_ROUND_TRIPS: u32 = 2;
/// After how long without spurious losses the windows shrink.
const CALM: Duration = Duration::from_secs(10);
/// The weight of one packet in the loss ratio.
const WEIGHT: f64 = 1.0 / 256.0;
/// The same for the link's own loss, which changes slowly, and must not follow each burst.
const GENTLE_WEIGHT: f64 = 1.0 / 1_024.0;

/// The thresholds, and how much was lost lately.
#[derive(Clone, Debug)]
pub(crate) struct LossDetection {
    packets: u64,
    /// How long the slowest packet took that was taken for lost.
    slowest: Duration,
    calm_since: Timestamp,
    ratio: f64,
    gentle_ratio: f64,
    resolved: u64,
    gentle: u64,
}

impl LossDetection {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            packets: PACKETS,
            slowest: Duration::ZERO,
            calm_since: now,
            ratio: 0.0,
            gentle_ratio: 0.0,
            resolved: 0,
            gentle: 0,
        }
    }

    /// How many later numbers must have been acknowledged.
    pub(crate) fn packet_threshold(&self) -> u64 {
        self.packets
    }

    /// Whether the link overtakes by itself.
    pub(crate) fn has_learnt_reordering(&self) -> bool {
        self.packets > PACKETS
    }

    /// How long after its sending a packet is lost, if a later one was acknowledged.
    pub(crate) fn time_threshold(&self, rtt: &RttEstimator) -> Duration {
        let usual = rtt.smoothed().max(rtt.latest());
        let learnt = self.slowest.min(usual * MAX_ROUND_TRIPS);
        (usual.max(learnt) * EIGHTHS / 8).max(GRANULARITY)
    }

    /// A packet declared lost was `distance` numbers behind the largest when its ACK came, after `took`.
    pub(crate) fn on_spurious(&mut self, distance: u64, took: Duration, now: Timestamp) {
        if distance >= self.packets {
            self.packets = if distance >= MAX_PACKETS { u64::MAX } else { distance + 1 };
        }
        self.slowest = self.slowest.max(took);
        self.calm_since = now;
        self.ratio = (self.ratio - WEIGHT).max(0.0);
        self.gentle_ratio = (self.gentle_ratio - GENTLE_WEIGHT).max(0.0);
    }

    /// Lets the windows shrink when nothing was spurious for long.
    pub(crate) fn on_time(&mut self, now: Timestamp) {
        if now.since(self.calm_since) > CALM {
            self.calm_since = now;
            self.packets =
                if self.packets > MAX_PACKETS { MAX_PACKETS } else { (self.packets / 2).max(PACKETS) };
            self.slowest = self.slowest * 3 / 4;
        }
    }

    /// Counts a packet's fate. `gentle`: it was sent below the path's rate.
    pub(crate) fn on_resolved(&mut self, lost: bool, gentle: bool) {
        let x = if lost { 1.0 } else { 0.0 };
        fold(&mut self.ratio, &mut self.resolved, WEIGHT, x);
        if gentle {
            fold(&mut self.gentle_ratio, &mut self.gentle, GENTLE_WEIGHT, x);
        }
    }

    /// The share of packets lost lately, 0 to 1.
    pub(crate) fn ratio(&self) -> f64 {
        self.ratio
    }

    /// The share lost of those sent below the path's rate: the link's own loss.
    pub(crate) fn gentle_ratio(&self) -> f64 {
        self.gentle_ratio
    }
}

/// Adds `x` to a moving average. The first values weigh more, so that it needs no minute to become true.
fn fold(average: &mut f64, count: &mut u64, weight: f64, x: f64) {
    *count += 1;
    *average += (x - *average) * weight.max(1.0 / (*count + 16) as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widens_on_reordering_and_shrinks_in_calm() {
        let (mut loss, rtt) = (LossDetection::new(Timestamp::ZERO), RttEstimator::new());
        let ms = Duration::from_millis;
        loss.on_spurious(10, ms(100), Timestamp::ZERO);
        assert_eq!(loss.packet_threshold(), 11);
        assert_eq!(
            loss.time_threshold(&rtt),
            rtt.smoothed() * 9 / 8,
            "a packet that took less than usual changes nothing"
        );
        loss.on_spurious(400, ms(400), Timestamp::ZERO);
        assert_eq!(loss.packet_threshold(), u64::MAX);
        assert_eq!(loss.time_threshold(&rtt), ms(450));
        loss.on_spurious(4, ms(5_000), Timestamp::ZERO);
        assert_eq!(loss.time_threshold(&rtt), rtt.smoothed() * 2 * 9 / 8);
        for second in 1..20 {
            loss.on_time(Timestamp::from_millis(second * 10_001));
        }
        assert_eq!((loss.packet_threshold(), loss.time_threshold(&rtt)), (3, rtt.smoothed() * 9 / 8));
    }
}
