//! CoDel (RFC 8289): decides at the head of a queue whether the packet there has waited too long for too long.

use bondwire_units::Timestamp;
use core::time::Duration;

/// How patient the queue is. Both are set from the flow's round-trip time through the bond: the constants of the RFC
/// (5 ms, 100 ms) are for paths of 100 ms, and a bulk flow over unequal links needs a queue as long as their delays differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CodelParams {
    /// The sojourn time that may stand.
    pub(crate) target: Duration,
    /// For how long it may be exceeded before the first drop.
    pub(crate) interval: Duration,
}

/// The state of one queue.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Codel {
    first_above: Option<Timestamp>,
    dropping: bool,
    drop_next: Timestamp,
    count: u32,
    last_count: u32,
}

impl Codel {
    /// Whether the packet at the head, queued for `sojourn`, is to be dropped (or marked). `backlog` is what stands behind it, in bytes.
    pub(crate) fn should_drop(
        &mut self,
        sojourn: Duration,
        backlog: usize,
        params: CodelParams,
        now: Timestamp,
    ) -> bool {
        let above = self.is_above(sojourn, backlog, params, now);
        if self.dropping {
            if !above {
                self.dropping = false;
                return false;
            }
            if now >= self.drop_next {
                self.count += 1;
                self.drop_next += control_law(params.interval, self.count);
                return true;
            }
            return false;
        }
        if !above {
            return false;
        }
        self.dropping = true;
        let since_last = self.count.saturating_sub(self.last_count);
        let recent = now.since(self.drop_next) < params.interval * 16;
        self.count = if since_last > 1 && recent { since_last } else { 1 };
        self.last_count = self.count;
        self.drop_next = now + control_law(params.interval, self.count);
        true
    }

    fn is_above(&mut self, sojourn: Duration, backlog: usize, params: CodelParams, now: Timestamp) -> bool {
        if sojourn < params.target || backlog <= 1514 {
            self.first_above = None;
            return false;
        }
        match self.first_above {
            None => {
                self.first_above = Some(now + params.interval);
                false
            }
            Some(at) => now >= at,
        }
    }
}

fn control_law(interval: Duration, count: u32) -> Duration {
    interval.div_f64(f64::from(count.max(1)).sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMS: CodelParams =
        CodelParams { target: Duration::from_millis(5), interval: Duration::from_millis(100) };

    #[test]
    fn a_short_burst_is_left_alone() {
        let mut codel = Codel::default();
        for ms in 0..90 {
            assert!(!codel.should_drop(
                Duration::from_millis(50),
                100_000,
                PARAMS,
                Timestamp::from_millis(ms)
            ));
        }
        assert!(!codel.should_drop(Duration::from_millis(1), 100_000, PARAMS, Timestamp::from_millis(95)));
        assert!(!codel.should_drop(Duration::from_millis(50), 100_000, PARAMS, Timestamp::from_millis(150)));
    }

    #[test]
    fn a_standing_queue_is_dropped_from_ever_faster() {
        let mut codel = Codel::default();
        let drops: Vec<u64> = (0..2_000)
            .filter(|ms| {
                codel.should_drop(Duration::from_millis(50), 100_000, PARAMS, Timestamp::from_millis(*ms))
            })
            .collect();
        assert!(drops.len() > 20, "{drops:?}");
        let (first, last) = (drops[1] - drops[0], drops[drops.len() - 1] - drops[drops.len() - 2]);
        assert!(last < first, "{drops:?}");
    }
}
