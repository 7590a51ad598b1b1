//! Rates for people: how much went by within the last second, and the most within the last ten.

use bondwire_units::{Bitrate, ByteCount, Timestamp};
use core::time::Duration;

const SLOT: Duration = Duration::from_millis(250);
const SLOTS: usize = 40;

/// Counts bytes in slots of a quarter of a second, ten seconds back.
#[derive(Debug)]
pub(crate) struct Meter {
    slots: [u32; SLOTS],
    newest: u64,
    total: u64,
}

impl Default for Meter {
    fn default() -> Self {
        Self { slots: [0; SLOTS], newest: 0, total: 0 }
    }
}

impl Meter {
    /// Counts `bytes`.
    pub(crate) fn add(&mut self, bytes: usize, now: Timestamp) {
        self.advance(now);
        self.total += bytes as u64;
        let slot = &mut self.slots[(self.newest % SLOTS as u64) as usize];
        *slot = slot.saturating_add(bytes as u32);
    }

    /// All bytes ever counted.
    pub(crate) fn total(&self) -> ByteCount {
        ByteCount::new(self.total)
    }

    /// The rate over the last whole second.
    pub(crate) fn rate(&mut self, now: Timestamp) -> Bitrate {
        self.advance(now);
        let bytes: u64 = (1..=4).map(|back| self.slot(back)).sum();
        Bitrate::from_bytes_over(ByteCount::new(bytes), SLOT * 4)
    }

    /// The highest rate over any second of the last ten.
    pub(crate) fn peak(&mut self, now: Timestamp) -> Bitrate {
        self.advance(now);
        let peak = (1..SLOTS as u64 - 4)
            .map(|first| (first..first + 4).map(|back| self.slot(back)).sum::<u64>())
            .max();
        Bitrate::from_bytes_over(ByteCount::new(peak.unwrap_or(0)), SLOT * 4)
    }

    fn slot(&self, back: u64) -> u64 {
        self.newest.checked_sub(back).map_or(0, |slot| u64::from(self.slots[(slot % SLOTS as u64) as usize]))
    }

    fn advance(&mut self, now: Timestamp) {
        let slot = now.as_nanos() / SLOT.as_nanos() as u64;
        for passed in (self.newest + 1..=slot).rev().take(SLOTS) {
            self.slots[(passed % SLOTS as u64) as usize] = 0;
        }
        self.newest = self.newest.max(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_stream_is_its_rate_and_silence_is_zero() {
        let mut meter = Meter::default();
        for ms in 0..5_000 {
            meter.add(1_250, Timestamp::from_millis(ms));
        }
        assert_eq!(meter.rate(Timestamp::from_millis(5_000)), Bitrate::from_mbps(10.0));
        assert_eq!(meter.rate(Timestamp::from_millis(7_000)), Bitrate::ZERO);
        assert_eq!(meter.peak(Timestamp::from_millis(9_000)), Bitrate::from_mbps(10.0));
        assert_eq!(meter.peak(Timestamp::from_millis(30_000)), Bitrate::ZERO);
        assert_eq!(meter.total().get(), 5_000 * 1_250);
    }
}
