//! How much of a path's loss is made good, and how long that takes. The figures are printed with `--nocapture`.

mod common;

use bondwire_fec::{Decoder, Encoder};
use bondwire_netem::Rng;
use common::drain;

/// What came of a stream.
#[derive(Debug)]
struct Outcome {
    lost: u64,
    recovered: u64,
    /// Mean packets that followed a lost one until it was restored.
    wait: f64,
}

impl Outcome {
    fn share(&self) -> f64 {
        self.recovered as f64 / self.lost as f64
    }
}

/// Sends packets with a parity each 30 over a path whose losses `is_lost` draws, parities among them.
fn run(overlap: usize, mut is_lost: impl FnMut() -> bool) -> Outcome {
    let (mut encoder, mut decoder) = (Encoder::new(overlap), Decoder::new());
    let (mut lost, mut recovered, mut waited) = (0, 0, 0);
    for number in 0..200_000 {
        let plaintext = common::plaintext(number);
        encoder.add(number, &plaintext);
        if is_lost() {
            lost += 1;
        } else {
            decoder.handle_packet(number, &plaintext);
        }
        if encoder.covered() == 30 {
            let parity = encoder.take_parity().expect("30 packets were added");
            if !is_lost() {
                decoder.handle_parity(parity.view());
            }
            encoder.give_back(parity.symbol);
            for restored in drain(&mut decoder) {
                recovered += 1;
                waited += number - restored;
            }
        }
    }
    common::assert_conserved(&decoder);
    Outcome { lost, recovered, wait: waited as f64 / recovered as f64 }
}

#[test]
fn one_percent_of_random_loss_is_nearly_all_made_good() {
    for (overlap, at_least) in [(1, 0.70), (2, 0.92), (3, 0.97), (4, 0.98)] {
        let mut rng = Rng::new(1);
        let outcome = run(overlap, || rng.unit() < 0.01);
        println!(
            "random 1 %, overlap {overlap}: {:.2} % recovered after {:.1} packets",
            outcome.share() * 100.0,
            outcome.wait
        );
        assert!(outcome.share() > at_least, "{outcome:?}");
    }
}

#[test]
fn bursts_are_made_good_as_far_as_they_are_shorter_than_the_overlap() {
    for (overlap, at_least) in [(1, 0.05), (2, 0.13), (3, 0.2), (4, 0.3), (8, 0.6)] {
        let mut rng = Rng::new(2);
        let mut bad = false;
        let outcome = run(overlap, || {
            bad = if bad { rng.unit() >= 0.25 } else { rng.unit() < 0.001 };
            bad
        });
        println!(
            "bursts (p = 0.001, r = 0.25), overlap {overlap}: {:.2} % recovered after {:.1} packets",
            outcome.share() * 100.0,
            outcome.wait
        );
        assert!(outcome.share() > at_least, "{outcome:?}");
    }
}
