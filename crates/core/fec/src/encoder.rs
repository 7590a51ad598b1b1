//! The sender's side: packets are added to open accumulators as they are sent, and nothing else is kept of them.

use std::collections::VecDeque;

use crate::coefficient::coefficient;
use crate::gf::Block;
use crate::parity::{LENGTH_LEN, MAX_PLAINTEXT, MAX_SPAN, Mask, Parity, add_length};

/// The most accumulators that may be open, and so the most parities that cover one packet: their keys must differ
/// modulo 8 (see [`coefficient`]).
pub const MAX_OVERLAP: usize = 8;

/// Makes parities over the packets of one path.
///
/// Of the open accumulators, each was begun when the one `overlap` parities before it was closed. So each packet is
/// covered by the next `overlap` parities, and as many losses between two parities can be made good.
///
/// # Bounds
/// One symbol per open accumulator and as many spare ones: at most 16 times [`MAX_PLAINTEXT`], in practice 6 packets.
#[derive(Debug)]
pub struct Encoder {
    /// Oldest first. Their keys are consecutive.
    open: VecDeque<Accumulator>,
    /// The key of the accumulator that is begun next.
    next_key: u8,
    /// The newest number that was added.
    newest: Option<u64>,
    covered: usize,
    spare: Vec<Vec<u8>>,
}

/// A parity in the making.
#[derive(Debug)]
struct Accumulator {
    key: u8,
    /// Nothing before the first packet.
    first: Option<u64>,
    mask: Mask,
    symbol: Vec<u8>,
}

impl Encoder {
    /// An encoder whose packets are covered by `overlap` parities each, 1 to [`MAX_OVERLAP`] (else the nearest of them).
    pub fn new(overlap: usize) -> Self {
        let overlap = overlap.clamp(1, MAX_OVERLAP);
        let mut encoder = Self {
            open: VecDeque::with_capacity(overlap),
            next_key: 0,
            newest: None,
            covered: 0,
            spare: Vec::new(),
        };
        (0..overlap).for_each(|_| encoder.begin());
        encoder
    }

    /// Adds a packet. Numbers ascend; they need not be consecutive, since not all packets are protected.
    ///
    /// Returns whether the packet is covered now: it is not when it is longer than [`MAX_PLAINTEXT`], or when its
    /// number is not above those before.
    pub fn add(&mut self, number: u64, plaintext: &[u8]) -> bool {
        if plaintext.len() > MAX_PLAINTEXT || self.newest.is_some_and(|newest| number <= newest) {
            return false;
        }
        self.newest = Some(number);
        self.drop_overlong(number);
        let mut factors = [0; MAX_OVERLAP];
        for (accumulator, c) in self.open.iter_mut().zip(&mut factors) {
            *c = accumulator.cover(number, plaintext.len());
        }
        for (index, chunk) in plaintext.chunks(Block::LEN).enumerate() {
            let block = Block::new(chunk);
            let at = LENGTH_LEN + index * Block::LEN;
            for (accumulator, c) in self.open.iter_mut().zip(factors) {
                block.mul_add(&mut accumulator.symbol[at..], c);
            }
        }
        self.covered += 1;
        true
    }

    /// Packets added since the last parity.
    pub fn covered(&self) -> usize {
        self.covered
    }

    /// Closes the oldest accumulator, or returns nothing where it is empty.
    ///
    /// When nothing was added since the last parity, the next one covers the end of what the last one did, once more:
    /// at the end of a burst of traffic, up to `overlap` parities are of use.
    pub fn take_parity(&mut self) -> Option<Parity> {
        let first = self.open.front()?.first?;
        let closed = self.open.pop_front()?;
        self.begin();
        self.covered = 0;
        Some(Parity { first, mask: closed.mask, key: closed.key, symbol: closed.symbol })
    }

    /// Bytes of its symbols at present.
    pub fn bytes(&self) -> usize {
        let open =
            self.open.iter().map(|accumulator| size_of::<Accumulator>() + accumulator.symbol.capacity());
        open.chain(self.spare.iter().map(Vec::capacity)).sum()
    }

    /// Takes the buffer of a parity that has been sent, to be used again.
    pub fn give_back(&mut self, mut symbol: Vec<u8>) {
        if self.spare.len() < self.open.len() {
            symbol.clear();
            self.spare.push(symbol);
        }
    }

    /// Begins an accumulator behind the others.
    fn begin(&mut self) {
        let symbol = self.spare.pop().unwrap_or_default();
        self.open.push_back(Accumulator { key: self.next_key, first: None, mask: Mask::default(), symbol });
        self.next_key = self.next_key.wrapping_add(1);
    }

    /// Begins those anew whose span would exceed [`MAX_SPAN`] with `number`: too few parities were taken. They go to the
    /// back, since those that stay now reach further into the past.
    fn drop_overlong(&mut self, number: u64) {
        let overlong = |accumulator: &Accumulator| {
            accumulator.first.is_some_and(|first| number - first >= MAX_SPAN as u64)
        };
        while self.open.front().is_some_and(overlong) {
            if let Some(dropped) = self.open.pop_front() {
                self.give_back(dropped.symbol);
                self.begin();
            }
        }
    }
}

impl Accumulator {
    /// Takes in all of a packet but its plaintext, for which there is room then. Returns the packet's coefficient.
    fn cover(&mut self, number: u64, len: usize) -> u8 {
        let first = *self.first.get_or_insert(number);
        self.mask.set((number - first) as usize);
        let c = coefficient(number, self.key);
        add_length(&mut self.symbol, len, c);
        c
    }
}
