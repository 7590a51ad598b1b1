use core::ops::Range;
use std::collections::BTreeMap;

/// A set of numbers, kept as ranges that neither touch nor overlap.
#[derive(Clone, Debug, Default)]
pub(super) struct RangeSet {
    /// Start → end, exclusive.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds a range; returns those parts of it that were not in the set.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let Range { mut start, mut end } = range.clone();
        let mut new = Vec::new();
        if start >= end {
            return new;
        }
        let mut from = start;
        if let Some((&before, &until)) = self.ranges.range(..start).next_back()
            && until >= start
        {
            start = before;
            from = until.min(end);
            end = end.max(until);
        }
        while let Some((&next, &until)) = self.ranges.range(from..=end).next() {
            if next > from {
                new.push(from..next);
            }
            from = until.max(from);
            end = end.max(until);
            self.ranges.remove(&next);
        }
        if from < range.end {
            new.push(from..range.end);
        }
        self.ranges.insert(start, end);
        new
    }

    /// Takes out everything below `bound`.
    pub(super) fn remove_below(&mut self, bound: u64) {
        while let Some((&start, &end)) = self.ranges.first_key_value() {
            if start >= bound {
                return;
            }
            self.ranges.remove(&start);
            if end > bound {
                self.ranges.insert(bound, end);
            }
        }
    }

    /// The range that begins at or before `at` and reaches beyond it.
    pub(super) fn containing(&self, at: u64) -> Option<Range<u64>> {
        let (&start, &end) = self.ranges.range(..=at).next_back()?;
        (end > at).then_some(start..end)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bondwire_netem::Rng;

    #[test]
    fn behaves_like_a_set() {
        let mut rng = Rng::new(4);
        for _ in 0..200 {
            let mut ranges = RangeSet::default();
            let mut model = [false; 64];
            for _ in 0..20 {
                let start = rng.below(60);
                let range = start..rng.between(start, 63);
                let new: Vec<u64> = ranges.insert(range.clone()).into_iter().flatten().collect();
                let expected: Vec<u64> = range.clone().filter(|&n| !model[n as usize]).collect();
                assert_eq!(new, expected);
                range.for_each(|n| model[n as usize] = true);
                if rng.chance(0.2) {
                    let bound = rng.below(64);
                    ranges.remove_below(bound);
                    model[..bound as usize].fill(false);
                }
                let held: Vec<u64> = ranges.iter().flatten().collect();
                let expected: Vec<u64> = (0..64).filter(|&n| model[n as usize]).collect();
                assert_eq!(held, expected);
                let apart: Vec<_> = ranges.iter().collect();
                assert!(apart.windows(2).all(|pair| pair[0].end < pair[1].start), "{apart:?}");
            }
        }
    }
}
