use bondwire_units::PathId;

use crate::error::{Malformed, Violation, WireError};
use crate::reader::Reader;

/// The most bytes of the bitmap of a PARITY: it covers at most 256 packet numbers.
pub const MAX_PARITY_MASK: usize = 32;
/// The most numbers of a RECOVERED.
pub const MAX_RECOVERED: usize = 16;
/// Bytes of a PARITY before its bitmap.
pub const PARITY_HEADER: usize = 1 + 1 + 1 + 1 + 4 + 1;
/// The most bytes of a RECOVERED.
pub const RECOVERED_MAX: usize = 1 + 1 + 1 + MAX_RECOVERED * 4;

/// A linear combination of packets of one path, from which lost ones can be found (docs/protocol.md, FEC-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parity<'a> {
    /// The path whose packets are covered.
    pub path: PathId,
    /// Which part of the combination this is.
    pub part: ParityPart,
    /// Says, with the packet numbers, the coefficients.
    pub key: u8,
    /// The low 32 bits of the packet number that the bitmap's first bit stands for.
    pub first: u32,
    /// The covered numbers: bit `i % 8` of byte `i / 8` stands for `first + i`. Empty in the second of two parts.
    pub mask: &'a [u8],
    /// The combination; never empty.
    pub symbol: &'a [u8],
}

/// Where the symbol of a PARITY stands: a symbol of full packets is longer than what fits beside its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParityPart {
    /// All of it.
    Whole,
    /// The first of two parts.
    First,
    /// The second of two parts.
    Second,
}

impl ParityPart {
    pub(super) const fn to_byte(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::First => 1,
            Self::Second => 2,
        }
    }
}

impl<'a> Parity<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        const WHAT: &str = "a PARITY";
        let path = PathId(reader.u8(WHAT)?);
        let part = match reader.u8(WHAT)? {
            0 => ParityPart::Whole,
            1 => ParityPart::First,
            2 => ParityPart::Second,
            _ => return Err(Violation::OutOfBounds("the part of a PARITY").into()),
        };
        let key = reader.u8(WHAT)?;
        let first = reader.u32(WHAT)?;
        let mask_len = usize::from(reader.u8(WHAT)?);
        if mask_len > MAX_PARITY_MASK || (mask_len == 0) != (part == ParityPart::Second) {
            return Err(Violation::OutOfBounds("the bitmap of a PARITY").into());
        }
        let mask = reader.take(mask_len, WHAT)?;
        let symbol = reader.take_all();
        if symbol.is_empty() {
            return Err(Malformed::Length(WHAT).into());
        }
        Ok(Self { path, part, key, first, mask, symbol })
    }
}

/// Packets of a path that did not arrive, and were found from parities (docs/protocol.md, FEC-3).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Recovered<'a> {
    /// The path.
    pub path: PathId,
    numbers: &'a [u8],
}

impl<'a> Recovered<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        const WHAT: &str = "a RECOVERED";
        let path = PathId(reader.u8(WHAT)?);
        let count = usize::from(reader.u8(WHAT)?);
        if count == 0 || count > MAX_RECOVERED {
            return Err(Violation::OutOfBounds("the count of a RECOVERED").into());
        }
        Ok(Self { path, numbers: reader.take(count * 4, WHAT)? })
    }

    /// The low 32 bits of the packets' numbers, at most [`MAX_RECOVERED`] of them.
    pub fn numbers(&self) -> impl Iterator<Item = u32> + Clone + use<'a> {
        self.numbers.chunks_exact(4).map(|bytes| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }
}

impl core::fmt::Debug for Recovered<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Recovered")
            .field("path", &self.path)
            .field("numbers", &self.numbers().collect::<Vec<_>>())
            .finish()
    }
}
