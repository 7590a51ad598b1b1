use core::fmt;

use crate::ip::PacketInfo;
use crate::protocol;

/// What a flow needs of the bond.
///
/// [`FlowClass::of`] is what the packet says by itself; whoever watches the flow may know better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowClass {
    /// Made whole inside the bond: repaired and put back in order for itself alone. TCP, and bulk over UDP.
    Stream,
    /// Delivered the moment that it arrives.
    Datagram,
    /// As `Datagram`, and before everything else: voice and interactive video.
    RealTime,
}

/// Expedited Forwarding (RFC 3246): telephony.
const EF: u8 = 46;
/// Voice-Admit (RFC 5865).
const VOICE_ADMIT: u8 = 44;
/// Assured Forwarding, class 4 (RFC 2597; for interactive video, RFC 4594, section 4.3).
const AF4X: [u8; 3] = [34, 36, 38];

impl FlowClass {
    /// The class of the flow to which a packet belongs. TCP is a stream whatever its DSCP: it needs order before speed.
    pub fn of(packet: &PacketInfo) -> Self {
        match packet.protocol {
            protocol::TCP => Self::Stream,
            _ if packet.dscp == EF || packet.dscp == VOICE_ADMIT || AF4X.contains(&packet.dscp) => {
                Self::RealTime
            }
            _ => Self::Datagram,
        }
    }
}

impl fmt::Display for FlowClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stream => "stream",
            Self::Datagram => "datagram",
            Self::RealTime => "real-time",
        })
    }
}
