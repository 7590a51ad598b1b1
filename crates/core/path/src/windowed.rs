//! The least value of the recent past, in constant memory.
//!
//! Time is cut into buckets; a bucket remembers its least value, and is forgotten as a whole when it is older
//! than the window. Nothing is forgotten while nothing new comes: a path that was idle keeps what it knew.

use std::collections::VecDeque;

use bondwire_units::Timestamp;
use core::time::Duration;

/// The number of buckets of a window.
const BUCKETS: u64 = 10;

/// A windowed minimum. Bound: eleven buckets.
#[derive(Clone, Debug)]
pub(crate) struct WindowedMin {
    bucket: Duration,
    span: Duration,
    slots: VecDeque<(Timestamp, i64)>,
}

impl WindowedMin {
    /// A minimum over the last `span`.
    pub(crate) fn new(span: Duration) -> Self {
        Self { bucket: span / BUCKETS as u32, span, slots: VecDeque::with_capacity(BUCKETS as usize + 2) }
    }

    /// Adds a value and forgets what is too old.
    pub(crate) fn update(&mut self, value: i64, now: Timestamp) {
        match self.slots.back_mut() {
            Some((start, least)) if *start + self.bucket > now => *least = (*least).min(value),
            _ => self.slots.push_back((now, value)),
        }
        while self.slots.len() > 1 && self.slots.front().is_some_and(|&(start, _)| start + self.span < now) {
            self.slots.pop_front();
        }
        while self.slots.len() > BUCKETS as usize + 1 {
            self.merge_oldest();
        }
    }

    /// Forgets everything and starts again with `value`.
    pub(crate) fn reset(&mut self, value: i64, now: Timestamp) {
        self.slots.clear();
        self.slots.push_back((now, value));
    }

    /// The least value of the window.
    pub(crate) fn get(&self) -> Option<i64> {
        self.slots.iter().map(|&(_, least)| least).min()
    }

    /// The third-least of the buckets' least values (the second or the least if there are few): what was
    /// reached more than once, not by a stroke of luck.
    pub(crate) fn get_often(&self) -> Option<i64> {
        let mut least = [i64::MAX; 3];
        for &(_, value) in &self.slots {
            if value < least[0] {
                least = [value, least[0], least[1]];
            } else if value < least[1] {
                least = [least[0], value, least[1]];
            } else if value < least[2] {
                least[2] = value;
            }
        }
        (!self.slots.is_empty()).then(|| least[(self.slots.len() / 4).min(2)])
    }

    fn merge_oldest(&mut self) {
        if let Some((_, old)) = self.slots.pop_front()
            && let Some((_, least)) = self.slots.front_mut()
        {
            *least = (*least).min(old);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_after_the_window() {
        let mut min = WindowedMin::new(Duration::from_millis(100));
        min.update(5, Timestamp::from_millis(0));
        min.update(9, Timestamp::from_millis(50));
        assert_eq!(min.get(), Some(5));
        min.update(8, Timestamp::from_millis(120));
        assert_eq!((min.get(), min.get_often()), (Some(8), Some(8)));
        for t in 0..1_000 {
            min.update(7, Timestamp::from_millis(200 + t));
            assert!(min.slots.len() <= 11);
        }
        assert_eq!(min.get(), Some(7));
        min.update(1, Timestamp::from_millis(1_200));
        assert_eq!((min.get(), min.get_often()), (Some(1), Some(7)), "once is luck");
    }
}
