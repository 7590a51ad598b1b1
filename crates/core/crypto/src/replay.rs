//! The replay window of one path in one direction (docs/protocol.md, KEY-5).

use core::fmt;

use crate::PACKET_NUMBER_LIMIT;

const WIDTH: u64 = 8_192;
const WORDS: usize = (WIDTH / 64) as usize;

/// Which of the last 8,192 packet numbers of a path have come already.
///
/// A ring of one bit per number, 1 KiB, allocated once. Ask [`ReplayWindow::check`] before a packet is opened, which saves
/// the work on copies, and call [`ReplayWindow::commit`] only after it has opened: a forged packet must not use up a number.
pub struct ReplayWindow {
    /// The bit of number `n` is bit `n % 64` of word `n / 64 % WORDS`; bits of numbers from `next` on are zero or outdated.
    seen: Box<[u64; WORDS]>,
    /// The largest number that was committed plus one; 0 before the first.
    next: u64,
}

impl ReplayWindow {
    /// A window in which nothing has come yet.
    pub fn new() -> Self {
        Self { seen: Box::new([0; WORDS]), next: 0 }
    }

    /// The largest number so far, from which the full number of a packet is found (docs/protocol.md, WIRE-5).
    pub fn largest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Whether a packet with this number may be opened: it is in or above the window, and has not come yet.
    pub fn check(&self, packet_number: u64) -> bool {
        if packet_number >= self.next {
            return packet_number < PACKET_NUMBER_LIMIT;
        }
        self.next - packet_number <= WIDTH && self.seen[word(packet_number)] & bit(packet_number) == 0
    }

    /// Marks the number as come, and moves the window up to it. A number for which [`ReplayWindow::check`] is false changes
    /// nothing.
    pub fn commit(&mut self, packet_number: u64) {
        if !self.check(packet_number) {
            return;
        }
        if packet_number >= self.next {
            self.forget(packet_number);
            self.next = packet_number + 1;
        }
        self.seen[word(packet_number)] |= bit(packet_number);
    }

    /// Clears the bits of the numbers from `next` up to and with `last`: they still stand for numbers one turn earlier.
    fn forget(&mut self, last: u64) {
        if last - self.next >= WIDTH {
            self.seen.fill(0);
            return;
        }
        let mut from = self.next;
        while from <= last {
            let block_end = from | 63;
            let mut mask = u64::MAX << (from % 64);
            if block_end > last {
                mask &= u64::MAX >> (63 - last % 64);
            }
            self.seen[word(from)] &= !mask;
            from = block_end + 1;
        }
    }
}

fn word(packet_number: u64) -> usize {
    (packet_number / 64 % WORDS as u64) as usize
}

fn bit(packet_number: u64) -> u64 {
    1 << (packet_number % 64)
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReplayWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplayWindow").field("largest", &self.largest()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_window_is_exactly_8192_wide() {
        let mut window = ReplayWindow::new();
        window.commit(10_000);
        assert_eq!(window.largest(), Some(10_000));
        assert!(!window.check(10_000));
        assert!(window.check(10_000 - 8_191));
        assert!(!window.check(10_000 - 8_192));
        window.commit(10_000 - 8_191);
        assert!(!window.check(10_000 - 8_191));
    }

    #[test]
    fn zero_is_a_number_like_any_other() {
        let mut window = ReplayWindow::new();
        assert_eq!(window.largest(), None);
        assert!(window.check(0));
        window.commit(0);
        assert_eq!(window.largest(), Some(0));
        assert!(!window.check(0));
        assert!(window.check(1));
    }

    #[test]
    fn numbers_at_the_limit_are_refused() {
        let mut window = ReplayWindow::new();
        for number in [PACKET_NUMBER_LIMIT, u64::MAX] {
            assert!(!window.check(number));
            window.commit(number);
        }
        assert_eq!(window.largest(), None);
        window.commit(PACKET_NUMBER_LIMIT - 1);
        assert!(window.check(PACKET_NUMBER_LIMIT - 2));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ahead(u64),
        Behind(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (0_u64..4).prop_map(Step::Ahead),
            2 => (0_u64..200).prop_map(Step::Ahead),
            1 => (8_000_u64..8_400).prop_map(Step::Ahead),
            1 => (0_u64..40_000).prop_map(Step::Ahead),
            4 => (0_u64..200).prop_map(Step::Behind),
            2 => (0_u64..9_000).prop_map(Step::Behind),
            1 => (8_100_u64..8_300).prop_map(Step::Behind),
        ];
        prop::collection::vec(step, 1..600)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        /// Against a set of all numbers that were ever committed.
        #[test]
        fn agrees_with_the_model(start in 0_u64..100_000, steps in steps()) {
            let mut window = ReplayWindow::new();
            let mut model = BTreeSet::new();
            let mut largest = start;
            window.commit(start);
            model.insert(start);
            for step in steps {
                let number = match step {
                    Step::Ahead(by) => largest + by,
                    Step::Behind(by) => largest.saturating_sub(by),
                };
                let fresh = number + 8_192 > largest && !model.contains(&number);
                prop_assert_eq!(window.check(number), fresh, "{} with the largest at {}", number, largest);
                window.commit(number);
                if fresh {
                    model.insert(number);
                    largest = largest.max(number);
                }
                prop_assert!(!window.check(number));
                prop_assert_eq!(window.largest(), Some(largest));
            }
            for number in largest.saturating_sub(8_500)..largest + 300 {
                let fresh = number + 8_192 > largest && !model.contains(&number);
                prop_assert_eq!(window.check(number), fresh, "{} at the end", number);
            }
        }
    }
}
