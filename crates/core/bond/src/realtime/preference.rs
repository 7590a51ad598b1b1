//! Which path real-time flows take: the one with the best delay *and* jitter, for as long as no other is clearly better.
//!
//! Each path has a score in microseconds: its smoothed one-way delay, twice its mean deviation (packets beyond that are late to the
//! listener), and its loss as if each percent were ten milliseconds, about what a repair over another path costs. Another path has to be
//! better by [`MARGIN`] and a tenth for [`PATIENCE`] on end: links take turns at being the best one, and each change shuffles the
//! packets of a call.

use bondwire_units::{PathId, Timestamp};
use core::time::Duration;

/// By how much another path has to be better, in microseconds, beside a tenth of the present one's score above the least delay.
const MARGIN: i64 = 3_000;
/// For how long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Microseconds for a loss of 1.
const LOSS: f64 = 1e6;

/// The score of a path: smaller is better. Delays are on a scale that all paths share.
pub(crate) fn score(delay: i64, variation: i64, loss: f64) -> i64 {
    delay.saturating_add(variation.saturating_mul(2)).saturating_add((loss * LOSS) as i64)
}

/// The path that was chosen, and the one that may follow it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Preference {
    path: Option<PathId>,
    rival: Option<(PathId, Timestamp)>,
    due: Timestamp,
}

impl Preference {
    /// The path in use.
    pub(crate) fn path(&self) -> Option<PathId> {
        self.path
    }

    /// Whether it is time to choose again.
    pub(crate) fn is_due(&self, now: Timestamp) -> bool {
        now >= self.due
    }

    /// Chooses among the paths that can be used now, with their scores. The next choice is due `again` later.
    pub(crate) fn choose(
        &mut self,
        paths: impl Iterator<Item = (PathId, i64)> + Clone,
        again: Duration,
        now: Timestamp,
    ) -> Option<PathId> {
        self.due = now + again;
        let (best, least) = paths.clone().min_by_key(|&(path, score)| (score, path))?;
        let present = self.path.and_then(|present| paths.clone().find(|&(path, _)| path == present));
        let Some((present, score)) = present else {
            // The one in use is gone: no patience with that.
            return self.take(best);
        };
        let spread = paths.map(|(_, score)| score - least).max().unwrap_or(0);
        if best == present || score - least < MARGIN + spread / 10 {
            self.rival = None;
            return Some(present);
        }
        let since = match self.rival {
            Some((rival, since)) if rival == best => since,
            _ => now,
        };
        self.rival = Some((best, since));
        if now.since(since) < PATIENCE { Some(present) } else { self.take(best) }
    }

    fn take(&mut self, path: PathId) -> Option<PathId> {
        self.path = Some(path);
        self.rival = None;
        self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    fn choose(preference: &mut Preference, scores: &[(u8, i64)], ms: u64) -> Option<u8> {
        let paths = scores.iter().map(|&(path, score)| (PathId(path), score));
        preference.choose(paths, Duration::ZERO, at(ms)).map(|path| path.0)
    }

    #[test]
    fn jitter_and_loss_count_as_delay() {
        assert!(score(20_000, 1_000, 0.0) < score(15_000, 5_000, 0.0));
        assert!(score(20_000, 1_000, 0.0) < score(15_000, 1_000, 0.01));
    }

    #[test]
    fn links_that_take_turns_do_not_move_it() {
        let mut preference = Preference::default();
        assert_eq!(choose(&mut preference, &[(0, 20_000), (1, 25_000)], 0), Some(0));
        for ms in 1..20_000 {
            let better = if ms / 300 % 2 == 0 { 5_000 } else { 40_000 };
            assert_eq!(choose(&mut preference, &[(0, 20_000), (1, better)], ms), Some(0));
        }
    }

    #[test]
    fn a_better_one_is_taken_in_time_and_a_dead_one_left_at_once() {
        let mut preference = Preference::default();
        choose(&mut preference, &[(0, 20_000), (1, 25_000)], 0);
        assert_eq!(choose(&mut preference, &[(0, 40_000), (1, 25_000)], 100), Some(0));
        assert_eq!(choose(&mut preference, &[(0, 40_000), (1, 25_000)], 1_100), Some(1));
        assert_eq!(choose(&mut preference, &[(0, 20_000)], 1_101), Some(0));
        assert_eq!(choose(&mut preference, &[], 1_102), None);
        assert_eq!(preference.path(), Some(PathId(0)), "it is taken again when it is back");
    }
}
