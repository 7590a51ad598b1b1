//! A parity, as the sender makes it and as the receiver reads it.

use std::fmt;

use crate::gf;

/// Packet numbers that one parity may span, from the first covered to the last.
pub const MAX_SPAN: usize = 256;

/// Bytes of a symbol before the plaintext: its length.
pub const LENGTH_LEN: usize = 2;

/// The longest plaintext that is protected, in bytes. Longer ones are left out: the bounds of memory rest on it.
pub const MAX_PLAINTEXT: usize = 2048 - LENGTH_LEN;

/// The longest symbol, in bytes.
pub(crate) const MAX_SYMBOL: usize = LENGTH_LEN + MAX_PLAINTEXT;

/// Bytes of the longest mask.
const MASK_LEN: usize = MAX_SPAN / 8;

/// Which packets a parity covers, relative to its first.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Mask {
    bits: [u8; MASK_LEN],
    /// Bytes up to the last one that is not 0.
    len: usize,
}

impl Mask {
    /// Covers `first + offset`. The offset is below [`MAX_SPAN`].
    pub(crate) fn set(&mut self, offset: usize) {
        self.bits[offset / 8] |= 1 << (offset % 8);
        self.len = self.len.max(offset / 8 + 1);
    }

    /// The bytes that go on the wire, without zeros at the end: 1 to 32 for a parity that an encoder made.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bits[..self.len]
    }
}

impl fmt::Debug for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(offsets(self.as_bytes())).finish()
    }
}

/// A parity to send. Its symbol goes back to the encoder when it has been written out: [`crate::Encoder::give_back`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parity {
    /// The number of the first packet covered.
    pub first: u64,
    /// Which of `first` and its followers are covered. The first always is.
    pub mask: Mask,
    /// What the coefficients follow from, beside the packets' numbers.
    pub key: u8,
    /// The sum: as long as the symbol of the longest packet covered.
    pub symbol: Vec<u8>,
}

impl Parity {
    /// The same, as a decoder takes it.
    pub fn view(&self) -> ParityRef<'_> {
        ParityRef { first: self.first, mask: self.mask.as_bytes(), key: self.key, symbol: &self.symbol }
    }
}

/// A parity as it came off the wire. Nothing in it is trusted.
#[derive(Clone, Copy, Debug)]
pub struct ParityRef<'a> {
    /// The number of the first packet that the mask speaks of.
    pub first: u64,
    /// 1 to 32 bytes; the first bit is the least significant of the first byte.
    pub mask: &'a [u8],
    /// What the coefficients follow from.
    pub key: u8,
    /// The sum of the symbols, each times its coefficient.
    pub symbol: &'a [u8],
}

impl ParityRef<'_> {
    /// The numbers covered, ascending, or nothing where no honest encoder makes such a parity.
    pub(crate) fn numbers(&self) -> Option<impl Iterator<Item = u64> + '_> {
        let last = offsets(self.mask).last()?;
        let sound = self.mask.len() <= MASK_LEN && (LENGTH_LEN..=MAX_SYMBOL).contains(&self.symbol.len());
        (sound && self.first.checked_add(last as u64).is_some())
            .then(|| offsets(self.mask).map(|offset| self.first + offset as u64))
    }
}

fn offsets(mask: &[u8]) -> impl Iterator<Item = usize> + '_ {
    mask.iter().enumerate().flat_map(|(index, byte)| {
        (0..8).filter(move |bit| byte >> bit & 1 == 1).map(move |bit| index * 8 + bit)
    })
}

/// Adds `c` times the symbol of `plaintext` to `symbol`, which grows where it is shorter.
pub(crate) fn add_packet(symbol: &mut Vec<u8>, plaintext: &[u8], c: u8) {
    add_length(symbol, plaintext.len(), c);
    gf::mul_add(&mut symbol[LENGTH_LEN..], plaintext, c);
}

/// Adds `c` times the length of a plaintext of `len` bytes to `symbol`, and makes it long enough for the plaintext.
pub(crate) fn add_length(symbol: &mut Vec<u8>, len: usize, c: u8) {
    if symbol.len() < LENGTH_LEN + len {
        symbol.resize(LENGTH_LEN + len, 0);
    }
    for (to, byte) in symbol.iter_mut().zip((len as u16).to_be_bytes()) {
        *to ^= gf::mul(byte, c);
    }
}

/// The plaintext that a symbol holds, or nothing where the length cannot be, or something follows the end.
pub(crate) fn plaintext(symbol: &[u8]) -> Option<&[u8]> {
    let (length, body) = symbol.split_first_chunk::<LENGTH_LEN>()?;
    let (plaintext, rest) = body.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    rest.iter().all(|byte| *byte == 0).then_some(plaintext)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_mask_is_read_as_its_bits_or_refused(
            first in prop_oneof![0..1000_u64, u64::MAX - 300..=u64::MAX],
            mask in prop::collection::vec(prop_oneof![Just(0), any::<u8>()], 0..40),
        ) {
            let parity = ParityRef { first, mask: &mask, key: 0, symbol: &[0; 9] };
            let bits: Vec<usize> =
                (0..mask.len() * 8).filter(|bit| mask[bit / 8] >> (bit % 8) & 1 == 1).collect();
            let sound = mask.len() <= 32 && bits.last().is_some_and(|bit| first <= u64::MAX - *bit as u64);
            let read: Option<Vec<u64>> = parity.numbers().map(Iterator::collect);
            prop_assert_eq!(read, sound.then(|| bits.iter().map(|bit| first + *bit as u64).collect()));
        }

        #[test]
        fn masks_that_are_written_are_read(offsets_set: std::collections::BTreeSet<u8>) {
            let mut mask = Mask::default();
            offsets_set.iter().for_each(|offset| mask.set(usize::from(*offset)));
            let want: Vec<usize> = offsets_set.iter().copied().map(usize::from).collect();
            prop_assert_eq!(offsets(mask.as_bytes()).collect::<Vec<_>>(), want);
        }

        #[test]
        fn any_symbol_is_a_plaintext_with_zeros_behind_or_refused(symbol: Vec<u8>, len in 0..20_u8) {
            let symbol = [&[0, len], &symbol[..]].concat();
            let body = symbol[2..].to_vec();
            let len = usize::from(len);
            let sound = body.len() >= len && body[len..].iter().all(|byte| *byte == 0);
            prop_assert_eq!(plaintext(&symbol), sound.then(|| &body[..len]));
        }
    }
}
