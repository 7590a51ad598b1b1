//! Round-trip time, as in RFC 9002, section 5.
//!
//! An ACK comes back over whichever path delivers soonest, so a sample is this path's way out plus the *bond's*
//! way back. The minimum is therefore one over the last ten seconds and may move when the way back changes;
//! two-way samples of one path are kept in an estimator of their own.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::windowed::WindowedMin;

/// The longest an acknowledgement may wait at its receiver (docs/protocol.md, FRAME-3).
pub const MAX_ACK_DELAY: Duration = Duration::from_millis(5);
/// What is assumed before the first sample. RFC 9002, 6.2.2 says 333 ms; a link that is slower than that learns
/// it at once.
const INITIAL_RTT: Duration = Duration::from_millis(333);
/// The timer's resolution that a variation is rounded up to (RFC 9002, 6.1.2).
pub(crate) const GRANULARITY: Duration = Duration::from_millis(1);
/// How long a minimum is believed.
const MIN_WINDOW: Duration = Duration::from_secs(10);

/// Smoothed round-trip time, its variation, and its minimum of the last ten seconds.
#[derive(Clone, Debug)]
pub struct RttEstimator {
    latest: Duration,
    smoothed: Option<Duration>,
    variation: Duration,
    min: WindowedMin,
}

impl RttEstimator {
    pub(crate) fn new() -> Self {
        Self {
            latest: INITIAL_RTT,
            smoothed: None,
            variation: INITIAL_RTT / 2,
            min: WindowedMin::new(MIN_WINDOW),
        }
    }

    /// Takes a sample: the time from sending to the ACK's arrival, and the part of it that the peer says it
    /// waited.
    pub(crate) fn update(&mut self, sample: Duration, ack_delay: Duration, now: Timestamp) {
        self.latest = sample;
        self.min.update(i64::try_from(sample.as_nanos()).unwrap_or(i64::MAX), now);
        let adjusted = if sample >= self.min() + ack_delay { sample - ack_delay } else { sample };
        match self.smoothed {
            None => {
                self.smoothed = Some(adjusted);
                self.variation = adjusted / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(adjusted)) / 4;
                self.smoothed = Some((smoothed * 7 + adjusted) / 8);
            }
        }
    }

    /// Whether there was a sample.
    pub fn is_measured(&self) -> bool {
        self.smoothed.is_some()
    }

    /// The newest sample.
    pub fn latest(&self) -> Duration {
        self.latest
    }

    /// The least sample of the last ten seconds; 333 ms before the first.
    pub fn min(&self) -> Duration {
        self.min.get().map_or(INITIAL_RTT, |nanos| Duration::from_nanos(nanos.max(0) as u64))
    }

    /// The smoothed round-trip time; 333 ms before the first sample.
    pub fn smoothed(&self) -> Duration {
        self.smoothed.unwrap_or(INITIAL_RTT)
    }

    /// The mean deviation from it.
    pub fn variation(&self) -> Duration {
        self.variation
    }

    /// The probe timeout: when an ACK that did not come is overdue (RFC 9002, 6.2.1).
    pub fn pto(&self) -> Duration {
        self.smoothed() + (self.variation * 4).max(GRANULARITY) + MAX_ACK_DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_rfc_9002() {
        let mut rtt = RttEstimator::new();
        assert!(!rtt.is_measured());
        rtt.update(Duration::from_millis(100), Duration::from_millis(5), Timestamp::from_millis(100));
        assert_eq!(rtt.smoothed(), Duration::from_millis(100));
        assert_eq!(rtt.variation(), Duration::from_millis(50));
        rtt.update(Duration::from_millis(120), Duration::from_millis(4), Timestamp::from_millis(200));
        assert_eq!(rtt.smoothed(), Duration::from_millis(102));
        assert_eq!(rtt.min(), Duration::from_millis(100));
        assert_eq!(rtt.pto(), rtt.smoothed() + rtt.variation() * 4 + MAX_ACK_DELAY);
    }
}
