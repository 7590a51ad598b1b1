//! Puts inner packets together that were cut over several datagrams (docs/protocol.md, DATA-5).
//!
//! Bounds: [`MAX_WAITING`] packets, each for [`MAX_WAIT`].

use crate::pool::Pool;
use bondwire_units::Timestamp;
use bondwire_wire::Fragment;
use bondwire_wire::frame::MAX_FRAGMENTS;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

/// Packets that wait for their rest.
/// The bytes of every fragment but the last: fits, with all headers, into the 1,280 bytes that every link takes.
pub(crate) const FRAGMENT_LEN: usize = 1_180;
const MAX_WAITING: usize = 2_048;
/// For how long they wait.
const MAX_WAIT: Duration = Duration::from_secs(3);

#[derive(Debug)]
struct Partial {
    bytes: Vec<u8>,
    have: u8,
    count: Option<u8>,
    since: Timestamp,
}

/// Packets of which some fragments have come.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    partial: BTreeMap<(u16, u64), Partial>,
    order: VecDeque<(u16, u64)>,
    dropped: u64,
}

impl Reassembly {
    /// Packets that were dropped incomplete.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// A fragment arrived. Returns the whole packet when this was the last one missing.
    pub(crate) fn handle_fragment(
        &mut self,
        flow: u16,
        sequence: u64,
        fragment: Fragment,
        payload: &[u8],
        pool: &mut Pool,
        now: Timestamp,
    ) -> Option<Vec<u8>> {
        self.drop_old(pool, now);
        let index = usize::from(fragment.index);
        let fits = if fragment.last { payload.len() <= FRAGMENT_LEN } else { payload.len() == FRAGMENT_LEN };
        if fragment.index >= MAX_FRAGMENTS || !fits {
            return None;
        }
        let key = (flow, sequence);
        if !self.partial.contains_key(&key) {
            self.order.push_back(key);
        }
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            bytes: pool.copy(&[]),
            have: 0,
            count: None,
            since: now,
        });
        let end = index * FRAGMENT_LEN + payload.len();
        if fragment.last {
            partial.count = Some(fragment.index + 1);
            partial.bytes.resize(end.max(partial.bytes.len().min(end)), 0);
        } else if partial.bytes.len() < end && partial.count.is_none() {
            partial.bytes.resize(end, 0);
        }
        let Some(place) = partial.bytes.get_mut(index * FRAGMENT_LEN..end) else {
            // Fragments that contradict one another: none of them can be trusted.
            self.forget(key, pool);
            return None;
        };
        place.copy_from_slice(payload);
        partial.have |= 1 << index;
        let complete = partial.count.is_some_and(|count| partial.have.count_ones() == u32::from(count));
        if !complete {
            return None;
        }
        let whole = self.partial.remove(&key).map(|p| p.bytes);
        if self.order.len() > 2 * MAX_WAITING {
            let partial = &self.partial;
            self.order.retain(|key| partial.contains_key(key));
        }
        whole
    }

    fn forget(&mut self, key: (u16, u64), pool: &mut Pool) {
        if let Some(partial) = self.partial.remove(&key) {
            self.dropped += 1;
            pool.give_back(partial.bytes);
        }
    }

    fn drop_old(&mut self, pool: &mut Pool, now: Timestamp) {
        while let Some(key) = self.order.front().copied() {
            match self.partial.get(&key) {
                Some(partial) if self.partial.len() < MAX_WAITING && now.since(partial.since) < MAX_WAIT => {
                    return;
                }
                Some(_) => self.forget(key, pool),
                None => {}
            }
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(packet: &[u8]) -> Vec<(Fragment, Vec<u8>)> {
        let count = packet.len().div_ceil(FRAGMENT_LEN);
        packet
            .chunks(FRAGMENT_LEN)
            .enumerate()
            .map(|(i, c)| (Fragment { index: i as u8, last: i + 1 == count }, c.to_vec()))
            .collect()
    }

    #[test]
    fn fragments_in_any_order_make_the_packet() {
        let packet: Vec<u8> = (0..4_000_u32).map(|i| i as u8).collect();
        let mut pool = Pool::new(4);
        for first in 0..4 {
            let mut reassembly = Reassembly::default();
            let mut fragments = cut(&packet);
            fragments.rotate_left(first);
            let last = fragments.pop().unwrap();
            for (fragment, bytes) in &fragments {
                for _ in 0..2 {
                    assert!(
                        reassembly
                            .handle_fragment(2, 9, *fragment, bytes, &mut pool, Timestamp::ZERO)
                            .is_none()
                    );
                }
            }
            let whole = reassembly.handle_fragment(2, 9, last.0, &last.1, &mut pool, Timestamp::ZERO);
            assert_eq!(whole.as_deref(), Some(&packet[..]));
        }
    }

    #[test]
    fn contradictions_and_crowds_are_dropped() {
        let mut pool = Pool::new(4);
        let mut reassembly = Reassembly::default();
        let last = Fragment { index: 0, last: true };
        let more = Fragment { index: 1, last: false };
        assert!(
            reassembly.handle_fragment(0, 1, more, &[0; FRAGMENT_LEN], &mut pool, Timestamp::ZERO).is_none()
        );
        assert!(
            reassembly.handle_fragment(0, 2, more, &[0; 7], &mut pool, Timestamp::ZERO).is_none(),
            "short, but not the last"
        );
        assert!(reassembly.handle_fragment(0, 1, last, &[0; 7], &mut pool, Timestamp::ZERO).is_none());
        for sequence in 10..10_000 {
            reassembly.handle_fragment(0, sequence, more, &[0; FRAGMENT_LEN], &mut pool, Timestamp::ZERO);
            assert!(reassembly.partial.len() <= MAX_WAITING);
            assert!(reassembly.order.len() <= MAX_WAITING + 1);
        }
    }
}
