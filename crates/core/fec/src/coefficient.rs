//! The factor with which a packet enters a parity.

use crate::gf;

/// Keys that differ in this many low bits give different factors.
const KEYS: u8 = 8;

/// The other bytes of the field are the packets' share.
const NUMBERS: u64 = 256 - KEYS as u64;

/// The coefficient of packet `number` in the parity with `key`; never 0.
///
/// It is `1 / (x + y)` in GF(2^8), with `y = key mod 8` and `x = 8 + (number mod 248)`. The two never meet, so the sum
/// is never 0, and the coefficients form a Cauchy matrix: each square part of it has an inverse, as long as its keys
/// differ modulo 8 and its numbers modulo 248.
pub const fn coefficient(number: u64, key: u8) -> u8 {
    gf::inv((KEYS + (number % NUMBERS) as u8) ^ (key % KEYS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// These bytes are part of the wire format.
    #[test]
    fn coefficients_are_pinned() {
        let row = |key| [0, 1, 2, 100, 247, 248, 1_000_000, u64::MAX].map(|number| coefficient(number, key));
        assert_eq!(row(0), [173, 157, 221, 32, 253, 173, 48, 102]);
        assert_eq!(row(1), [157, 173, 152, 236, 126, 157, 136, 76]);
        assert_eq!(row(7), [150, 93, 170, 179, 66, 150, 147, 216]);
        assert_eq!(row(8), row(0));
        assert_eq!(row(255), row(7));
    }

    #[test]
    fn none_is_zero_and_neighbours_differ() {
        for key in 0..=255 {
            let row: std::collections::BTreeSet<u8> = (0..NUMBERS).map(|n| coefficient(n, key)).collect();
            assert_eq!(row.len(), 248);
            assert!(!row.contains(&0));
        }
    }
}
