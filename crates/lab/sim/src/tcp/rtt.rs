use core::time::Duration;

/// Smoothed round-trip time and the retransmission timeout that follows from it (RFC 6298, with the floor that Linux
/// puts under the variation instead of under the sum).
#[derive(Clone, Debug)]
pub(super) struct RttEstimator {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Duration,
}

/// The least that is added to the smoothed RTT.
const FLOOR: Duration = Duration::from_millis(200);
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(120);

impl RttEstimator {
    pub(super) fn new() -> Self {
        Self { smoothed: None, variation: Duration::ZERO, least: Duration::MAX }
    }

    pub(super) fn on_sample(&mut self, sample: Duration) {
        self.least = self.least.min(sample);
        match self.smoothed {
            None => {
                self.smoothed = Some(sample);
                self.variation = sample / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    pub(super) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The least sample; none before the first.
    pub(super) fn least(&self) -> Option<Duration> {
        (self.least < Duration::MAX).then_some(self.least)
    }

    /// The timeout after `backoff` ones in a row.
    pub(super) fn timeout(&self, backoff: u32) -> Duration {
        let base = self.smoothed.map_or(FIRST_TIMEOUT, |smoothed| smoothed + (self.variation * 4).max(FLOOR));
        base.saturating_mul(1 << backoff.min(10)).min(LONGEST)
    }

    /// When a tail without acknowledgement is probed (RFC 8985, 7.2), with `outstanding` segments in flight.
    pub(super) fn probe_timeout(&self, outstanding: u64) -> Option<Duration> {
        let slack = if outstanding == 1 { FLOOR } else { Duration::from_millis(2) };
        Some((self.smoothed? * 2 + slack).min(self.timeout(0)))
    }
}
