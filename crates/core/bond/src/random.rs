//! Randomness that comes in as a seed: ids and challenges that nobody outside can guess.

use bondwire_crypto::blake2s_256;

/// A deterministic generator: BLAKE2s over seed and counter.
pub(crate) struct Random {
    seed: [u8; 32],
    counter: u64,
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random(..)")
    }
}

impl Random {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, counter: 0 }
    }

    /// Thirty-two fresh bytes.
    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        self.counter += 1;
        blake2s_256(&[b"bondwire random", &self.seed, &self.counter.to_le_bytes()])
    }

    /// Eight fresh bytes.
    pub(crate) fn token(&mut self) -> [u8; 8] {
        let bytes = self.bytes();
        core::array::from_fn(|i| bytes[i])
    }

    /// A session id, never zero.
    pub(crate) fn session_id(&mut self) -> u32 {
        loop {
            let bytes = self.bytes();
            let id = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            if id != 0 {
                return id;
            }
        }
    }
}
