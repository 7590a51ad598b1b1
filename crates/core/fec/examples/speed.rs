//! Prints how fast the code is on this machine, on one core: `cargo run --release -p bondwire-fec --example speed`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use bondwire_fec::{Decoder, Encoder, gf};

const PACKET: usize = 1400;
const ROUNDS: u32 = 300_000;
/// Packets per parity.
const EVERY: usize = 30;

fn main() {
    let src = vec![0x5a; PACKET];
    let mut dst = vec![0; PACKET];
    for c in [1, 2, 0x53, 0xff] {
        let start = Instant::now();
        for _ in 0..ROUNDS {
            gf::mul_add(black_box(&mut dst), black_box(&src), black_box(c));
        }
        let bytes = f64::from(ROUNDS) * PACKET as f64;
        println!("mul_add, c = {c:#04x}: {:.2} GB/s", bytes / start.elapsed().as_secs_f64() / 1e9);
    }
    for overlap in [1, 2, 3, 4, 8] {
        let mut encoder = Encoder::new(overlap);
        let start = Instant::now();
        for number in 0..ROUNDS {
            encoder.add(u64::from(number), black_box(&src));
            if encoder.covered() == EVERY
                && let Some(parity) = encoder.take_parity()
            {
                encoder.give_back(parity.symbol);
            }
        }
        println!("encoder, overlap {overlap}: {:.2} us per packet", micros(start.elapsed()));
    }
    for lost in [0, 1, 3] {
        decode(&src, lost);
    }
}

/// Overlap 3, with `lost` packets of each hundred missing in a row.
fn decode(src: &[u8], lost: u32) {
    let (mut encoder, mut decoder) = (Encoder::new(3), Decoder::new());
    let mut spent = Duration::ZERO;
    for number in 0..ROUNDS {
        encoder.add(u64::from(number), src);
        let parity = if encoder.covered() == EVERY { encoder.take_parity() } else { None };
        let start = Instant::now();
        if number % 100 >= lost {
            decoder.handle_packet(u64::from(number), black_box(src));
        }
        if let Some(parity) = &parity {
            decoder.handle_parity(parity.view());
        }
        while let Some((_, plaintext)) = decoder.poll_recovered() {
            decoder.give_back(plaintext);
        }
        spent += start.elapsed();
    }
    println!("decoder, {lost} lost of 100: {:.2} us per packet", micros(spent));
}

fn micros(spent: Duration) -> f64 {
    spent.as_secs_f64() * 1e6 / f64::from(ROUNDS)
}
