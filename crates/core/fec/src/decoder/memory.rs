//! The plaintexts of the last packets, which the receiver takes out of the parities that cover them.

use super::REMEMBERED;

/// A ring of plaintexts, indexed by packet number. Its buffers are used again and again.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// Empty until the first packet, then [`REMEMBERED`] of them.
    slots: Vec<Slot>,
    /// Of all buffers.
    bytes: usize,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    number: Option<u64>,
    plaintext: Vec<u8>,
}

impl Memory {
    /// Remembers a packet, in place of the one [`REMEMBERED`] numbers before or after.
    pub(super) fn store(&mut self, number: u64, plaintext: &[u8]) {
        if self.slots.is_empty() {
            self.slots.resize(REMEMBERED, Slot::default());
        }
        let slot = &mut self.slots[index(number)];
        slot.number = Some(number);
        slot.plaintext.clear();
        let before = slot.plaintext.capacity();
        slot.plaintext.reserve_exact(plaintext.len());
        self.bytes += slot.plaintext.capacity() - before;
        slot.plaintext.extend_from_slice(plaintext);
    }

    /// Bytes that it takes at present.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.slots.capacity() * size_of::<Slot>()
    }

    /// The plaintext of packet `number`, where it is remembered.
    pub(super) fn get(&self, number: u64) -> Option<&[u8]> {
        let slot = self.slots.get(index(number))?;
        (slot.number == Some(number)).then_some(&slot.plaintext)
    }
}

fn index(number: u64) -> usize {
    (number % REMEMBERED as u64) as usize
}
