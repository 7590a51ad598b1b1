//! How the memory that a session was given is divided.
//!
//! A quarter is for the ingress queue, a quarter for the store of sent packets, half for what arrives. That half pays first for what stands
//! *beside* the packets: parities (the encoders of the sending end, what the receiving end remembers to solve them, contents that wait for
//! one), marks of when data entered the bond, and acknowledgements that came early. What they leave is for packets that wait for their
//! order. All of it is counted anew at every upkeep.
//!
//! Bounds: [`Budget::solvers`] and [`Budget::marked_flows`] keep what stands beside to 9/32 of the memory, and 2.5 MB for the sending end of sixteen
//! lossy paths. The sum keeps to the memory from 32 MiB on (the default), but for what 50 ms bring; with less memory fewer paths can be
//! solved, under 8 MiB none.

use super::Session;
use super::parity::MAX_SOLVERS;
use crate::smoothing;
use bondwire_fec::Decoder;
use bondwire_units::ByteCount;

/// A session's memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    quarter: usize,
}

impl Budget {
    pub(super) fn new(memory: ByteCount) -> Self {
        Self { quarter: (memory.get() / 4) as usize }
    }

    /// For packets that wait to be sent.
    pub(super) fn ingress(self) -> usize {
        self.quarter
    }

    /// For packets that may have to be sent again.
    pub(super) fn store(self) -> usize {
        self.quarter
    }

    /// For packets that wait for order, while so much stands beside them. Something is left in any case: without it nothing would be put in order.
    pub(super) fn order(self, beside: usize) -> usize {
        (2 * self.quarter).saturating_sub(beside).max(self.quarter / 2)
    }

    /// Paths whose parities may be solved at a time: a quarter of the memory at most.
    pub(super) fn solvers(self) -> usize {
        (self.quarter / Decoder::MOST_BYTES).min(MAX_SOLVERS)
    }

    /// Flows that may have marks: an eighth of a quarter at most.
    pub(super) fn marked_flows(self) -> usize {
        (self.quarter / 8 / smoothing::FLOW_BYTES).min(smoothing::MAX_FLOWS)
    }
}

impl Session {
    /// Bytes that parities and marks take at present.
    pub(super) fn bytes_beside(&self) -> usize {
        let lanes = self.lanes.iter().map(|lane| {
            lane.guard.bytes()
                + lane.cross.as_ref().map_or(0, |cross| cross.bytes())
                + lane.solver.as_ref().map_or(0, |solver| solver.bytes())
        });
        lanes.sum::<usize>() + self.smoother.marks_bytes()
    }

    /// What stands beside the packets is not there for their order.
    pub(super) fn share_memory(&mut self) {
        let beside = self.bytes_beside() + self.smoother.held_bytes();
        self.order.set_limit(self.budget.order(beside));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encoders (12 and 6 symbols, whose buffers may have grown to twice the longest) and contents that wait, on sixteen paths.
    const SENDING: usize = 16 * (18 * 4_096 + (256 + 64) * 256);

    #[test]
    fn the_parts_are_no_more_than_the_whole() {
        for mib in [32, 64, 1024] {
            let memory = ByteCount::new(mib << 20);
            let budget = Budget::new(memory);
            let marks = budget.marked_flows() * smoothing::FLOW_BYTES + smoothing::HELD_MOST;
            let most = budget.solvers() * Decoder::MOST_BYTES + marks + SENDING;
            for beside in [0, most] {
                let sum = budget.ingress() + budget.store() + budget.order(beside) + beside;
                assert!(sum as u64 <= memory.get(), "{mib} MiB, {beside} beside");
            }
            assert!(budget.order(most) >= budget.order(0) / 4, "{mib} MiB");
        }
    }

    #[test]
    fn little_memory_solves_few_paths_and_still_puts_in_order() {
        let solvers = [1, 8, 16, 32, 64].map(|mib: u64| Budget::new(ByteCount::new(mib << 20)).solvers());
        assert_eq!(solvers, [0, 1, 2, 4, 4]);
        let budget = Budget::new(ByteCount::new(1 << 20));
        assert!(budget.order(usize::MAX) > 100_000 && budget.marked_flows() >= 1);
    }
}
