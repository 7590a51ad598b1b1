//! Packets whose content follows from their number, and what a decoder says about them.
#![allow(dead_code, reason = "each test file uses its part")]

use bondwire_fec::{Decoder, DecoderStats};

/// The plaintext of packet `number`: 0 to 79 bytes, each number another.
pub(crate) fn plaintext(number: u64) -> Vec<u8> {
    let mix = |n: u64| n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
    let len = mix(number) % 80;
    (0..len).map(|at| (mix(number ^ (at << 32)) >> 8) as u8).collect()
}

/// All that was recovered, whose content is checked.
pub(crate) fn drain(decoder: &mut Decoder) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some((number, recovered)) = decoder.poll_recovered() {
        assert_eq!(recovered, plaintext(number), "packet {number} is not what was sent");
        numbers.push(number);
        decoder.give_back(recovered);
    }
    numbers
}

/// Each parity that arrived has come to one end, or waits.
pub(crate) fn assert_conserved(decoder: &Decoder) {
    let DecoderStats {
        parities,
        malformed,
        forgotten,
        ahead,
        excessive,
        unneeded,
        expired,
        evicted,
        recovered,
        contradictory,
        impossible,
        unread: _,
    } = decoder.stats();
    let ends = malformed + forgotten + ahead + excessive + unneeded + expired + evicted + recovered;
    let waiting = decoder.waiting() as u64;
    assert_eq!(parities, ends + contradictory + impossible + waiting, "{:?}", decoder.stats());
}
