use serde::Serialize;

/// Buckets of 1 µs up to 64 µs, then 32 to each doubling: values are exact to 3 %.
const LINEAR: u64 = 64;
const PER_DOUBLING: u64 = 32;
/// Up to 2^26 µs (a minute); what is later counts as that.
const BUCKETS: usize = (LINEAR + 20 * PER_DOUBLING) as usize;

/// Counts of durations in microseconds. Fixed size, 5.5 kB.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

/// A few points of a distribution of times, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// How many were measured.
    pub count: u64,
    /// Half of them are at most this.
    pub p50: u64,
    /// 99 % of them are at most this.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: 0 }
    }

    pub(crate) fn record(&mut self, micros: u64) {
        if let Some(count) = self.counts.get_mut(bucket(micros)) {
            *count += 1;
        }
        self.total += 1;
        self.max = self.max.max(micros);
    }

    pub(crate) fn percentiles(&self) -> Percentiles {
        Percentiles { count: self.total, p50: self.quantile(50), p99: self.quantile(99), max: self.max }
    }

    /// The upper edge of the bucket in which the given percentage is reached; 0 if nothing was recorded.
    fn quantile(&self, percent: u64) -> u64 {
        let wanted = (self.total * percent).div_ceil(100);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && seen > 0 {
                return upper_edge(at as u64).min(self.max);
            }
        }
        self.max
    }
}

fn bucket(micros: u64) -> usize {
    if micros < LINEAR {
        return micros as usize;
    }
    let doubling = u64::from(micros.ilog2()) - 6;
    let within = (micros >> (doubling + 1)) - PER_DOUBLING;
    ((LINEAR + doubling * PER_DOUBLING + within) as usize).min(BUCKETS - 1)
}

fn upper_edge(bucket: u64) -> u64 {
    if bucket < LINEAR {
        return bucket;
    }
    let (doubling, within) = ((bucket - LINEAR) / PER_DOUBLING, (bucket - LINEAR) % PER_DOUBLING);
    ((PER_DOUBLING + within + 1) << (doubling + 1)) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_its_bucket_within_three_percent() {
        for value in (0..2_000_000_u64).step_by(37) {
            let at = bucket(value) as u64;
            let edge = upper_edge(at);
            assert!(edge >= value, "{value} above {edge}");
            assert!(edge - value <= value / 31 + 1, "{value} far from {edge}");
            assert!(at == 0 || upper_edge(at - 1) < value, "{value} belongs below");
        }
    }

    #[test]
    fn percentiles_of_a_ramp() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.percentiles(), Percentiles::default());
        (1..=1000).for_each(|value| histogram.record(value));
        let got = histogram.percentiles();
        assert_eq!((got.count, got.max), (1000, 1000));
        assert!((500..=516).contains(&got.p50), "{got:?}");
        assert!((990..=1000).contains(&got.p99), "{got:?}");
    }

    #[test]
    fn the_absurdly_late_is_counted() {
        let mut histogram = Histogram::new();
        histogram.record(u64::MAX / 2);
        assert_eq!(histogram.percentiles().max, u64::MAX / 2);
    }
}
