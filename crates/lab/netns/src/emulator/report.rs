use bondwire_netem::PipeStats;
use serde::Serialize;

use super::histogram::Percentiles;

/// How well the emulator did, and what it did to packets.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmulatorReport {
    /// From the time at which a packet was due to the time at which it was handed on, in microseconds, since the start
    /// or the last [`Emulator::reset_lateness`](super::Emulator::reset_lateness).
    pub lateness_us: Percentiles,
    /// Whether the emulator's thread runs ahead of all others (SCHED_FIFO); an ordinary user may not ask for that.
    pub realtime: bool,
    /// Each link, in the scenario's order.
    pub links: Vec<LinkReport>,
}

/// One link's part of an [`EmulatorReport`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LinkReport {
    /// Its name.
    pub name: String,
    /// From the client.
    pub up: DirectionReport,
    /// To the client.
    pub down: DirectionReport,
    /// Packets that the provider's NAT did not let through; 0 without NAT.
    pub nat_drops: u64,
}

/// What one direction did to packets. At every moment those that entered, and the copies, are those that left, were
/// dropped, or are still in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DirectionReport {
    /// Packets that entered.
    pub packets_in: u64,
    /// Packets that left.
    pub packets_out: u64,
    /// IP bytes that entered.
    pub bytes_in: u64,
    /// IP bytes that left.
    pub bytes_out: u64,
    /// Dropped because the queue was full.
    pub dropped_queue: u64,
    /// Lost at random or in bursts.
    pub dropped_loss: u64,
    /// Vanished while the link was silent.
    pub dropped_outage: u64,
    /// Vanished because they were larger than the link's MTU.
    pub dropped_size: u64,
    /// Dropped by the kernel before the emulator saw them: its thread did not get the CPU in time.
    pub dropped_kernel: u64,
    /// Left, but the kernel refused them.
    pub failed_sends: u64,
}

impl DirectionReport {
    pub(crate) fn from_stats(stats: PipeStats) -> Self {
        Self {
            packets_in: stats.packets_in,
            packets_out: stats.packets_out,
            bytes_in: stats.bytes_in.get(),
            bytes_out: stats.bytes_out.get(),
            dropped_queue: stats.dropped_queue,
            dropped_loss: stats.dropped_loss,
            dropped_outage: stats.dropped_outage,
            ..Self::default()
        }
    }
}

impl EmulatorReport {
    /// Whether the machine was quick enough for the figures to mean something: 99 % of the packets at most 1 ms late,
    /// none lost in the kernel.
    pub fn kept_up(&self) -> bool {
        self.lateness_us.p99 <= 1000 && self.overload_drops() == 0
    }

    /// Packets that were lost because the machine was too slow, and not by the scenario's will.
    pub fn overload_drops(&self) -> u64 {
        let both = self.links.iter().flat_map(|link| [&link.up, &link.down]);
        both.map(|direction| direction.dropped_kernel + direction.failed_sends).sum()
    }

    /// The part of one link.
    pub fn link(&self, name: &str) -> Option<&LinkReport> {
        self.links.iter().find(|link| link.name == name)
    }
}
