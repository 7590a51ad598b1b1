use bondwire_units::ByteCount;

/// What a pipe has done since it was made.
///
/// At every moment `packets_in + duplicated = packets_out + dropped() + held`, where `held` is
/// [`Pipe::held`](crate::Pipe::held).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PipeStats {
    /// Packets given to it.
    pub packets_in: u64,
    /// Packets that it gave out, copies included.
    pub packets_out: u64,
    /// IP bytes given to it.
    pub bytes_in: ByteCount,
    /// IP bytes that it gave out, copies included.
    pub bytes_out: ByteCount,
    /// Packets for which the queue had no room.
    pub dropped_queue: u64,
    /// Packets that the policer dropped.
    pub dropped_policer: u64,
    /// Packets lost at random or in a burst.
    pub dropped_loss: u64,
    /// Packets that met an outage.
    pub dropped_outage: u64,
    /// Copies that were made.
    pub duplicated: u64,
    /// Packets that were let overtake.
    pub reordered: u64,
}

impl PipeStats {
    /// All packets that vanished, for whatever reason.
    pub fn dropped(&self) -> u64 {
        self.dropped_queue + self.dropped_policer + self.dropped_loss + self.dropped_outage
    }
}
