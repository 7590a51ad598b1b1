use core::ops::RangeInclusive;

use bondwire_units::PathId;

use super::MAX_ACK_RANGES;
use crate::error::{Violation, WireError};
use crate::reader::Reader;
use crate::varint;

/// What was received on a path.
///
/// The ranges stay as they came; they were checked when the frame was decoded, so that walking over them cannot fail.
#[derive(Clone, Copy)]
pub struct Ack<'a> {
    /// The path whose packets are acknowledged; not always the one on which the frame travels.
    pub path: PathId,
    /// The largest packet number received.
    pub largest: u64,
    /// How long the receiver held the acknowledgement of `largest` back, in microseconds.
    pub delay_micros: u64,
    /// When `largest` arrived: microseconds of the receiver's clock, modulo 2^32.
    pub received_at: u32,
    first_range: u64,
    further: &'a [u8],
}

impl<'a> Ack<'a> {
    pub(super) fn decode(reader: &mut Reader<'a>) -> Result<Self, WireError> {
        let path = PathId(reader.u8("an ACK")?);
        let largest = reader.varint("an ACK")?;
        let delay_micros = reader.varint("an ACK")?;
        let received_at = reader.u32("an ACK")?;
        let further_ranges = reader.varint("an ACK")?;
        if further_ranges >= MAX_ACK_RANGES as u64 {
            return Err(Violation::TooManyRanges(path).into());
        }
        let underflow = Violation::AckUnderflow(path);
        let first_range = reader.varint("an ACK's range")?;
        let mut smallest = largest.checked_sub(first_range).ok_or(underflow)?;

        let start = reader.rest();
        for _ in 0..further_ranges {
            let gap = reader.varint("an ACK's range")?;
            let length = reader.varint("an ACK's range")?;
            smallest =
                smallest.checked_sub(gap + 2).and_then(|top| top.checked_sub(length)).ok_or(underflow)?;
        }
        let further = &start[..start.len() - reader.rest().len()];
        Ok(Self { path, largest, delay_micros, received_at, first_range, further })
    }

    /// The packet numbers received: at most [`MAX_ACK_RANGES`] ranges, the highest first, with at least one number missing
    /// between any two.
    pub fn ranges(&self) -> AckRanges<'a> {
        let first = self.largest - self.first_range..=self.largest;
        AckRanges { next: Some(first), further: self.further }
    }
}

/// Equal if they say the same, however long they wrote their numbers.
impl PartialEq for Ack<'_> {
    fn eq(&self, other: &Self) -> bool {
        let head = |ack: &Self| (ack.path, ack.delay_micros, ack.received_at);
        head(self) == head(other) && self.ranges().eq(other.ranges())
    }
}

impl Eq for Ack<'_> {}

impl core::fmt::Debug for Ack<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ack")
            .field("path", &self.path)
            .field("delay_micros", &self.delay_micros)
            .field("received_at", &self.received_at)
            .field("ranges", &self.ranges().collect::<Vec<_>>())
            .finish()
    }
}

/// The ranges of an [`Ack`], the highest first.
#[derive(Clone, Debug)]
pub struct AckRanges<'a> {
    next: Option<RangeInclusive<u64>>,
    further: &'a [u8],
}

impl AckRanges<'_> {
    /// The range below `above`. None at the end, and never because of an underflow: decoding has ruled that out.
    fn below(&mut self, above: &RangeInclusive<u64>) -> Option<RangeInclusive<u64>> {
        let (gap, gap_len) = varint::read(self.further)?;
        let (length, length_len) = varint::read(&self.further[gap_len..])?;
        self.further = &self.further[gap_len + length_len..];
        let top = above.start().checked_sub(gap + 2)?;
        Some(top.checked_sub(length)?..=top)
    }
}

impl Iterator for AckRanges<'_> {
    type Item = RangeInclusive<u64>;

    fn next(&mut self) -> Option<Self::Item> {
        let range = self.next.take()?;
        self.next = self.below(&range);
        Some(range)
    }
}
