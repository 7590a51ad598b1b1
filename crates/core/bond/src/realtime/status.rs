//! What is told of real-time flows.

use bondwire_packet::FlowKey;
use bondwire_units::{Bitrate, LinkId};
use core::fmt;
use core::time::Duration;

/// Why a flow is real-time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StreamReason {
    /// Its packets say so (RFC 4594: EF, VA, AF4x).
    Dscp,
    /// A rule of the user's.
    Rule,
    /// The other end says so (docs/protocol.md, FLOW-1).
    Peer,
    /// It is RTP or SRT.
    Format,
    /// Small packets both ways, and STUN was seen.
    Stun,
    /// Small packets both ways at a steady rate, or a clock one way.
    Rhythm,
    /// One of its ports is known for it.
    Port,
}

impl StreamReason {
    /// One word, for people and scripts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dscp => "dscp",
            Self::Rule => "rule",
            Self::Peer => "peer",
            Self::Format => "format",
            Self::Stun => "stun",
            Self::Rhythm => "rhythm",
            Self::Port => "port",
        }
    }
}

impl fmt::Display for StreamReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A flow became real-time, or is none any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamChange {
    /// The flow, as this end sends it.
    pub key: FlowKey,
    /// Why it is real-time from now on; none if it no longer is.
    pub reason: Option<StreamReason>,
    /// It took more than its share of the bond, and is treated like any other flow for a while.
    pub misuse: bool,
}

/// One direction of a real-time flow.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DirectionStatus {
    /// Over the last half second, in inner bytes.
    pub rate: Bitrate,
    /// Over the last half second.
    pub packets_per_second: f64,
    /// Packets in all: sent here, or known to have been sent there.
    pub packets: u64,
    /// How long they take through the bond: waiting here, and half the round trip of their path. None until measured.
    pub delay: Option<Duration>,
    /// What is sent: the variation of the path's one-way delay. What is received: by how much the gaps between packets vary.
    pub jitter: Option<Duration>,
    /// Packets that the first transmission did not bring.
    pub lost_first: u64,
    /// Packets that did not come at all.
    pub lost: u64,
    /// The share of packets that the first transmission did not bring, lately, 0 to 1.
    pub loss_before: f64,
    /// The share of packets that did not come at all, lately, 0 to 1.
    pub loss_after: f64,
    /// Packets that came since their path was left in time.
    pub saved_by_failover: u64,
    /// Packets that came by a copy or by parity.
    pub saved_by_redundancy: u64,
    /// Packets that came since they were sent again.
    pub saved_by_repair: u64,
    /// Bytes sent beside the packets themselves, to protect them: copies and repairs, and parity.
    pub extra_bytes: u64,
    /// Bytes of the packets themselves.
    pub bytes: u64,
}

/// A real-time flow at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StreamStatus {
    /// The flow, as this end sends it: from here to the remote end.
    pub key: FlowKey,
    /// Why it is real-time.
    pub reason: StreamReason,
    /// For how long it has been.
    pub age: Duration,
    /// Since its last packet in either direction.
    pub idle: Duration,
    /// The link that carries what this end sends.
    pub link: Option<LinkId>,
    /// What this end sends.
    pub sent: DirectionStatus,
    /// What it receives.
    pub received: DirectionStatus,
}
