//! The decoder, which works step by step, against plain elimination over everything at once.

mod common;

use std::collections::{BTreeMap, BTreeSet};

use bondwire_fec::{Decoder, Encoder, Parity, coefficient, gf};
use bondwire_netem::Rng;
use common::{drain, plaintext};
use proptest::prelude::*;

/// The unknowns that the parities determine, by Gauss and Jordan.
fn determined(parities: &[Parity], arrived: &BTreeSet<u64>) -> BTreeSet<u64> {
    let mut rows: Vec<BTreeMap<u64, u8>> = parities.iter().map(|parity| unknowns(parity, arrived)).collect();
    let numbers: BTreeSet<u64> = rows.iter().flat_map(|row| row.keys().copied()).collect();
    let mut done = 0;
    for number in numbers {
        let Some(at) = (done..rows.len()).find(|at| rows[*at].contains_key(&number)) else { continue };
        rows.swap(done, at);
        let pivot = rows[done].clone();
        let inverse = gf::inv(pivot[&number]);
        for (_, row) in rows.iter_mut().enumerate().filter(|(at, _)| *at != done) {
            let Some(c) = row.get(&number).copied() else { continue };
            for (other, factor) in &pivot {
                *row.entry(*other).or_default() ^= gf::mul(gf::mul(c, inverse), *factor);
            }
            row.retain(|_, c| *c != 0);
        }
        done += 1;
    }
    rows.iter().filter(|row| row.len() == 1).flat_map(|row| row.keys().copied()).collect()
}

fn unknowns(parity: &Parity, arrived: &BTreeSet<u64>) -> BTreeMap<u64, u8> {
    let covered = (0..256_u64).filter(|offset| {
        let byte = parity.mask.as_bytes().get(*offset as usize / 8);
        byte.is_some_and(|byte| byte >> (offset % 8) & 1 == 1)
    });
    covered
        .map(|offset| parity.first + offset)
        .filter(|number| !arrived.contains(number))
        .map(|number| (number, coefficient(number, parity.key)))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn all_that_can_be_solved_is_solved(
        every in 1_u64..25,
        overlap in 1_usize..=8,
        loss in 0.0..0.5,
        reorder in prop_oneof![Just(0.0), 0.0..50.0],
        seed: u64,
    ) {
        let mut rng = Rng::new(seed);
        let mut encoder = Encoder::new(overlap);
        // When it arrives, what it is: a parity, or the packet with that number.
        let mut items: Vec<(f64, u64, Option<Parity>)> = Vec::new();
        for number in 0..120 {
            encoder.add(number, &plaintext(number));
            let parity = if (number + 1) % every == 0 { encoder.take_parity() } else { None };
            for item in [Some(None), parity.map(Some)].into_iter().flatten() {
                if rng.unit() >= loss {
                    items.push((number as f64 + rng.unit() * reorder, number, item));
                }
            }
        }
        items.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut decoder = Decoder::new();
        let mut recovered = BTreeSet::new();
        for (_, number, item) in &items {
            match item {
                None => decoder.handle_packet(*number, &plaintext(*number)),
                Some(parity) => decoder.handle_parity(parity.view()),
            }
            recovered.extend(drain(&mut decoder));
        }
        let stats = decoder.stats();
        prop_assume!(stats.evicted + stats.excessive == 0);
        // What was recovered before the packet itself came is not asked for.
        let arrived: BTreeSet<u64> = items.iter().filter(|i| i.2.is_none()).map(|i| i.1).collect();
        let parities: Vec<Parity> = items.into_iter().filter_map(|(_, _, parity)| parity).collect();
        let recovered: BTreeSet<u64> = recovered.difference(&arrived).copied().collect();
        prop_assert_eq!(recovered, determined(&parities, &arrived));
    }
}
