//! What an ordered flow sent is kept here until it is acknowledged, so that it can be sent again over any path
//! (docs/protocol.md, FRAME-4: content is retransmitted, packets are not).
//!
//! Life of an entry: kept when first sent → carried by one or more packets (*copies*) → acknowledged, or given up on when it is too
//! old or the store is full; then the receiver is told by SKIP (DATA-7).
//!
//! Packets of real-time flows are kept too, without order and for a short time, so that what a dying path carried can go out again and
//! what became of them is known.
//!
//! Bounds: the bytes given at construction; [`MAX_AGE`], [`MAX_LOOSE_AGE`].

use crate::pool::{OVERHEAD, Pool};
use crate::realtime::{Fate, NO_STREAM, Save};
use bondwire_units::Timestamp;
use core::time::Duration;
use std::collections::VecDeque;

/// After this a packet is not worth repairing: the inner sender has sent it again by itself.
pub(crate) const MAX_AGE: Duration = Duration::from_millis(2_500);

/// The same for a packet of a real-time flow: after this nobody knows what became of it.
pub(crate) const MAX_LOOSE_AGE: Duration = Duration::from_secs(1);
/// Fates that wait to be booked.
const MAX_FATES: usize = 1_024;

/// Names an entry; one whose entry is gone names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreId {
    index: u32,
    generation: u32,
}

/// A packet that may have to be sent again.
#[derive(Debug)]
pub(crate) struct Stored {
    /// The flow's identifier.
    pub(crate) flow: u16,
    /// Its place in the flow.
    pub(crate) sequence: u64,
    /// The inner packet.
    pub(crate) bytes: Vec<u8>,
    /// When it was first sent.
    pub(crate) first_sent: Timestamp,
    /// How many packets that carry it, or a fragment of it, may still arrive.
    pub(crate) copies: u16,
    /// It waits to be sent again.
    pub(crate) queued: bool,
    /// The fragments that were acknowledged, as a bit mask.
    pub(crate) fragments: u8,
    /// It belongs to an ordered flow. One that does not is kept for a short time: repaired while that is of use, and then forgotten.
    pub(crate) ordered: bool,
    /// The receiver has it by a parity, and the first transmission may still arrive.
    pub(crate) recovered: bool,
    /// What happened to it, if its flow is real-time.
    pub(crate) fate: Fate,
}

impl Stored {
    /// How long it is kept at most.
    fn life(&self) -> Duration {
        if self.ordered { MAX_AGE } else { MAX_LOOSE_AGE }
    }
}

/// Sent and not yet acknowledged.
#[derive(Debug)]
pub(crate) struct Store {
    entries: Vec<(u32, Option<Stored>)>,
    free: Vec<u32>,
    order: VecDeque<StoreId>,
    bytes: usize,
    limit: usize,
    /// What became of packets of real-time flows, and whether they arrived. At most [`MAX_FATES`].
    fates: VecDeque<(Fate, bool)>,
}

impl Store {
    /// A store of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            entries: Vec::new(),
            free: Vec::new(),
            order: VecDeque::new(),
            bytes: 0,
            limit,
            fates: VecDeque::new(),
        }
    }

    /// Bytes kept.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a packet.
    pub(crate) fn keep(&mut self, flow: u16, sequence: u64, bytes: Vec<u8>, now: Timestamp) -> StoreId {
        self.insert(flow, sequence, bytes, true, NO_STREAM, now)
    }

    /// Keeps a packet of a real-time flow.
    pub(crate) fn keep_loose(
        &mut self,
        flow: u16,
        sequence: u64,
        bytes: Vec<u8>,
        stream: u32,
        now: Timestamp,
    ) -> StoreId {
        self.insert(flow, sequence, bytes, false, stream, now)
    }

    /// The next packet of a real-time flow whose fate is known, and whether it arrived.
    pub(crate) fn poll_fate(&mut self) -> Option<(Fate, bool)> {
        self.fates.pop_front()
    }

    fn insert(
        &mut self,
        flow: u16,
        sequence: u64,
        bytes: Vec<u8>,
        ordered: bool,
        stream: u32,
        now: Timestamp,
    ) -> StoreId {
        self.bytes += bytes.len() + OVERHEAD;
        let stored = Stored {
            flow,
            sequence,
            bytes,
            first_sent: now,
            copies: 0,
            queued: false,
            fragments: 0,
            ordered,
            recovered: false,
            fate: Fate::of(stream),
        };
        let index = self.free.pop().unwrap_or_else(|| {
            self.entries.push((0, None));
            (self.entries.len() - 1) as u32
        });
        let entry = &mut self.entries[index as usize];
        entry.1 = Some(stored);
        let id = StoreId { index, generation: entry.0 };
        self.order.push_back(id);
        id
    }

    /// Whether an entry is still kept.
    pub(crate) fn has(&self, id: StoreId) -> bool {
        self.entries
            .get(id.index as usize)
            .is_some_and(|(generation, stored)| *generation == id.generation && stored.is_some())
    }

    /// The entry, if it is still there.
    pub(crate) fn get_mut(&mut self, id: StoreId) -> Option<&mut Stored> {
        let (generation, stored) = self.entries.get_mut(id.index as usize)?;
        if *generation == id.generation { stored.as_mut() } else { None }
    }

    /// One copy arrived: the whole packet, or fragment `fragment.0` of `fragment.1`. Returns whether the packet should be sent again: fragments of it
    /// are missing, and none is under way any more.
    pub(crate) fn on_acknowledged(
        &mut self,
        id: StoreId,
        fragment: Option<(u8, u8)>,
        pool: &mut Pool,
    ) -> bool {
        let Some(stored) = self.get_mut(id) else { return false };
        stored.copies = stored.copies.saturating_sub(1);
        let complete = match fragment {
            None => true,
            Some((index, count)) => {
                stored.fragments |= 1 << (index & 7);
                stored.fragments.count_ones() >= u32::from(count)
            }
        };
        if !complete {
            let again = stored.copies == 0 && !stored.queued;
            stored.queued |= again;
            return again;
        }
        if let Some(stored) = self.remove(id) {
            self.note_fate(&stored, true);
            pool.give_back(stored.bytes);
        }
        false
    }

    /// One copy was lost. Returns whether the packet should be sent again: it is still wanted, no other copy is under way, and it does not wait already.
    pub(crate) fn on_lost(&mut self, id: StoreId) -> bool {
        let Some(stored) = self.get_mut(id) else { return false };
        stored.copies = stored.copies.saturating_sub(1);
        let again = stored.copies == 0 && !stored.queued;
        stored.queued |= again;
        stored.fate.lost = true;
        if again {
            stored.fate.again.get_or_insert(Save::Repair);
        }
        again
    }

    /// One copy sits on a path that turned suspect, and will not be heard of again: send the packet again, whatever other copies there are.
    pub(crate) fn on_doubtful(&mut self, id: StoreId) -> bool {
        let Some(stored) = self.get_mut(id) else { return false };
        stored.copies = stored.copies.saturating_sub(1);
        if stored.recovered {
            return false;
        }
        let again = !stored.queued;
        stored.queued = true;
        stored.fate.lost = true;
        stored.fate.again.get_or_insert(Save::Failover);
        again
    }

    /// Takes an entry out.
    pub(crate) fn remove(&mut self, id: StoreId) -> Option<Stored> {
        let (generation, stored) = self.entries.get_mut(id.index as usize)?;
        if *generation != id.generation {
            return None;
        }
        let stored = stored.take()?;
        *generation = generation.wrapping_add(1);
        self.free.push(id.index);
        self.bytes -= stored.bytes.len() + OVERHEAD;
        Some(stored)
    }

    /// The receiver made the packet whole from others: it has it. Whether its first transmission was `lost`, or only overtaken, may not be known
    /// yet; then it stays until that is.
    pub(crate) fn on_recovered(&mut self, id: StoreId, lost: bool, pool: &mut Pool) {
        let Some(stored) = self.get_mut(id) else { return };
        if !lost {
            stored.recovered = true;
            return;
        }
        stored.fate.lost = true;
        stored.fate.again.get_or_insert(Save::Redundancy);
        self.on_acknowledged(id, None, pool);
    }

    /// The first transmission is lost. Returns whether the receiver has the packet all the same, so that nothing is left to do.
    pub(crate) fn on_recovered_lost(&mut self, id: Option<StoreId>, pool: &mut Pool) -> bool {
        let Some(id) = id.filter(|id| self.get_mut(*id).is_some_and(|stored| stored.recovered)) else {
            return false;
        };
        self.on_recovered(id, true, pool);
        true
    }

    /// Gives a packet up that would come too late.
    pub(crate) fn forget(&mut self, id: StoreId, pool: &mut Pool) {
        if let Some(stored) = self.remove(id) {
            self.note_fate(&stored, false);
            pool.give_back(stored.bytes);
        }
    }

    fn note_fate(&mut self, stored: &Stored, arrived: bool) {
        let counts = stored.fate.stream != NO_STREAM && (stored.fate.lost || !arrived);
        if counts && self.fates.len() < MAX_FATES {
            self.fates.push_back((stored.fate, arrived));
        }
    }

    /// An entry that is too old, or too much for the memory: to be given up.
    pub(crate) fn poll_given_up(&mut self, now: Timestamp) -> Option<Stored> {
        while let Some(id) = self.order.front().copied() {
            let full = self.bytes > self.limit;
            match self.get_mut(id) {
                Some(stored) if full || now.since(stored.first_sent) > stored.life() => {
                    self.order.pop_front();
                    let stored = self.remove(id)?;
                    self.note_fate(&stored, stored.recovered);
                    return Some(stored);
                }
                Some(_) => return None,
                None => {
                    self.order.pop_front();
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_goes_when_it_is_acknowledged_and_again_only_when_its_last_copy_is_lost() {
        let mut pool = Pool::new(4);
        let mut store = Store::new(10_000);
        let id = store.keep(2, 7, vec![1; 100], Timestamp::ZERO);
        store.get_mut(id).unwrap().copies = 2;
        assert!(!store.on_lost(id), "another copy is under way");
        assert!(store.on_lost(id));
        assert!(!store.on_lost(id), "it waits already");
        store.on_acknowledged(id, None, &mut pool);
        assert!(store.get_mut(id).is_none());
        assert_eq!(store.bytes(), 0);
        let other = store.keep(2, 8, vec![1; 100], Timestamp::ZERO);
        assert_ne!(id, other);
        assert!(store.get_mut(id).is_none(), "an old name names nothing");
    }

    /// A packet whose path died, and whose repetition was lost too, waited until it was too old: the dead copy counted as under way.
    #[test]
    fn regression_a_rescued_packet_is_repaired_again() {
        let mut store = Store::new(10_000);
        let id = store.keep(2, 7, vec![1; 100], Timestamp::ZERO);
        store.get_mut(id).unwrap().copies = 1;
        assert!(store.on_doubtful(id));
        let stored = store.get_mut(id).unwrap();
        (stored.queued, stored.copies) = (false, stored.copies + 1);
        assert!(store.on_lost(id), "its repetition was the only copy under way");
    }

    #[test]
    fn fragments_count_only_together() {
        let mut pool = Pool::new(4);
        let mut store = Store::new(10_000);
        let id = store.keep(2, 7, vec![1; 1400], Timestamp::ZERO);
        store.on_acknowledged(id, Some((0, 2)), &mut pool);
        store.on_acknowledged(id, Some((0, 2)), &mut pool);
        assert!(store.get_mut(id).is_some());
        store.on_acknowledged(id, Some((1, 2)), &mut pool);
        assert!(store.get_mut(id).is_none());
    }

    #[test]
    fn age_and_memory_are_bounded() {
        let mut store = Store::new(2 * (100 + OVERHEAD) + 50);
        for sequence in 0..4 {
            store.keep(0, sequence, vec![0; 100], Timestamp::ZERO);
        }
        assert_eq!(store.poll_given_up(Timestamp::ZERO).map(|s| s.sequence), Some(0));
        assert_eq!(store.poll_given_up(Timestamp::ZERO).map(|s| s.sequence), Some(1));
        assert!(store.poll_given_up(Timestamp::ZERO).is_none());
        let late = Timestamp::ZERO + MAX_AGE + Duration::from_millis(1);
        assert_eq!(store.poll_given_up(late).map(|s| s.sequence), Some(2));
    }

    #[test]
    fn the_fate_of_real_time_packets_is_known() {
        let mut pool = Pool::new(4);
        let mut store = Store::new(100_000);
        let mut fate_of = |act: fn(&mut Store, StoreId, &mut Pool)| {
            let id = store.keep_loose(1, 0, vec![0; 100], 5, Timestamp::ZERO);
            store.get_mut(id).unwrap().copies = 1;
            act(&mut store, id, &mut pool);
            store.poll_fate().map(|(fate, arrived)| (fate.again, arrived))
        };
        let first = |store: &mut Store, id, pool: &mut Pool| _ = store.on_acknowledged(id, None, pool);
        assert_eq!(fate_of(first), None, "what arrives at first is no news");
        let repaired = |store: &mut Store, id, pool: &mut Pool| {
            assert!(store.on_lost(id));
            store.on_acknowledged(id, None, pool);
        };
        assert_eq!(fate_of(repaired), Some((Some(Save::Repair), true)));
        let rescued = |store: &mut Store, id, pool: &mut Pool| {
            assert!(store.on_doubtful(id));
            store.on_acknowledged(id, None, pool);
        };
        assert_eq!(fate_of(rescued), Some((Some(Save::Failover), true)));
        let copied = |store: &mut Store, id, pool: &mut Pool| {
            store.get_mut(id).unwrap().copies = 2;
            assert!(!store.on_lost(id));
            store.on_acknowledged(id, None, pool);
        };
        assert_eq!(fate_of(copied), Some((None, true)));
        let recovered = |store: &mut Store, id, pool: &mut Pool| store.on_recovered(id, true, pool);
        assert_eq!(fate_of(recovered), Some((Some(Save::Redundancy), true)));
        let recovered_first = |store: &mut Store, id, pool: &mut Pool| {
            store.on_recovered(id, false, pool);
            assert!(store.on_recovered_lost(Some(id), pool), "nothing has to be sent again");
        };
        assert_eq!(fate_of(recovered_first), Some((Some(Save::Redundancy), true)));
        let overtaken = |store: &mut Store, id, pool: &mut Pool| {
            store.on_recovered(id, false, pool);
            store.on_acknowledged(id, None, pool);
        };
        assert_eq!(fate_of(overtaken), None, "its parity was quicker, and it was not lost");
        assert_eq!(fate_of(Store::forget), Some((None, false)));
        assert_eq!(store.bytes(), 0);
        store.keep_loose(1, 9, vec![0; 100], 5, Timestamp::ZERO);
        let late = Timestamp::ZERO + MAX_LOOSE_AGE + Duration::from_millis(1);
        assert!(store.poll_given_up(late).is_some_and(|stored| !stored.ordered));
    }
}
