/// An endless stream of bytes that follows from a seed, to be sent, and to be compared with what arrives.
///
/// The bytes are the outputs of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014) in
/// little-endian order, so that any place of the stream can be had directly and no two places look alike.
#[derive(Clone, Debug)]
pub struct Content {
    seed: u64,
    position: u64,
}

impl Content {
    /// The stream of `seed` from its beginning.
    pub fn new(seed: u64) -> Self {
        Self { seed, position: 0 }
    }

    /// How many bytes have been taken.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next `buffer.len()` bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) {
        let mut rest = buffer;
        while !rest.is_empty() {
            let (word, skip) = (self.word().to_le_bytes(), (self.position % 8) as usize);
            let len = rest.len().min(8 - skip);
            let (now, later) = rest.split_at_mut(len);
            now.copy_from_slice(&word[skip..skip + len]);
            self.position += len as u64;
            rest = later;
        }
    }

    /// Whether `bytes` are the next ones; they are taken in any case.
    pub fn matches(&mut self, bytes: &[u8]) -> bool {
        let mut same = true;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (word, skip) = (self.word().to_le_bytes(), (self.position % 8) as usize);
            let len = rest.len().min(8 - skip);
            let (now, later) = rest.split_at(len);
            same &= now == &word[skip..skip + len];
            self.position += len as u64;
            rest = later;
        }
        same
    }

    fn word(&self) -> u64 {
        let counter = (self.position / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed.wrapping_add(counter);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// FNV-1a, 64 bits: for comparing two transfers in a log, no protection against anybody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fnv(u64);

impl Fnv {
    pub(super) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// The hash of the first `len` bytes of a content, as [`BulkReport::hash`](super::BulkReport::hash) has it.
pub(super) fn hash_of(seed: u64, len: u64) -> u64 {
    let (mut content, mut hash, mut left) = (Content::new(seed), Fnv::new(), len);
    let mut buffer = vec![0; 64 * 1024];
    while left > 0 {
        let take = left.min(buffer.len() as u64) as usize;
        content.fill(&mut buffer[..take]);
        hash.update(&buffer[..take]);
        left -= take as u64;
    }
    hash.value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_does_not_depend_on_how_it_is_cut() {
        let mut whole = vec![0; 1000];
        Content::new(7).fill(&mut whole);
        let mut pieces = Content::new(7);
        for piece in whole.chunks(13) {
            assert!(pieces.matches(piece));
        }
        assert_eq!(pieces.position(), 1000);
    }

    #[test]
    fn one_wrong_or_missing_byte_is_noticed() {
        let mut bytes = vec![0; 100];
        Content::new(1).fill(&mut bytes);
        assert!(!Content::new(2).matches(&bytes));
        assert!(!Content::new(1).matches(&bytes[1..]));
        bytes[99] ^= 1;
        assert!(!Content::new(1).matches(&bytes));
    }

    #[test]
    fn the_hash_is_fnv_1a() {
        let mut hash = Fnv::new();
        hash.update(b"a");
        assert_eq!(hash.value(), 0xaf63_dc4c_8601_ec8c);
    }
}
