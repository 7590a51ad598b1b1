//! Prints how fast [`gf::mul_add`] is on this machine, on one core: `cargo run --release -p bondwire-fec --example speed`.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use bondwire_fec::gf;

const PACKET: usize = 1400;
const ROUNDS: u32 = 400_000;

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
}
