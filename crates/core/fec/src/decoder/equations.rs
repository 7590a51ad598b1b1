//! Parities that wait for packets, as a system of linear equations in reduced echelon form.
//!
//! The unknowns are the packets that have not arrived. Each row has a pivot, the unknown that it stands for: with
//! coefficient 1 in its own row, and in no other. A row whose pivot is its only unknown is solved. Each step (a parity, a
//! packet that arrives, one that is forgotten) restores this form with at most one addition per row.
//!
//! Coefficients are kept densely, in a ring of columns: unknowns lie in a window of numbers that is no wider, so that a
//! number's column is the number modulo the width, and rows are added with the same arithmetic as symbols.

use super::{DecoderStats, MAX_EQUATIONS, REMEMBERED};
use crate::gf;
use crate::parity::add_packet;

/// Columns of a row: the numbers that are remembered, and as many ahead.
pub(super) const COLUMNS: usize = 2 * REMEMBERED;

/// The waiting equations, oldest first: at most [`MAX_EQUATIONS`], and one more within a call.
#[derive(Debug, Default)]
pub(super) struct Equations {
    rows: Vec<Row>,
    /// Rows to be used again, all zeros.
    spare: Vec<Row>,
}

/// One equation: the sum of the unknown packets' symbols, each times its coefficient, is `symbol`.
#[derive(Debug)]
pub(super) struct Row {
    coefficients: Box<[u8; COLUMNS]>,
    unknowns: usize,
    pub(super) pivot: u64,
    pub(super) symbol: Vec<u8>,
}

impl Equations {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Bytes of all rows at present.
    pub(super) fn bytes(&self) -> usize {
        let rows = self.rows.iter().chain(&self.spare);
        rows.map(|row| size_of::<Row>() + COLUMNS + row.symbol.capacity()).sum()
    }

    /// A row without unknowns and with an empty symbol.
    pub(super) fn blank(&mut self) -> Row {
        self.spare.pop().unwrap_or_else(|| Row {
            coefficients: Box::new([0; COLUMNS]),
            unknowns: 0,
            pivot: 0,
            symbol: Vec::new(),
        })
    }

    /// Keeps a row's buffers for the next one.
    pub(super) fn recycle(&mut self, mut row: Row) {
        if self.spare.len() <= MAX_EQUATIONS {
            row.coefficients.fill(0);
            row.symbol.clear();
            self.spare.push(row);
        }
    }

    /// Takes in a new equation. `lowest` is the lowest number that may be unknown.
    pub(super) fn insert(&mut self, mut row: Row, lowest: u64, stats: &mut DecoderStats) {
        for other in &self.rows {
            row.eliminate(other, other.pivot);
        }
        row.recount();
        if !row.choose_pivot(lowest) {
            self.end_empty(row, stats);
            return;
        }
        for other in &mut self.rows {
            other.eliminate(&row, row.pivot);
        }
        self.rows.push(row);
    }

    /// Takes a packet that has arrived out of all rows.
    pub(super) fn substitute(
        &mut self,
        number: u64,
        plaintext: &[u8],
        lowest: u64,
        stats: &mut DecoderStats,
    ) {
        let mut index = 0;
        while index < self.rows.len() {
            let row = &mut self.rows[index];
            let c = core::mem::take(&mut row.coefficients[column(number)]);
            if c == 0 {
                index += 1;
                continue;
            }
            add_packet(&mut row.symbol, plaintext, c);
            row.unknowns -= 1;
            if row.unknowns == 0 {
                let row = self.rows.remove(index);
                self.end_empty(row, stats);
            } else if row.pivot == number {
                // No other row had it, so that the order of rows may change under way.
                let row = self.rows.remove(index);
                self.give_pivot(row, index, lowest);
                return;
            } else {
                index += 1;
            }
        }
    }

    /// Gives a row without pivot one of its unknowns as pivot, and puts it back at its place.
    fn give_pivot(&mut self, mut row: Row, index: usize, lowest: u64) {
        row.choose_pivot(lowest);
        for other in &mut self.rows {
            other.eliminate(&row, row.pivot);
        }
        self.rows.insert(index, row);
    }

    /// Gives up a number: one of the rows that have it is lost, which makes the others free of it.
    pub(super) fn forget(&mut self, number: u64, stats: &mut DecoderStats) {
        let Some(index) = self.rows.iter().position(|row| row.coefficients[column(number)] != 0) else {
            return;
        };
        let mut lost = self.rows.remove(index);
        lost.normalise(number);
        for other in &mut self.rows {
            other.eliminate(&lost, number);
        }
        self.recycle(lost);
        stats.expired += 1;
    }

    /// Gives up all rows.
    pub(super) fn forget_all(&mut self, stats: &mut DecoderStats) {
        while let Some(row) = self.rows.pop() {
            self.recycle(row);
            stats.expired += 1;
        }
    }

    /// Takes a solved row: its symbol is that of its pivot.
    pub(super) fn take_solved(&mut self) -> Option<Row> {
        let index = self.rows.iter().position(|row| row.unknowns == 1)?;
        Some(self.rows.remove(index))
    }

    /// Keeps to the bound: the oldest rows go.
    pub(super) fn evict(&mut self, stats: &mut DecoderStats) {
        while self.rows.len() > MAX_EQUATIONS {
            let row = self.rows.remove(0);
            self.recycle(row);
            stats.evicted += 1;
        }
    }

    /// Counts a row that has no unknowns left: what remains of its symbol must be nothing.
    fn end_empty(&mut self, row: Row, stats: &mut DecoderStats) {
        if row.symbol.iter().all(|byte| *byte == 0) {
            stats.unneeded += 1;
        } else {
            stats.contradictory += 1;
        }
        self.recycle(row);
    }
}

impl Row {
    /// Makes an unknown of a number that was none in this row.
    pub(super) fn add_unknown(&mut self, number: u64, coefficient: u8) {
        self.coefficients[column(number)] = coefficient;
        self.unknowns += 1;
    }

    /// Adds as much of `other` as frees this row of `number`, whose coefficient is 1 there.
    fn eliminate(&mut self, other: &Self, number: u64) {
        let c = self.coefficients[column(number)];
        if c == 0 {
            return;
        }
        gf::mul_add(&mut self.coefficients[..], &other.coefficients[..], c);
        if self.symbol.len() < other.symbol.len() {
            self.symbol.resize(other.symbol.len(), 0);
        }
        gf::mul_add(&mut self.symbol, &other.symbol, c);
        self.recount();
    }

    fn recount(&mut self) {
        self.unknowns = self.coefficients.iter().filter(|c| **c != 0).count();
    }

    /// Makes the oldest unknown the pivot, so that a row goes no sooner than it must. False when there is none.
    fn choose_pivot(&mut self, lowest: u64) -> bool {
        // The columns wrap as the numbers do: those beyond the last number are empty.
        let numbers = (0..COLUMNS as u64).map(|offset| lowest.wrapping_add(offset));
        let Some(pivot) = numbers.into_iter().find(|number| self.coefficients[column(*number)] != 0) else {
            return false;
        };
        self.pivot = pivot;
        self.normalise(pivot);
        true
    }

    /// Makes the coefficient of `number`, which is not 0, equal to 1.
    fn normalise(&mut self, number: u64) {
        let c = gf::inv(self.coefficients[column(number)]);
        gf::scale(&mut self.coefficients[..], c);
        gf::scale(&mut self.symbol, c);
    }
}

fn column(number: u64) -> usize {
    (number % COLUMNS as u64) as usize
}
