//! Buffers that are used again: the packet path allocates only until it has seen its working set once.

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
        let mut buffer = self.free.pop().unwrap_or_else(|| Vec::with_capacity(bytes.len().max(1536)));
        buffer.clear();
        buffer.extend_from_slice(bytes);
        buffer
    }

    /// Gives a buffer back.
    pub(crate) fn give_back(&mut self, buffer: Vec<u8>) {
        if self.free.len() < self.limit && buffer.capacity() > 0 {
            self.free.push(buffer);
        }
    }
}
