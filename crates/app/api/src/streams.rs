//! Real-time flows, as the API tells of them.

use serde::{Deserialize, Serialize};

/// The answer to `streams`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Streams {
    /// The client's mode: real-time flows are looked for in `streaming` alone. None on a server.
    pub mode: Option<crate::Mode>,
    /// Those that were alive within the last ten seconds, the longest known first.
    pub streams: Vec<StreamEntry>,
}

/// A real-time flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamEntry {
    /// On a server: whose it is.
    pub client: Option<String>,
    /// `udp`, or the number of another protocol.
    pub protocol: String,
    /// The end on this side of the bond, address and port.
    pub local: String,
    /// The other end.
    pub remote: String,
    /// Why it is real-time: `dscp`, `rule`, `peer`, `format`, `stun`, `rhythm` or `port`.
    pub reason: String,
    /// For how long it has been.
    pub age_ms: u64,
    /// Since its last packet in either direction.
    pub idle_ms: u64,
    /// The link that carries what this side sends; on a server the client's name.
    pub link: Option<String>,
    /// From the client.
    pub up: StreamDirection,
    /// To the client.
    pub down: StreamDirection,
}

/// One direction of a real-time flow. The sending side knows each packet's fate; the receiving side goes by the numbers that are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StreamDirection {
    /// Now, in inner bits.
    pub bps: u64,
    /// Now.
    pub packets_per_second: f64,
    /// Through the bond, by half the round trip; none until measured.
    pub delay_ms: Option<f64>,
    /// Its variation; none until measured.
    pub jitter_ms: Option<f64>,
    /// Share of packets that the first transmission did not bring, lately, 0 to 1.
    pub loss_before: f64,
    /// Share of packets that did not come at all, lately, 0 to 1.
    pub loss_after: f64,
    /// Packets in all.
    pub packets: u64,
    /// Packets that the first transmission did not bring.
    pub lost_first: u64,
    /// Packets that did not come at all.
    pub lost: u64,
    /// Packets that came since their path was left in time.
    pub saved_by_failover: u64,
    /// Packets that came by a copy or by parity.
    pub saved_by_redundancy: u64,
    /// Packets that came since they were sent again.
    pub saved_by_repair: u64,
    /// What was sent to protect them, as a share of the flow's own bytes; 0 for what is received.
    pub overhead: f64,
}

impl StreamDirection {
    /// Packets that were saved, in whatever way.
    pub const fn saved(&self) -> u64 {
        self.saved_by_failover + self.saved_by_redundancy + self.saved_by_repair
    }
}
