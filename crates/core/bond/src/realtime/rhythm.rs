//! The rhythm of one direction of a flow: how often packets come, how evenly, how large they are.
//!
//! Packets are counted in windows of half a second. The spread of the gaps is measured against the mean gap of the window before, so
//! that a packet costs a subtraction and three additions.

use bondwire_units::Timestamp;
use core::time::Duration;

/// How long a window lasts.
pub(super) const WINDOW: Duration = Duration::from_millis(500);
/// Windows whose counts are compared with one another.
const COMPARED: usize = 4;
/// By how much they may differ from their mean, and by how many packets in any case.
const EVEN: f32 = 0.1;
const EVEN_PACKETS: f32 = 2.0;

/// What the last window showed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Measure {
    /// Packets a second.
    pub(super) rate: f32,
    /// Bytes a second of inner packets.
    pub(super) bytes: f32,
    /// Mean size of a packet in bytes.
    pub(super) size: f32,
    /// Mean deviation of the gaps from the mean gap, as a share of it: 0 is a clock, 1 and more are bursts.
    pub(super) spread: f32,
    /// The counts of the last two seconds hardly differ.
    pub(super) even: bool,
}

/// Follows one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rhythm {
    last: Timestamp,
    start: Timestamp,
    packets: u32,
    bytes: u32,
    /// The mean gap of the window before, in microseconds; 0 if there was none.
    gap: u32,
    deviation: u64,
    counts: [u16; COMPARED],
    windows: u8,
    measure: Measure,
}

impl Rhythm {
    /// A packet of `size` bytes. Returns whether a window ended with it.
    pub(super) fn on_packet(&mut self, size: usize, now: Timestamp) -> bool {
        let ended = now >= self.start + WINDOW;
        if ended {
            self.end_window(now);
        }
        let gap = now.since(self.last).as_micros() as u32;
        self.deviation += u64::from(gap.abs_diff(self.gap));
        self.packets += 1;
        self.bytes = self.bytes.saturating_add(size as u32);
        self.last = now;
        ended
    }

    /// When the last packet came.
    pub(super) fn last(&self) -> Timestamp {
        self.last
    }

    /// What the last whole window showed; nothing if that is over for long.
    pub(super) fn measure(&self, now: Timestamp) -> Measure {
        if now >= self.start + WINDOW * 3 { Measure::default() } else { self.measure }
    }

    fn end_window(&mut self, now: Timestamp) {
        let span = now.since(self.start);
        // Silence, and the first packet of all: there is nothing to compare with.
        if self.packets == 0 || span >= WINDOW * 3 {
            *self = Self { start: now, last: now, ..Self::default() };
            return;
        }
        let seconds = span.as_secs_f32().max(1e-3);
        let packets = self.packets as f32;
        let rate = packets / seconds;
        self.counts.rotate_right(1);
        self.counts[0] = rate.min(65_535.0) as u16;
        self.windows = (self.windows + 1).min(COMPARED as u8);
        self.measure = Measure {
            rate,
            bytes: self.bytes as f32 / seconds,
            size: self.bytes as f32 / packets,
            spread: if self.gap == 0 { 1.0 } else { self.deviation as f32 / packets / self.gap as f32 },
            even: self.is_even(),
        };
        self.gap = (1e6 / rate) as u32;
        (self.start, self.packets, self.bytes, self.deviation) = (now, 0, 0, 0);
    }

    fn is_even(&self) -> bool {
        if usize::from(self.windows) < COMPARED {
            return false;
        }
        let mean = self.counts.iter().map(|&count| f32::from(count)).sum::<f32>() / COMPARED as f32;
        let bound = (mean * EVEN).max(EVEN_PACKETS / WINDOW.as_secs_f32());
        self.counts.iter().all(|&count| (f32::from(count) - mean).abs() <= bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_even_and_bursts_are_not() {
        let (mut clock, mut bursts) = (Rhythm::default(), Rhythm::default());
        for ms in 0..5_000_u64 {
            let now = Timestamp::from_millis(ms);
            if ms % 20 == 0 {
                clock.on_packet(160, now);
            }
            if ms % 100 == 0 {
                (0..5).for_each(|_| _ = bursts.on_packet(1_200, now));
            }
        }
        let now = Timestamp::from_millis(5_000);
        let (clock, bursts) = (clock.measure(now), bursts.measure(now));
        assert!((clock.rate - 50.0).abs() < 3.0 && clock.even && clock.spread < 0.1, "{clock:?}");
        assert!((bursts.rate - 50.0).abs() < 6.0 && bursts.spread > 1.0, "{bursts:?}");
        assert!((clock.size - 160.0).abs() < 1.0 && (clock.bytes - 8_000.0).abs() < 500.0);
    }

    #[test]
    fn silence_ends_it() {
        let mut rhythm = Rhythm::default();
        (0..200).for_each(|n| _ = rhythm.on_packet(100, Timestamp::from_millis(n * 10)));
        assert!(rhythm.measure(Timestamp::from_millis(2_000)).rate > 90.0);
        assert_eq!(rhythm.measure(Timestamp::from_millis(4_000)), Measure::default());
    }
}
