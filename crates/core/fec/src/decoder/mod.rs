//! The receiver's side: remembers packets, takes them out of parities, and solves for those that are missing.
//!
//! A parity is ignored when it misses nothing, or too much. Else it becomes an equation, which waits until enough
//! others or late packets have come. Its end is one of the counts in [`DecoderStats`].

mod equations;
mod memory;

use std::collections::VecDeque;

use self::equations::{COLUMNS, Equations};
use self::memory::Memory;
use crate::coefficient::coefficient;
use crate::parity::{LENGTH_LEN, MAX_PLAINTEXT, MAX_SPAN, MAX_SYMBOL, ParityRef, add_packet, plaintext};

/// Packet numbers that are remembered, the newest included. Parities may cover as many numbers ahead of it.
pub const REMEMBERED: usize = 2 * MAX_SPAN;

/// Equations that wait at most. The oldest one goes.
pub const MAX_EQUATIONS: usize = 32;

/// Missing packets that a parity may have when it arrives. Elimination may bring more of them into a row, but not more
/// than there are columns.
pub const MAX_UNKNOWNS: usize = 64;

/// Recovered packets that wait to be polled at most. The oldest one goes.
pub const MAX_RECOVERED: usize = 64;

/// Recovers lost packets of one path from its parities.
///
/// # Bounds
/// A new decoder owns no memory. At most, it remembers [`REMEMBERED`] plaintexts (0.7 MB at 1400 bytes each), keeps twice 33
/// rows of 1 KiB and a symbol each, and twice [`MAX_RECOVERED`] plaintexts on their way out: 1.2 MB in all at 1400 bytes
/// per packet, and [`Self::MOST_BYTES`] for a peer that sends the longest packets. A packet costs one copy, and one
/// multiplication per equation that misses it; a parity that misses something costs one per packet that it covers, and
/// one or two per equation.
#[derive(Debug, Default)]
pub struct Decoder {
    /// The highest number that arrived or was recovered. A parity that comes before all packets stands in for them.
    newest: Option<u64>,
    memory: Memory,
    equations: Equations,
    recovered: VecDeque<(u64, Vec<u8>)>,
    spare: Vec<Vec<u8>>,
    stats: DecoderStats,
}

/// What became of the parities. Each one that arrived either waits or is in exactly one of the counts from `malformed` to
/// `impossible`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DecoderStats {
    /// Parities that arrived.
    pub parities: u64,
    /// No encoder makes such: no or too long a mask, too short or too long a symbol, numbers beyond 2^64.
    pub malformed: u64,
    /// Covered a packet that is missing and older than what is remembered.
    pub forgotten: u64,
    /// Covered a packet too far ahead of all that arrived.
    pub ahead: u64,
    /// Missed more than [`MAX_UNKNOWNS`] packets.
    pub excessive: u64,
    /// Missed nothing, at once or in the end.
    pub unneeded: u64,
    /// Gave up waiting, since a packet that it missed became too old.
    pub expired: u64,
    /// Gave up waiting, since [`MAX_EQUATIONS`] newer ones were waiting.
    pub evicted: u64,
    /// Recovered a packet.
    pub recovered: u64,
    /// Disagreed with the packets that it covers: the peer is at fault.
    pub contradictory: u64,
    /// Would have recovered a packet that cannot be: the peer is at fault.
    pub impossible: u64,
    /// Recovered packets that nobody polled before [`MAX_RECOVERED`] more came.
    pub unread: u64,
}

impl Decoder {
    /// The most that it takes: [`REMEMBERED`] of the longest plaintexts, and as much again at most for rows and what was recovered,
    /// whose buffers may have grown to twice what they hold.
    pub const MOST_BYTES: usize = 2 * REMEMBERED * MAX_SYMBOL;

    /// A decoder that has seen nothing, and owns no memory yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers a packet that arrived, and takes it out of the equations that wait for it.
    ///
    /// Copies and packets older than what is remembered change nothing. Packets that are not protected may be left out.
    pub fn handle_packet(&mut self, number: u64, plaintext: &[u8]) {
        if plaintext.len() > MAX_PLAINTEXT || number < self.lowest() || self.knows(number) {
            return;
        }
        self.advance(number);
        self.memory.store(number, plaintext);
        self.equations.substitute(number, plaintext, self.lowest(), &mut self.stats);
        self.settle();
    }

    /// Takes in a parity. What it recovers is polled with [`Self::poll_recovered`].
    pub fn handle_parity(&mut self, parity: ParityRef<'_>) {
        self.stats.parities += 1;
        if let Err(reason) = self.missing(parity) {
            *reason(&mut self.stats) += 1;
            return;
        }
        let lowest = self.lowest();
        let mut row = self.equations.blank();
        row.symbol.extend_from_slice(parity.symbol);
        for number in parity.numbers().into_iter().flatten() {
            let c = coefficient(number, parity.key);
            match self.memory.get(number) {
                Some(plaintext) => add_packet(&mut row.symbol, plaintext, c),
                None => row.add_unknown(number, c),
            }
        }
        self.equations.insert(row, lowest, &mut self.stats);
        self.settle();
    }

    /// A packet that was lost and is restored: its number and plaintext. Each number comes once, and none that arrived.
    pub fn poll_recovered(&mut self) -> Option<(u64, Vec<u8>)> {
        self.recovered.pop_front()
    }

    /// Takes the buffer of a recovered packet, to be used again.
    pub fn give_back(&mut self, mut plaintext: Vec<u8>) {
        if self.spare.len() < MAX_RECOVERED {
            plaintext.clear();
            self.spare.push(plaintext);
        }
    }

    /// Whether packet `number` arrived or was recovered, as far as is remembered.
    pub fn knows(&self, number: u64) -> bool {
        self.memory.get(number).is_some()
    }

    /// Parities that wait for packets or for more parities.
    pub fn waiting(&self) -> usize {
        self.equations.len()
    }

    /// Bytes that it takes at present. Looks at each row and each recovered packet.
    pub fn bytes(&self) -> usize {
        let recovered = self.recovered.iter().map(|(_, plaintext)| plaintext.capacity());
        let spare = self.spare.iter().map(Vec::capacity);
        self.memory.bytes() + self.equations.bytes() + recovered.chain(spare).sum::<usize>()
    }

    /// What became of the parities.
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    /// Finds out whether a parity is of use, before work is spent on its symbol: it misses something, and not too much.
    ///
    /// # Errors
    /// The count that it belongs to instead.
    fn missing(&mut self, parity: ParityRef<'_>) -> Result<(), Count> {
        let Some(numbers) = parity.numbers() else {
            return Err(|stats| &mut stats.malformed);
        };
        let newest = *self.newest.get_or_insert(parity.first.saturating_sub(1));
        let (lowest, highest) = (self.lowest(), newest.saturating_add(REMEMBERED as u64));
        let mut missing = 0;
        for number in numbers {
            if let Some(plaintext) = self.memory.get(number) {
                // An honest symbol is as long as the longest packet that it covers.
                if LENGTH_LEN + plaintext.len() > parity.symbol.len() {
                    return Err(|stats| &mut stats.malformed);
                }
                continue;
            }
            missing += 1;
            if number < lowest {
                return Err(|stats| &mut stats.forgotten);
            } else if number > highest {
                return Err(|stats| &mut stats.ahead);
            } else if missing > MAX_UNKNOWNS {
                return Err(|stats| &mut stats.excessive);
            }
        }
        if missing == 0 { Err(|stats| &mut stats.unneeded) } else { Ok(()) }
    }

    /// The lowest number that is remembered, or that may still be recovered.
    fn lowest(&self) -> u64 {
        self.newest.unwrap_or(0).saturating_sub(REMEMBERED as u64 - 1)
    }

    /// Moves the window, and gives up the equations that miss what falls out of it.
    fn advance(&mut self, number: u64) {
        let lowest = self.lowest();
        let newest = *self.newest.get_or_insert(number);
        if number <= newest {
            return;
        }
        self.newest = Some(number);
        if number - newest >= COLUMNS as u64 {
            self.equations.forget_all(&mut self.stats);
        } else if self.equations.len() > 0 {
            for gone in lowest..self.lowest() {
                self.equations.forget(gone, &mut self.stats);
            }
        }
    }

    /// Takes what is solved, then drops equations beyond the bound.
    fn settle(&mut self) {
        while let Some(row) = self.equations.take_solved() {
            if let Some(plaintext) = plaintext(&row.symbol) {
                self.stats.recovered += 1;
                self.advance(row.pivot);
                self.memory.store(row.pivot, plaintext);
                self.report(row.pivot, plaintext);
            } else {
                self.stats.impossible += 1;
            }
            self.equations.recycle(row);
        }
        self.equations.evict(&mut self.stats);
    }

    fn report(&mut self, number: u64, plaintext: &[u8]) {
        if self.recovered.len() == MAX_RECOVERED
            && let Some((_, unread)) = self.recovered.pop_front()
        {
            self.stats.unread += 1;
            self.give_back(unread);
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(plaintext);
        self.recovered.push_back((number, buffer));
    }
}

/// One of the counts.
type Count = fn(&mut DecoderStats) -> &mut u64;
