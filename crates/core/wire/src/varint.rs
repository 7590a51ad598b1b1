//! Variable-length integers of one, two, four or eight bytes (RFC 9000, section 16).
//!
//! The two top bits of the first byte say how many bytes there are. Values reach up to 2^62 − 1. A value may be written
//! longer than need be; readers accept that, writers here never do it.

/// The greatest value, 2^62 − 1.
pub const MAX: u64 = (1 << 62) - 1;

/// The most bytes that one takes.
pub const MAX_LEN: usize = 8;

/// How many bytes `value` takes. Values above [`MAX`] are counted as eight, and are refused by [`write()`].
pub const fn len(value: u64) -> usize {
    match value {
        0..=0x3f => 1,
        0x40..=0x3fff => 2,
        0x4000..=0x3fff_ffff => 4,
        _ => 8,
    }
}

/// Reads the integer at the start of `bytes`: its value and its length, or none if `bytes` ends too early.
pub fn read(bytes: &[u8]) -> Option<(u64, usize)> {
    let len = 1usize << (bytes.first()? >> 6);
    let value = bytes.get(..len)?.iter().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    // The length bits are the two top ones of the `len` bytes that were just read.
    Some((value & (u64::MAX >> (66 - 8 * len)), len))
}

/// Writes `value` to the start of `out` in its shortest form, and returns how many bytes that took. None, and nothing
/// written, if there is no room or the value is above [`MAX`].
pub fn write(value: u64, out: &mut [u8]) -> Option<usize> {
    if value > MAX {
        return None;
    }
    let len = len(value);
    let room = out.get_mut(..len)?;
    room.copy_from_slice(&value.to_be_bytes()[8 - len..]);
    room[0] |= (len.trailing_zeros() as u8) << 6;
    Some(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The examples of RFC 9000, appendix A.1.
    #[test]
    fn examples_of_the_rfc() {
        let long = [0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c];
        for (bytes, value) in [
            (&long[..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
            (&[0x40, 0x25], 37),
        ] {
            assert_eq!(read(bytes), Some((value, bytes.len())));
        }
    }

    #[test]
    fn no_room_and_too_great_are_refused() {
        assert_eq!(write(MAX + 1, &mut [0; 8]), None);
        assert_eq!(write(64, &mut [0; 1]), None);
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[0xc0; 7]), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(value in 0..=MAX, shift in 0u32..62) {
            let value = value >> shift;
            let mut out = [0; 9];
            let used = write(value, &mut out).unwrap();
            prop_assert_eq!(used, len(value));
            prop_assert_eq!(read(&out), Some((value, used)));
        }
    }
}
