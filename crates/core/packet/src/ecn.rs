use crate::checksum;

/// The two bits by which routers tell of congestion (RFC 3168, section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ecn {
    /// The sender does not understand marks: congestion is told by dropping.
    #[default]
    NotEct,
    /// The sender understands marks, and expects as few as drops (or probes for L4S: see RFC 9331).
    Ect1,
    /// The sender understands marks.
    Ect0,
    /// Congestion was experienced.
    Ce,
}

impl Ecn {
    /// The codepoint in the two low bits.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::NotEct,
            1 => Self::Ect1,
            2 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The codepoint as two bits.
    pub const fn to_bits(self) -> u8 {
        match self {
            Self::NotEct => 0,
            Self::Ect1 => 1,
            Self::Ect0 => 2,
            Self::Ce => 3,
        }
    }
}

/// Marks `packet` with "congestion experienced", in place, its IPv4 header's checksum included (RFC 3168, section 5;
/// RFC 1624).
///
/// True if the packet carries the mark now. False, and nothing changed, if its sender does not understand marks (it is to be
/// dropped instead) or if it is no IP packet.
pub fn set_ce(packet: &mut [u8]) -> bool {
    match packet {
        [first, tos, _, _, _, _, _, _, _, _, sum_high, sum_low, ..] if *first >> 4 == 4 => {
            if *tos & 3 == 0 {
                return false;
            }
            let old = u16::from_be_bytes([*first, *tos]);
            *tos |= 3;
            let new = u16::from_be_bytes([*first, *tos]);
            let sum = checksum::update(u16::from_be_bytes([*sum_high, *sum_low]), old, new);
            [*sum_high, *sum_low] = sum.to_be_bytes();
            true
        }
        // The traffic class begins in the low half of the first byte, so that its last two bits stand in the middle.
        [first, second, ..] if *first >> 4 == 6 => {
            let capable = *second & 0x30 != 0;
            if capable {
                *second |= 0x30;
            }
            capable
        }
        _ => false,
    }
}
