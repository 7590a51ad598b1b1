//! Delivery rate: how fast the link brings out what it is given.
//!
//! After draft-cardwell-iccrg-bbr, section 4.1: a sample is what was delivered over the longer of the time in
//! which it was sent and the time in which it arrived. Arrival is taken from the *receiver's* clock (each ACK
//! carries it), so bunched or delayed ACKs do not blur it. A sample spans a window that the controller chooses,
//! rather than one round trip: long enough to average the link's jitter, short enough on slow satellites.
//!
//! A sample is *limited* if at some time in it the sender did not use what it could have (a bubble): such a
//! sample is a lower bound.
//!
//! Bound: [`MAX_CHECKPOINTS`] checkpoints.

use std::collections::VecDeque;

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::one_way::micros;

/// The most checkpoints kept.
const MAX_CHECKPOINTS: usize = 128;
/// How many checkpoints there are to a window.
const PER_WINDOW: u32 = 24;

#[derive(Clone, Copy, Debug)]
struct Checkpoint {
    sent_at: Timestamp,
    received_at: i64,
    delivered: u64,
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RateSample {
    /// Bytes per second.
    pub(crate) rate: f64,
    /// Only a lower bound: the sender did not use what it could have, or there was a pause.
    pub(crate) limited: bool,
    /// Over how long.
    pub(crate) interval: Duration,
}

/// Takes samples from acknowledgements.
#[derive(Clone, Debug)]
pub(crate) struct DeliverySampler {
    window: Duration,
    checkpoints: VecDeque<Checkpoint>,
}

impl DeliverySampler {
    pub(crate) fn new() -> Self {
        Self { window: Duration::from_millis(20), checkpoints: VecDeque::with_capacity(MAX_CHECKPOINTS + 1) }
    }

    /// Sets the span of the samples to come.
    pub(crate) fn set_window(&mut self, window: Duration) {
        self.window = window;
    }

    /// Forgets what was measured so far: what comes is not to be averaged with it.
    pub(crate) fn restart(&mut self) {
        self.checkpoints.clear();
    }

    /// A packet, the newest so far, was acknowledged: it left at `sent_at` and came in at `received_at`
    /// (microseconds of any zero); `delivered` bytes have been acknowledged in all, and the last bubble before
    /// it was at `bubble`.
    pub(crate) fn on_ack(
        &mut self,
        sent_at: Timestamp,
        received_at: i64,
        delivered: u64,
        bubble: Timestamp,
    ) -> Option<RateSample> {
        let window = micros(self.window);
        let newest = self.checkpoints.back().map_or(i64::MIN, |c| c.received_at);
        if received_at < newest {
            return None;
        }
        while self.checkpoints.len() > 1 && self.checkpoints[1].received_at <= received_at - window {
            self.checkpoints.pop_front();
        }
        let sample = self.checkpoints.front().and_then(|start| {
            let arrived = received_at - start.received_at;
            let sent = micros(sent_at.since(start.sent_at));
            let interval = arrived.max(sent);
            (arrived.max(sent) >= window * 9 / 10 && interval > 0).then(|| RateSample {
                rate: (delivered - start.delivered) as f64 * 1e6 / interval as f64,
                limited: bubble >= start.sent_at && bubble > Timestamp::ZERO
                    || interval > window.saturating_mul(4),
                interval: Duration::from_micros(interval as u64),
            })
        });
        if newest == i64::MIN || received_at - newest >= micros(self.window / PER_WINDOW) {
            self.checkpoints.push_back(Checkpoint { sent_at, received_at, delivered });
            if self.checkpoints.len() > MAX_CHECKPOINTS {
                self.checkpoints.pop_front();
            }
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bunched_arrivals_are_bounded_by_the_sending_rate() {
        let mut sampler = DeliverySampler::new();
        let mut delivered = 0;
        let mut samples = Vec::new();
        for i in 0..200_u64 {
            delivered += 1_000;
            // Sent every millisecond, received in bunches of ten.
            let received = (i / 10 * 10) as i64 * 1_000 + 5_000;
            samples.extend(sampler.on_ack(Timestamp::from_millis(i), received, delivered, Timestamp::ZERO));
            assert!(sampler.checkpoints.len() <= MAX_CHECKPOINTS);
        }
        let best = samples.iter().map(|s| s.rate).fold(0.0, f64::max);
        assert!((900_000.0..1_100_000.0).contains(&best), "{best}");
        assert!(samples.iter().all(|s| !s.limited));
    }
}
