use core::fmt;

/// Many packets in one run of memory, each with a note of type `M` beside it.
///
/// Every interface of the core takes and gives batches, so that a trip through the kernel, a lock or a wake-up is paid
/// once for many packets. The memory is kept over [`Batch::clear`]: a batch that is used again and again allocates nothing.
#[derive(Clone)]
pub struct Batch<M> {
    bytes: Vec<u8>,
    entries: Vec<Entry<M>>,
    used: usize,
}

#[derive(Clone)]
struct Entry<M> {
    start: usize,
    len: usize,
    meta: M,
}

/// How a packet's transport checksum stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Complete, to be believed as little as any other.
    #[default]
    Complete,
    /// Complete and verified by whoever handed the packet over.
    Verified,
    /// To be filled in: the sum runs from `start`, and goes to `start + offset`.
    Partial {
        /// Where the sum begins, from the start of the packet.
        start: u16,
        /// Where the result goes, from `start`.
        offset: u16,
    },
}

/// What the device said of a packet of the tunnel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offload {
    /// The payload bytes of each segment, when the packet stands for several (TSO, USO); none for a plain packet.
    pub segment_size: Option<u16>,
    /// The state of its transport checksum.
    pub checksum: Checksum,
}

/// A batch of inner packets, as read from or written to the tunnel device.
pub type PacketBatch = Batch<Offload>;

impl<M> Batch<M> {
    /// An empty batch with room for `bytes` bytes in `packets` packets before it has to grow.
    pub fn with_capacity(bytes: usize, packets: usize) -> Self {
        Self { bytes: vec![0; bytes], entries: Vec::with_capacity(packets), used: 0 }
    }

    /// Forgets all packets, keeps the memory.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.used = 0;
    }

    /// How many packets it holds.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes of all its packets together.
    pub fn total_bytes(&self) -> usize {
        self.used
    }

    /// Appends a copy of `packet`.
    pub fn push(&mut self, packet: &[u8], meta: M) {
        self.reserve(packet.len()).copy_from_slice(packet);
        self.commit(packet.len(), meta);
    }

    /// `len` bytes of room behind the last packet, to be filled and then kept by [`Batch::commit`]. Their content is unspecified.
    pub fn reserve(&mut self, len: usize) -> &mut [u8] {
        let end = self.used + len;
        if self.bytes.len() < end {
            self.bytes.resize(end.max(self.bytes.len() * 2), 0);
        }
        &mut self.bytes[self.used..end]
    }

    /// Makes the first `len` bytes of the room that was reserved last a packet.
    ///
    /// # Panics
    /// If fewer than `len` bytes were reserved.
    pub fn commit(&mut self, len: usize, meta: M) {
        assert!(self.used + len <= self.bytes.len(), "commit of {len} bytes that were never reserved");
        self.entries.push(Entry { start: self.used, len, meta });
        self.used += len;
    }

    /// The packets, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&[u8], &M)> {
        self.entries.iter().map(|e| (&self.bytes[e.start..e.start + e.len], &e.meta))
    }

    /// One packet, to be changed in place.
    pub fn get_mut(&mut self, index: usize) -> Option<(&mut [u8], &mut M)> {
        let entry = self.entries.get_mut(index)?;
        Some((&mut self.bytes[entry.start..entry.start + entry.len], &mut entry.meta))
    }

    /// One packet.
    pub fn get(&self, index: usize) -> Option<(&[u8], &M)> {
        let entry = self.entries.get(index)?;
        Some((&self.bytes[entry.start..entry.start + entry.len], &entry.meta))
    }

    /// The bytes of packets `first..first + count` as one slice: they stand behind one another, ready for segmentation offload.
    pub fn contiguous(&self, first: usize, count: usize) -> Option<&[u8]> {
        let start = self.entries.get(first)?.start;
        let last = self.entries.get(first + count.checked_sub(1)?)?;
        Some(&self.bytes[start..last.start + last.len])
    }
}

impl<M> Default for Batch<M> {
    fn default() -> Self {
        Self::with_capacity(0, 0)
    }
}

impl<M: fmt::Debug> fmt::Debug for Batch<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("packets", &self.len()).field("bytes", &self.used).finish()
    }
}
