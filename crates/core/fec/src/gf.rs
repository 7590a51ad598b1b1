//! Arithmetic in GF(2^8) with the polynomial x^8 + x^4 + x^3 + x^2 + 1 (0x11d), the field of RFC 8681 and RFC 5510.
//!
//! Addition is exclusive or. [`mul_add`] is what the code spends its time in. It multiplies by doubling, 32 bytes side
//! by side: no table is looked up per byte, no branch depends on data, and baseline SSE2 or NEON carries all of it.

/// The polynomial without its highest term: what a doubled byte is reduced by.
const POLYNOMIAL: u8 = 0x1d;

/// Bytes worked on side by side: two SSE2 registers, enough to keep the units of a core busy.
const LANES: usize = 32;

/// `INVERSE[a]` is 1 / a. The entry of 0 is 0.
const INVERSE: [u8; 256] = inverses();

/// The product of `a` and `b`.
pub const fn mul(a: u8, b: u8) -> u8 {
    let mut product = 0;
    let mut doubled = a;
    let mut bit = 0;
    while bit < 8 {
        if b >> bit & 1 == 1 {
            product ^= doubled;
        }
        doubled = double(doubled);
        bit += 1;
    }
    product
}

/// Twice `a`.
#[inline]
const fn double(a: u8) -> u8 {
    // Arithmetic shift: 0xff where the byte overflows, which vector units know as a comparison with 0.
    (a << 1) ^ (((a as i8) >> 7) as u8 & POLYNOMIAL)
}

/// The inverse of `a`: `mul(a, inv(a)) == 1`. Zero has none; `inv(0)` is 0.
pub const fn inv(a: u8) -> u8 {
    INVERSE[a as usize]
}

const fn inverses() -> [u8; 256] {
    let mut table = [0; 256];
    let mut a = 1;
    while a < 256 {
        // a^254 = 1 / a, since a^255 = 1. 254 is 0b1111_1110: multiply the squares.
        let (mut power, mut product, mut step) = (a as u8, 1, 0);
        while step < 7 {
            power = mul(power, power);
            product = mul(product, power);
            step += 1;
        }
        table[a] = product;
        a += 1;
    }
    table
}

/// Adds `c` times `src` to `dst`, byte by byte, as far as the shorter one goes.
pub fn mul_add(dst: &mut [u8], src: &[u8], c: u8) {
    match c {
        0 => {}
        1 => dst.iter_mut().zip(src).for_each(|(to, from)| *to ^= from),
        _ => by_doubling(dst, src, c),
    }
}

/// Multiplies all of `dst` by `c`.
pub fn scale(dst: &mut [u8], c: u8) {
    if c == 1 {
        return;
    }
    let masks = masks(c);
    let (chunks, rest) = dst.as_chunks_mut::<LANES>();
    for chunk in chunks {
        let from = core::mem::replace(chunk, [0; LANES]);
        lanes(chunk, &from, &masks);
    }
    rest.iter_mut().for_each(|byte| *byte = mul(*byte, c));
}

/// One mask per bit of `c`: all ones where the bit is set.
fn masks(c: u8) -> [u8; 8] {
    core::array::from_fn(|bit| 0_u8.wrapping_sub(c >> bit & 1))
}

fn by_doubling(dst: &mut [u8], src: &[u8], c: u8) {
    let len = dst.len().min(src.len());
    let (to, to_rest) = dst[..len].as_chunks_mut::<LANES>();
    let (from, from_rest) = src[..len].as_chunks::<LANES>();
    let masks = masks(c);
    for (to, from) in to.iter_mut().zip(from) {
        lanes(to, from, &masks);
    }
    if !from_rest.is_empty() {
        let (mut to, mut from) = ([0; LANES], [0; LANES]);
        from[..from_rest.len()].copy_from_slice(from_rest);
        lanes(&mut to, &from, &masks);
        to_rest.iter_mut().zip(to).for_each(|(rest, product)| *rest ^= product);
    }
}

#[inline]
fn lanes(to: &mut [u8; LANES], from: &[u8; LANES], masks: &[u8; 8]) {
    let mut doubled = *from;
    let mut sum = *to;
    for mask in masks {
        for lane in 0..LANES {
            sum[lane] ^= doubled[lane] & mask;
            doubled[lane] = double(doubled[lane]);
        }
    }
    *to = sum;
}

/// Up to 32 bytes with their multiples, to be added to several sums: doubling, the greater part of the work, is done once.
#[derive(Debug)]
pub struct Block {
    /// `multiples[digit][value]` is the bytes times `value << (2 * digit)`.
    multiples: [[[u8; LANES]; 4]; 4],
    len: usize,
}

impl Block {
    /// Bytes in a full block.
    pub const LEN: usize = LANES;

    /// The first [`Self::LEN`] bytes of `src`, or all where there are fewer.
    #[inline]
    pub fn new(src: &[u8]) -> Self {
        let len = src.len().min(LANES);
        let mut power = [0; LANES];
        match src.first_chunk() {
            Some(chunk) => power = *chunk,
            None => power[..len].copy_from_slice(src),
        }
        let mut multiples = [[[0; LANES]; 4]; 4];
        for [_, one, two, three] in &mut multiples {
            *one = power;
            for lane in 0..LANES {
                two[lane] = double(one[lane]);
                three[lane] = one[lane] ^ two[lane];
                power[lane] = double(two[lane]);
            }
        }
        Self { multiples, len }
    }

    /// Adds `c` times the block to the beginning of `dst`, as far as the shorter one goes.
    #[inline]
    pub fn mul_add(&self, dst: &mut [u8], c: u8) {
        let [a, b, d, e]: [&[u8; LANES]; 4] =
            core::array::from_fn(|digit| &self.multiples[digit][usize::from(c >> (2 * digit) & 3)]);
        let product = |lane: usize| a[lane] ^ b[lane] ^ d[lane] ^ e[lane];
        match dst.first_chunk_mut::<LANES>() {
            Some(dst) if self.len == LANES => (0..LANES).for_each(|lane| dst[lane] ^= product(lane)),
            _ => dst.iter_mut().take(self.len).enumerate().for_each(|(lane, to)| *to ^= product(lane)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_is_neutral_and_every_other_byte_has_an_inverse() {
        assert_eq!(inv(0), 0);
        for a in 0..=255 {
            assert_eq!(mul(a, 1), a);
            assert_eq!(mul(1, a), a);
            assert_eq!(mul(a, 0), 0);
            assert!(a == 0 || mul(a, inv(a)) == 1);
        }
    }

    #[test]
    fn two_generates_all_bytes_but_zero() {
        let mut seen = [false; 256];
        let mut power = 1;
        for _ in 0..255 {
            assert!(!seen[usize::from(power)]);
            seen[usize::from(power)] = true;
            power = mul(power, 2);
        }
        assert_eq!(power, 1);
        assert_eq!(mul(0x80, 2), 0x1d);
    }

    #[test]
    fn products_commute_associate_and_distribute() {
        for a in 0..=255 {
            for b in 0..=255 {
                assert_eq!(mul(a, b), mul(b, a));
                for c in [0, 1, 2, 3, 0x1d, 0x53, 0x80, 0xca, 0xff] {
                    assert_eq!(mul(mul(a, b), c), mul(a, mul(b, c)));
                    assert_eq!(mul(a, b ^ c), mul(a, b) ^ mul(a, c));
                }
            }
        }
    }

    #[test]
    fn every_factor_at_every_length_around_the_lanes() {
        for c in 0..=255 {
            for len in [0, 1, 31, 32, 33, 64, 95] {
                let src: Vec<u8> = (0..len).map(|i| (i * 37 + 11) as u8).collect();
                let mut dst: Vec<u8> = (0..len).map(|i| (i * 101 + 7) as u8).collect();
                let want: Vec<u8> = dst.iter().zip(&src).map(|(to, from)| to ^ mul(*from, c)).collect();
                mul_add(&mut dst, &src, c);
                assert_eq!(dst, want);
                for (at, chunk) in src.chunks(Block::LEN).enumerate() {
                    let block = Block::new(chunk);
                    block.mul_add(&mut dst[at * Block::LEN..], c);
                    block.mul_add(&mut dst[at * Block::LEN..], c);
                }
                assert_eq!(dst, want);
                scale(&mut dst, c);
                assert_eq!(dst, want.iter().map(|byte| mul(*byte, c)).collect::<Vec<u8>>());
            }
        }
    }

    proptest! {
        #[test]
        fn mul_add_is_the_schoolbook(
            mut dst: Vec<u8>,
            src: Vec<u8>,
            c: u8,
        ) {
            let mut want = dst.clone();
            want.iter_mut().zip(&src).for_each(|(to, from)| *to ^= mul(*from, c));
            let mut by_blocks = dst.clone();
            for (chunk, dst) in src.chunks(Block::LEN).zip(by_blocks.chunks_mut(Block::LEN)) {
                Block::new(chunk).mul_add(dst, c);
            }
            mul_add(&mut dst, &src, c);
            prop_assert_eq!(&dst, &want);
            prop_assert_eq!(by_blocks, want);
        }
    }
}
