use core::time::Duration;

use bondwire_units::{Bitrate, ByteCount};

use crate::trace::Trace;

/// What one direction of a link does to packets. The default passes everything at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PipeConfig {
    /// How fast it serialises, in IP bytes; none is without limit, zero lets nothing through until it changes.
    /// A trace takes its place.
    pub rate: Option<Bitrate>,
    /// What its drop-tail queue holds, the packet in service included. None is 100 ms of the rate (of a trace: of its
    /// mean), and [`PipeConfig::LEAST_QUEUE`] at least.
    pub queue: Option<ByteCount>,
    /// From the end of serialisation to the far end, one way.
    pub delay: Duration,
    /// Added to the delay of each packet: uniform in ± this, the sum never below zero.
    pub jitter: Duration,
    /// Whether jitter may reorder packets. If not, a packet waits for the one before it.
    pub jitter_reorders: bool,
    /// The probability, 0 to 1, that a packet is lost, independent of all others.
    pub loss: f64,
    /// Losses that come in bursts, besides [`PipeConfig::loss`].
    pub burst: Option<Burst>,
    /// The probability, 0 to 1, that a packet overtakes: it skips a uniform share of the delay, and does not wait for
    /// those before it. Nothing is overtaken where the delay is zero.
    pub reorder: f64,
    /// The probability, 0 to 1, that a packet comes out twice.
    pub duplicate: f64,
    /// A recorded rate instead of a constant one. It starts when the configuration is set.
    pub trace: Option<Trace>,
    /// Drops what exceeds a rate, before the queue; none lets all enter.
    pub policer: Option<Policer>,
    /// Packets come out only at multiples of this time, all that are due at once: a cellular grant, or Wi-Fi's
    /// aggregation. Zero lets each come when it is due.
    pub grants: Duration,
}

/// A token bucket that drops instead of queueing, as providers and their shapers use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policer {
    /// How fast tokens come, in IP bytes.
    pub rate: Bitrate,
    /// How many the bucket holds. A packet that finds too few of them is dropped.
    pub burst: ByteCount,
}

/// Gilbert–Elliott: a state that is left for the other one with a probability per packet. All is lost in bad, nothing
/// in good. The mean loss is p / (p + r), the mean burst 1 / r packets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    /// The probability of good → bad.
    pub p: f64,
    /// The probability of bad → good.
    pub r: f64,
}

impl PipeConfig {
    /// The smallest queue that is chosen by itself: 20 full packets.
    pub const LEAST_QUEUE: ByteCount = ByteCount::new(30_000);
    /// How much of the rate the queue holds when its size is not given.
    pub const QUEUE_TIME: Duration = Duration::from_millis(100);

    /// What the queue holds; none if the pipe has no rate, and so no queue.
    pub fn queue_limit(&self) -> Option<ByteCount> {
        let rate = self.trace.as_ref().map(Trace::mean_rate).or(self.rate)?;
        let by_rate = || rate.bytes_in(Self::QUEUE_TIME).max(Self::LEAST_QUEUE);
        Some(self.queue.unwrap_or_else(by_rate))
    }
}
