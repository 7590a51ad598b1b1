//! What waits at the bottleneck, as far as it is ours: a queue that fills with what we send and drains at the
//! estimated rate.
//!
//! It answers "when would another packet arrive?" without waiting for an ACK, and takes our own queue out of
//! one-way delay samples.

use bondwire_units::Timestamp;
use core::time::Duration;

/// A virtual queue in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Backlog {
    bytes: f64,
    updated: Timestamp,
}

impl Backlog {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self { bytes: 0.0, updated: now }
    }

    /// Bytes waiting at `now` when the link drains `rate` bytes per second.
    pub(crate) fn bytes(&self, rate: f64, now: Timestamp) -> f64 {
        (self.bytes - rate * now.since(self.updated).as_secs_f64()).max(0.0)
    }

    /// Adds a packet; returns how long what is before it takes to drain.
    pub(crate) fn on_sent(&mut self, size: usize, in_flight: usize, rate: f64, now: Timestamp) -> Duration {
        // What is acknowledged does not wait, whatever the estimate says.
        let before = self.bytes(rate, now).min(in_flight as f64);
        self.bytes = before + size as f64;
        self.updated = now;
        Duration::from_secs_f64((before / rate.max(1.0)).min(60.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_and_drains() {
        let mut backlog = Backlog::new(Timestamp::ZERO);
        assert_eq!(backlog.on_sent(1_000, 0, 1e6, Timestamp::ZERO), Duration::ZERO);
        assert_eq!(backlog.on_sent(1_000, 1_000, 1e6, Timestamp::ZERO), Duration::from_millis(1));
        assert_eq!(backlog.bytes(1e6, Timestamp::from_millis(1)), 1_000.0);
        assert_eq!(backlog.bytes(1e6, Timestamp::from_millis(5)), 0.0);
    }
}
