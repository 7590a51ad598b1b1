//! Random loss and reordering, and input that no honest peer sends.

mod common;

use bondwire_fec::{
    Decoder, Encoder, MAX_EQUATIONS, MAX_PLAINTEXT, MAX_RECOVERED, Parity, ParityRef, REMEMBERED,
};
use bondwire_netem::Rng;
use common::{assert_conserved, drain, plaintext};
use proptest::prelude::*;

/// What travels.
enum Item {
    Packet(u64),
    Parity(Parity),
}

/// What arrives of `count` packets from number `start` on: lost with probability `loss`, moved back by up to `reorder` places.
fn arrivals(
    start: u64,
    count: u64,
    every: u64,
    overlap: usize,
    loss: f64,
    reorder: f64,
    seed: u64,
) -> Vec<Item> {
    let mut rng = Rng::new(seed);
    let mut encoder = Encoder::new(overlap);
    let mut items = Vec::new();
    let mut send = |item, at: u64, rng: &mut Rng| {
        if rng.unit() >= loss {
            items.push((at as f64 + rng.unit() * reorder, item));
        }
    };
    for at in 0..count {
        let number = start + at;
        // One in ten is not protected.
        if number % 10 != 3 {
            encoder.add(number, &plaintext(number));
        }
        send(Item::Packet(number), at, &mut rng);
        if encoder.covered() as u64 >= every
            && let Some(parity) = encoder.take_parity()
        {
            send(Item::Parity(parity), at, &mut rng);
        }
    }
    items.sort_by(|a, b| a.0.total_cmp(&b.0));
    items.into_iter().map(|(_, item)| item).collect()
}

fn feed(decoder: &mut Decoder, item: &Item) {
    match item {
        Item::Packet(number) => decoder.handle_packet(*number, &plaintext(*number)),
        Item::Parity(parity) => decoder.handle_parity(parity.view()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]

    /// `drain` compares each recovered packet with what was sent. None is reported twice, and none that had arrived.
    #[test]
    fn what_is_recovered_is_what_was_sent(
        start in prop_oneof![Just(0_u64), 0..1_u64 << 62],
        every in 1_u64..60,
        overlap in 1_usize..=8,
        loss in 0.0..0.1,
        reorder in prop_oneof![Just(0.0), 0.0..300.0],
        seed: u64,
    ) {
        let mut decoder = Decoder::new();
        let mut there = std::collections::BTreeSet::new();
        for item in arrivals(start, 1500, every, overlap, loss, reorder, seed) {
            feed(&mut decoder, &item);
            if let Item::Packet(number) = item {
                there.insert(number);
            }
            for number in drain(&mut decoder) {
                prop_assert!((start..start + 1500).contains(&number));
                prop_assert!(there.insert(number), "{} was there", number);
            }
            prop_assert!(decoder.waiting() <= MAX_EQUATIONS);
        }
        assert_conserved(&decoder);
        prop_assert_eq!(decoder.stats().contradictory + decoder.stats().impossible, 0);
    }

    #[test]
    fn the_same_input_gives_the_same_output(seed: u64) {
        let run = || {
            let mut decoder = Decoder::new();
            let mut out = Vec::new();
            for item in arrivals(7, 800, 12, 3, 0.08, 40.0, seed) {
                feed(&mut decoder, &item);
                out.extend(std::iter::from_fn(|| decoder.poll_recovered()));
            }
            (out, decoder.stats())
        };
        prop_assert_eq!(run(), run());
    }
}

/// The longest packets, of which some are lost, and none of those found is taken: no more than is promised, and all of it counted.
#[test]
fn the_longest_packets_take_no_more_than_the_most() {
    let mut rng = Rng::new(1);
    let (mut encoder, mut decoder) = (Encoder::new(6), Decoder::new());
    assert_eq!(decoder.bytes(), 0);
    for number in 0..5_000 {
        // The length grows at first, so that buffers are used again for more.
        let plaintext = vec![number as u8; MAX_PLAINTEXT.min(1_000 + number as usize)];
        assert!(encoder.add(number, &plaintext));
        if rng.unit() >= 0.04 {
            decoder.handle_packet(number, &plaintext);
        }
        if encoder.covered() >= 20
            && let Some(parity) = encoder.take_parity()
        {
            decoder.handle_parity(parity.view());
            encoder.give_back(parity.symbol);
        }
        assert!(decoder.bytes() <= Decoder::MOST_BYTES, "{number}: {}", decoder.bytes());
        assert!(encoder.bytes() <= 13 * 2 * MAX_PLAINTEXT, "{number}: {}", encoder.bytes());
    }
    assert!(decoder.bytes() > REMEMBERED * MAX_PLAINTEXT, "{}", decoder.bytes());
}

/// A step of a peer that is out of its mind. Numbers are drawn near each other, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Packet(u64, Vec<u8>),
    Parity(u64, Vec<u8>, u8, Vec<u8>),
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..600_u64, 2 => 0..3000_u64, 1 => any::<u64>(), 1 => u64::MAX - 300..=u64::MAX]
}

fn mask() -> impl Strategy<Value = Vec<u8>> {
    let sparse = prop_oneof![6 => Just(0), 1 => any::<u8>(), 1 => Just(1)];
    prop_oneof![4 => prop::collection::vec(sparse, 0..34), 1 => prop::collection::vec(any::<u8>(), 0..40)]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        // Symbols whose length is plausible.
        (0..30_u8).prop_map(|len| [&[0, len][..], &[0x55; 30]].concat()),
        Just(vec![0; 12_000]),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (number(), bytes()).prop_map(|(number, bytes)| Step::Packet(number, bytes)),
        (number(), mask(), any::<u8>(), bytes())
            .prop_map(|(first, mask, key, symbol)| Step::Parity(first, mask, key, symbol)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(150) })]

    #[test]
    fn hostile_input_keeps_to_the_bounds(steps in prop::collection::vec(step(), 0..150), poll: bool) {
        let mut decoder = Decoder::new();
        for step in steps {
            match step {
                Step::Packet(number, bytes) => decoder.handle_packet(number, &bytes),
                Step::Parity(first, mask, key, symbol) => {
                    decoder.handle_parity(ParityRef { first, mask: &mask, key, symbol: &symbol });
                }
            }
            assert_conserved(&decoder);
            prop_assert!(decoder.waiting() <= MAX_EQUATIONS && decoder.bytes() <= Decoder::MOST_BYTES);
            while poll && let Some((number, plaintext)) = decoder.poll_recovered() {
                prop_assert!(decoder.knows(number));
                prop_assert!(plaintext.len() <= 12_000);
            }
        }
        let left = std::iter::from_fn(|| decoder.poll_recovered()).count();
        prop_assert!(left <= MAX_RECOVERED);
    }

    /// A true stream with parities among it whose bytes were changed: it may recover nonsense, but conserves.
    #[test]
    fn a_spoiled_stream_is_survived(
        seed: u64,
        spoil in prop::collection::vec((any::<u64>(), mask(), any::<u8>(), 0..30_usize), 100),
    ) {
        let mut decoder = Decoder::new();
        let mut spoil = spoil.into_iter().cycle();
        for item in arrivals(0, 600, 4, 3, 0.1, 30.0, seed) {
            let Item::Parity(parity) = &item else {
                feed(&mut decoder, &item);
                continue;
            };
            let (what, mask, byte, at) = spoil.next().unwrap();
            let mut view = parity.view();
            let mut symbol = parity.symbol.clone();
            match what % 6 {
                0 => view.mask = &mask,
                1 => view.key ^= byte,
                2 => view.first = view.first.wrapping_add(what >> 8 & 0xff),
                3 => view.symbol = &view.symbol[..at.min(view.symbol.len())],
                4 => {
                    let at = at % symbol.len();
                    symbol[at] ^= byte;
                    view.symbol = &symbol;
                }
                _ => {}
            }
            decoder.handle_parity(view);
            assert_conserved(&decoder);
        }
    }
}

#[test]
fn a_recovered_length_beyond_the_symbol_is_counted() {
    let mut decoder = Decoder::new();
    let whole = bondwire_fec::gf::mul(0xff, bondwire_fec::coefficient(5, 0));
    decoder.handle_parity(ParityRef { first: 5, mask: &[1], key: 0, symbol: &[whole; 20] });
    assert_eq!((decoder.poll_recovered(), decoder.stats().impossible), (None, 1));
    // The packet that the peer did not mean to send may still come.
    decoder.handle_packet(5, b"late");
    assert!(decoder.knows(5));
}

#[test]
fn a_parity_that_contradicts_its_packets_is_counted() {
    let mut decoder = Decoder::new();
    decoder.handle_parity(ParityRef { first: 5, mask: &[3], key: 0, symbol: &[7; 20] });
    let parity = ParityRef { first: 5, mask: &[3], key: 0, symbol: &[8; 20] };
    decoder.handle_parity(parity);
    assert_eq!((decoder.waiting(), decoder.stats().contradictory), (1, 1));
}

#[test]
fn malformed_parities_are_counted() {
    let mut decoder = Decoder::new();
    let good = ParityRef { first: 5, mask: &[3], key: 0, symbol: &[7; 20] };
    let bad = [
        ParityRef { mask: &[], ..good },
        ParityRef { mask: &[0, 0], ..good },
        ParityRef { mask: &[1; 33], ..good },
        ParityRef { symbol: &[0], ..good },
        ParityRef { symbol: &[0; 10_000], ..good },
        ParityRef { first: u64::MAX, ..good },
    ];
    bad.iter().for_each(|parity| decoder.handle_parity(*parity));
    assert_eq!((decoder.stats().malformed, decoder.waiting()), (6, 0));
}
