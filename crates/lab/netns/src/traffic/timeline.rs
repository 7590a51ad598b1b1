use std::time::Duration;

use bondwire_units::{Bitrate, ByteCount, Timestamp};

/// When how many bytes arrived: counted per 10 ms, and every pause of 5 ms or more noted.
///
/// Memory: 8 bytes per 10 ms and 16 per pause; arrivals later than [`Timeline::MOST`] after the start count for the
/// last bin.
#[derive(Clone, Debug)]
pub struct Timeline {
    start: Timestamp,
    bins: Vec<u64>,
    last: Option<Timestamp>,
    pauses: Vec<(Timestamp, Timestamp)>,
}

impl Timeline {
    /// The width of a bin.
    pub const BIN: Duration = Duration::from_millis(10);
    /// The longest time that is resolved: an hour.
    pub const MOST: Duration = Duration::from_secs(3600);
    /// Shorter pauses are not noted.
    const LEAST_PAUSE: Duration = Duration::from_millis(5);

    /// An empty one that starts at `start`.
    pub fn new(start: Timestamp) -> Self {
        Self { start, bins: Vec::new(), last: None, pauses: Vec::new() }
    }

    /// Notes that `bytes` arrived.
    pub fn record(&mut self, bytes: usize, now: Timestamp) {
        let bin = (now.since(self.start).min(Self::MOST).as_nanos() / Self::BIN.as_nanos()) as usize;
        if self.bins.len() <= bin {
            self.bins.resize(bin + 1, 0);
        }
        self.bins[bin] += bytes as u64;
        if let Some(last) = self.last
            && now.since(last) >= Self::LEAST_PAUSE
        {
            self.pauses.push((last, now));
        }
        self.last = Some(now);
    }

    /// When it starts.
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// When the last bytes arrived.
    pub fn last(&self) -> Option<Timestamp> {
        self.last
    }

    /// Bytes per bin, from the start.
    pub fn bins(&self) -> &[u64] {
        &self.bins
    }

    /// All bytes.
    pub fn total(&self) -> ByteCount {
        ByteCount::new(self.bins.iter().sum())
    }

    /// Bytes that arrived from `from` to `to`, counted from the start, in whole bins.
    pub fn bytes_between(&self, from: Duration, to: Duration) -> ByteCount {
        let at = |time: Duration| (time.as_nanos() / Self::BIN.as_nanos()) as usize;
        let (from, to) = (at(from), at(to).min(self.bins.len()));
        ByteCount::new(self.bins.get(from..to.max(from)).unwrap_or_default().iter().sum())
    }

    /// The mean rate from `from` to `to`, counted from the start.
    pub fn goodput(&self, from: Duration, to: Duration) -> Bitrate {
        Bitrate::from_bytes_over(self.bytes_between(from, to), to.saturating_sub(from))
    }

    /// The longest time without an arrival between `from` and `to`, counted from the start; the time before the first
    /// arrival and after the last one counts too. Exact to 5 ms.
    pub fn longest_gap(&self, from: Duration, to: Duration) -> Duration {
        let (from, to) = (self.start + from, self.start + to);
        let clipped = |(begin, end): (Timestamp, Timestamp)| end.min(to).since(begin.max(from));
        let first = self.bins.iter().position(|bytes| *bytes > 0);
        let first = first.map(|bin| self.start + Self::BIN * bin as u32);
        let before = (self.start, first.unwrap_or(Timestamp::MAX));
        let after = (self.last.unwrap_or(self.start), Timestamp::MAX);
        let edges = [before, after].into_iter();
        self.pauses.iter().copied().chain(edges).map(clipped).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn steady_with_a_gap() -> Timeline {
        let start = Timestamp::from_millis(5000);
        let mut timeline = Timeline::new(start);
        for at in (0..1000).filter(|at| !(400..650).contains(at)) {
            timeline.record(125, start + ms(at));
        }
        timeline
    }

    #[test]
    fn goodput_is_that_of_the_window() {
        let timeline = steady_with_a_gap();
        assert_eq!(timeline.goodput(ms(0), ms(400)), Bitrate::from_bps(1_000_000));
        assert_eq!(timeline.goodput(ms(400), ms(650)), Bitrate::ZERO);
        assert_eq!(timeline.goodput(ms(900), ms(1100)), Bitrate::from_bps(500_000));
        assert_eq!(timeline.goodput(ms(5000), ms(4000)), Bitrate::ZERO);
        assert_eq!(timeline.total(), ByteCount::new(750 * 125));
    }

    #[test]
    fn the_longest_gap_is_clipped_to_the_window() {
        let timeline = steady_with_a_gap();
        assert_eq!(timeline.longest_gap(ms(0), ms(1000)), ms(251));
        assert_eq!(timeline.longest_gap(ms(500), ms(1000)), ms(150));
        assert!(timeline.longest_gap(ms(0), ms(399)) < ms(5));
        assert_eq!(timeline.longest_gap(ms(0), ms(2000)), ms(1001));
        assert_eq!(Timeline::new(Timestamp::ZERO).longest_gap(ms(0), ms(300)), ms(300));
    }
}
