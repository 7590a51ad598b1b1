//! What the code promises: as many losses as parities cover, in whatever order things arrive.

mod common;

use bondwire_fec::{
    Decoder, Encoder, MAX_EQUATIONS, MAX_OVERLAP, MAX_PLAINTEXT, MAX_SPAN, MAX_UNKNOWNS, Parity, REMEMBERED,
};
use common::{assert_conserved, drain, plaintext};

/// The parities of packets `0..count`, one after each `every`, and the last ones that the encoder has.
fn parities(count: u64, every: u64, overlap: usize) -> Vec<(u64, Parity)> {
    let mut encoder = Encoder::new(overlap);
    let mut parities = Vec::new();
    for number in 0..count {
        assert!(encoder.add(number, &plaintext(number)));
        if (number + 1) % every == 0 {
            parities.extend(encoder.take_parity().map(|parity| (number, parity)));
        }
    }
    parities.extend(std::iter::from_fn(|| encoder.take_parity()).map(|parity| (count - 1, parity)));
    parities
}

/// Plays packets and parities in order, without those whose bit is set in `lost`.
fn play(decoder: &mut Decoder, count: u64, parities: &[(u64, Parity)], lost: u64) -> Vec<u64> {
    for number in 0..count {
        if lost >> number & 1 == 0 {
            decoder.handle_packet(number, &plaintext(number));
        }
        for (_, parity) in parities.iter().filter(|(after, _)| *after == number) {
            decoder.handle_parity(parity.view());
        }
    }
    assert_conserved(decoder);
    let mut recovered = drain(decoder);
    recovered.sort_unstable();
    recovered
}

fn bits(lost: u64) -> Vec<u64> {
    (0..64).filter(|number| lost >> number & 1 == 1).collect()
}

#[test]
fn every_pattern_of_up_to_overlap_losses_is_recovered() {
    for (overlap, every, count) in [(1, 4, 16), (2, 4, 16), (3, 4, 16), (3, 1, 12), (3, 7, 16), (4, 16, 16)] {
        let parities = parities(count, every, overlap);
        for lost in (0..1_u64 << count).filter(|lost| lost.count_ones() as usize <= overlap) {
            let mut decoder = Decoder::new();
            let recovered = play(&mut decoder, count, &parities, lost);
            assert_eq!(recovered, bits(lost), "overlap {overlap}, every {every}, lost {lost:#b}");
            assert_eq!(decoder.waiting(), 0);
        }
    }
}

#[test]
fn bursts_as_long_as_the_widest_overlap_are_recovered() {
    let parities = parities(60, 5, MAX_OVERLAP);
    for start in 0..=60 - MAX_OVERLAP {
        let lost = 0xff << start;
        assert_eq!(play(&mut Decoder::new(), 60, &parities, lost), bits(lost));
    }
}

#[test]
fn a_lone_loss_comes_back_with_the_next_parity() {
    let parities = parities(30, 10, 3);
    let mut decoder = Decoder::new();
    (0..30).filter(|number| *number != 12).for_each(|n| decoder.handle_packet(n, &plaintext(n)));
    decoder.handle_parity(parities[0].1.view());
    assert_eq!(drain(&mut decoder), []);
    decoder.handle_parity(parities[1].1.view());
    assert_eq!(drain(&mut decoder), [12]);
    // The later ones that cover it find nothing missing, and the packet itself comes too late.
    decoder.handle_parity(parities[2].1.view());
    decoder.handle_packet(12, &plaintext(12));
    assert_eq!(drain(&mut decoder), []);
    assert_eq!(decoder.stats().unneeded, 2);
}

#[test]
fn parities_before_all_of_their_packets_wait() {
    let parities = parities(60, 20, 3);
    let mut decoder = Decoder::new();
    for (_, parity) in &parities {
        decoder.handle_parity(parity.view());
    }
    assert_eq!(decoder.waiting(), parities.len());
    let lost = [3, 4, 5, 33, 59];
    (0..60).rev().filter(|n| !lost.contains(n)).for_each(|n| decoder.handle_packet(n, &plaintext(n)));
    let mut recovered = drain(&mut decoder);
    recovered.sort_unstable();
    assert_eq!(recovered, lost);
    assert_conserved(&decoder);
}

#[test]
fn what_arrives_late_counts_as_an_equation() {
    // Two losses, one parity; then one of the two arrives after all.
    let parities = parities(10, 10, 1);
    let mut decoder = Decoder::new();
    (0..10).filter(|n| ![4, 7].contains(n)).for_each(|n| decoder.handle_packet(n, &plaintext(n)));
    decoder.handle_parity(parities[0].1.view());
    assert_eq!((drain(&mut decoder), decoder.waiting()), (vec![], 1));
    decoder.handle_packet(4, &plaintext(4));
    assert_eq!((drain(&mut decoder), decoder.waiting()), (vec![7], 0));
}

#[test]
fn packets_that_are_not_protected_leave_gaps() {
    let mut encoder = Encoder::new(2);
    let protected = [5, 8, 9, 200, 260];
    for number in protected {
        assert!(encoder.add(number, &plaintext(number)));
    }
    assert_eq!(encoder.covered(), 5);
    let parity = encoder.take_parity().unwrap();
    assert_eq!((parity.first, parity.mask.as_bytes().len(), encoder.covered()), (5, 32, 0));
    let mut decoder = Decoder::new();
    protected.iter().filter(|n| **n != 9).for_each(|n| decoder.handle_packet(*n, &plaintext(*n)));
    decoder.handle_parity(parity.view());
    assert_eq!(drain(&mut decoder), [9]);
}

#[test]
fn a_span_that_grows_too_wide_is_begun_anew() {
    let mut encoder = Encoder::new(3);
    let mut decoder = Decoder::new();
    // A parity only each 100 packets: each accumulator is too wide before two more have been closed.
    for number in 0..2000 {
        assert!(encoder.add(number, &plaintext(number)));
        if number % 200 != 17 {
            decoder.handle_packet(number, &plaintext(number));
        }
        if number % 100 == 99 {
            let parity = encoder.take_parity().unwrap();
            assert!(parity.mask.as_bytes().len() <= MAX_SPAN / 8);
            decoder.handle_parity(parity.view());
        }
    }
    let recovered = drain(&mut decoder);
    assert!(recovered.len() == 10, "{recovered:?}");
    assert_conserved(&decoder);
    // A gap wider than any span leaves nothing of what was before.
    assert!(encoder.add(1_000_000, b"x"));
    assert_eq!(encoder.take_parity().unwrap().first, 1_000_000);
}

#[test]
fn the_encoder_refuses_what_it_cannot_cover() {
    let mut encoder = Encoder::new(3);
    assert!(encoder.take_parity().is_none());
    assert!(!encoder.add(1, &vec![0; MAX_PLAINTEXT + 1]));
    assert!(encoder.add(1, &vec![0; MAX_PLAINTEXT]));
    assert!(!encoder.add(1, b"again"));
    assert!(!encoder.add(0, b"backwards"));
    assert_eq!(encoder.covered(), 1);
    // Each of the three that were open covers the packet, and then there is nothing left.
    for key in 0..3 {
        let parity = encoder.take_parity().unwrap();
        assert_eq!((parity.key, parity.first, parity.mask.as_bytes()), (key, 1, &[1][..]));
        encoder.give_back(parity.symbol);
    }
    assert!(encoder.take_parity().is_none());
}

#[test]
fn numbers_up_to_the_last_one() {
    let mut encoder = Encoder::new(1);
    let mut decoder = Decoder::new();
    for number in u64::MAX - 9..=u64::MAX {
        assert!(encoder.add(number, &plaintext(number)));
        if number != u64::MAX - 2 {
            decoder.handle_packet(number, &plaintext(number));
        }
    }
    decoder.handle_parity(encoder.take_parity().unwrap().view());
    assert_eq!(drain(&mut decoder), [u64::MAX - 2]);
}

#[test]
fn what_is_forgotten_cannot_be_recovered() {
    let mut encoder = Encoder::new(1);
    for number in 0..4 {
        encoder.add(number, &plaintext(number));
    }
    let parity = encoder.take_parity().unwrap();
    let mut decoder = Decoder::new();
    decoder.handle_packet(0, &plaintext(0));
    decoder.handle_parity(parity.view());
    assert_eq!(decoder.waiting(), 1);
    // The window moves past packet 1, then far away.
    decoder.handle_packet(REMEMBERED as u64, &plaintext(REMEMBERED as u64));
    assert_eq!(decoder.waiting(), 1);
    decoder.handle_packet(REMEMBERED as u64 + 1, b"");
    assert_eq!((decoder.waiting(), decoder.stats().expired), (0, 1));
    decoder.handle_parity(parity.view());
    assert_eq!(decoder.stats().forgotten, 1);
    decoder.handle_packet(1, &plaintext(1));
    assert!(!decoder.knows(1));
    assert_conserved(&decoder);
}

#[test]
fn equations_unknowns_and_reach_have_bounds() {
    let mut decoder = Decoder::new();
    // Pairs of lost packets, each with one parity: none can be solved, and the oldest go.
    for pair in 0..40_u64 {
        let mut encoder = Encoder::new(1);
        encoder.add(pair * 2, b"one");
        encoder.add(pair * 2 + 1, b"two");
        decoder.handle_parity(encoder.take_parity().unwrap().view());
    }
    assert_eq!((decoder.waiting(), decoder.stats().evicted), (MAX_EQUATIONS, 8));

    let mut encoder = Encoder::new(1);
    (0..=MAX_UNKNOWNS as u64).for_each(|n| assert!(encoder.add(n, b"packet")));
    let parity = encoder.take_parity().unwrap();
    let mut decoder = Decoder::new();
    decoder.handle_parity(parity.view());
    assert_eq!(decoder.stats().excessive, 1);

    decoder.handle_packet(0, b"packet");
    encoder.add(REMEMBERED as u64 + 1, b"far");
    decoder.handle_parity(encoder.take_parity().unwrap().view());
    assert_eq!((decoder.stats().ahead, decoder.waiting()), (1, 0));
}
