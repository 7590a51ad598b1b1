//! Buffers that are used again: the packet path allocates only until it has seen its working set once.

/// A packet of at most so many bytes gets a buffer of its own size: budgets count bytes, and thousands of small packets in full-size
/// buffers would be many times what was counted.
const SMALL: usize = 512;
/// What a queued or kept packet costs beside its bytes.
pub(crate) const OVERHEAD: usize = 64;

/// A bounded stack of empty buffers.
#[derive(Debug)]
pub(crate) struct Pool {
    free: Vec<Vec<u8>>,
    limit: usize,
}

impl Pool {
    /// A pool that keeps at most `limit` idle buffers.
    pub(crate) fn new(limit: usize) -> Self {
        Self { free: Vec::new(), limit }
    }

    /// A buffer with a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) -> Vec<u8> {
        if bytes.len() <= SMALL {
            return bytes.to_vec();
        }
        let mut buffer = self.free.pop().unwrap_or_else(|| Vec::with_capacity(bytes.len().max(1_536)));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Gives a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        if self.free.len() < self.limit && buffer.capacity() > SMALL {
            self.free.push(buffer);
        }
    }
}
