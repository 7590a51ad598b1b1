use core::time::Duration;
use std::sync::Arc;

use bondwire_units::{Bitrate, ByteCount, Timestamp};

/// A rate that follows a recording, in Mahimahi's format: one line per opportunity to deliver 1,500 bytes, each the
/// millisecond since the start at which it comes, in rising order. The recording repeats with its last timestamp as
/// the period. An opportunity that finds nothing to deliver is wasted.
///
/// At most [`Trace::MAX_OPPORTUNITIES`]; copies share the memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    millis: Arc<[u32]>,
}

/// A text that is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// No line at all, or a last timestamp of zero: such a trace has no period.
    #[error(
        "the trace has no opportunity after its first millisecond: write one millisecond timestamp per line"
    )]
    Empty,
    /// A line that is no number.
    #[error("line {line} of the trace is no whole number of milliseconds: `{text}`")]
    NotANumber {
        /// Counted from 1.
        line: usize,
        /// What stands there, shortened.
        text: String,
    },
    /// A timestamp before the one above it.
    #[error("line {line} of the trace goes back in time: timestamps may only rise")]
    NotRising {
        /// Counted from 1.
        line: usize,
    },
    /// More opportunities than are kept.
    #[error("the trace has more than {} lines: cut it", Trace::MAX_OPPORTUNITIES)]
    TooLong,
}

impl Trace {
    /// What an opportunity delivers.
    pub const OPPORTUNITY: ByteCount = ByteCount::new(1500);
    /// The greatest number of opportunities (4 MB of memory; 1 Gbit/s for 12 s).
    pub const MAX_OPPORTUNITIES: usize = 1_000_000;

    /// Reads a trace. Empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// Says which line is wrong, and why.
    pub fn parse(text: &str) -> Result<Self, TraceError> {
        let mut millis = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line_number = index + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let at: u32 = line.parse().map_err(|_| TraceError::NotANumber {
                line: line_number,
                text: line.chars().take(40).collect(),
            })?;
            if millis.last().is_some_and(|&last| at < last) {
                return Err(TraceError::NotRising { line: line_number });
            }
            if millis.len() == Self::MAX_OPPORTUNITIES {
                return Err(TraceError::TooLong);
            }
            millis.push(at);
        }
        Self::from_millis(millis)
    }

    /// A trace with opportunities at these milliseconds.
    ///
    /// # Errors
    /// As [`Trace::parse`]; lines are positions, counted from 1.
    pub fn from_millis(millis: Vec<u32>) -> Result<Self, TraceError> {
        if millis.len() > Self::MAX_OPPORTUNITIES {
            return Err(TraceError::TooLong);
        }
        if let Some(at) = millis.windows(2).position(|pair| pair[1] < pair[0]) {
            return Err(TraceError::NotRising { line: at + 2 });
        }
        match millis.last() {
            None | Some(0) => Err(TraceError::Empty),
            Some(_) => Ok(Self { millis: millis.into() }),
        }
    }

    /// After how long it repeats.
    pub fn period(&self) -> Duration {
        Duration::from_millis(u64::from(self.period_millis()))
    }

    /// The mean rate over a period.
    pub fn mean_rate(&self) -> Bitrate {
        let bytes = self.millis.len() as u64 * Self::OPPORTUNITY.get();
        Bitrate::from_bytes_over(ByteCount::new(bytes), self.period())
    }

    fn period_millis(&self) -> u32 {
        self.millis.last().copied().unwrap_or(1)
    }

    /// When the opportunity `index` comes, counted over all repetitions from `origin`.
    pub(crate) fn at(&self, index: u64, origin: Timestamp) -> Timestamp {
        let len = self.millis.len() as u64;
        let (lap, within) = (index / len, (index % len) as usize);
        let millis = lap.saturating_mul(u64::from(self.period_millis())) + u64::from(self.millis[within]);
        origin + Duration::from_millis(millis)
    }

    /// The first opportunity that comes at `time` or later.
    pub(crate) fn first_from(&self, time: Timestamp, origin: Timestamp) -> u64 {
        let nanos = u64::try_from(time.since(origin).as_nanos()).unwrap_or(u64::MAX);
        let millis = nanos.div_ceil(1_000_000);
        let (len, period) = (self.millis.len() as u64, u64::from(self.period_millis()));
        // The last opportunities of a lap stand at its very end, which is also the start of the next lap.
        let lap = (millis / period).saturating_sub(u64::from(millis.is_multiple_of(period) && millis > 0));
        let within = millis - lap * period;
        let position = self.millis.partition_point(|&at| u64::from(at) < within) as u64;
        lap * len + position
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_repeats() {
        let trace = Trace::parse("# two a period\n5\n\n10\n").unwrap();
        assert_eq!(trace.period(), Duration::from_millis(10));
        assert_eq!(trace.mean_rate(), "2.4 Mbit/s".parse().unwrap());
        let at = |i| trace.at(i, Timestamp::ZERO).as_micros() / 1000;
        assert_eq!((0..5).map(at).collect::<Vec<_>>(), [5, 10, 15, 20, 25]);
        for millis in 0..40 {
            let found = trace.first_from(Timestamp::from_millis(millis), Timestamp::ZERO);
            assert!(at(found) >= millis && (found == 0 || at(found - 1) < millis), "{millis} → {found}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert_eq!(Trace::parse(""), Err(TraceError::Empty));
        assert_eq!(Trace::parse("0\n0\n"), Err(TraceError::Empty));
        assert_eq!(Trace::parse("4\n3\n"), Err(TraceError::NotRising { line: 2 }));
        let error = Trace::parse("1\ntwo\n").unwrap_err();
        assert_eq!(error, TraceError::NotANumber { line: 2, text: "two".into() });
    }
}
