use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// The size of a receive ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingConfig {
    /// How many frames wait in the ring at most. Rounded up to whole blocks of 64 KiB.
    pub frames: u32,
    /// The largest frame, Ethernet header included, in bytes. Longer ones are skipped and counted.
    pub max_frame: u32,
}

impl Default for RingConfig {
    /// 2,048 frames of an MTU of 1,500 bytes (4 MiB): 80 ms at 300 Mbit/s without the reader.
    fn default() -> Self {
        Self { frames: 2048, max_frame: 1514 }
    }
}

const BLOCK: u32 = 64 * 1024;
/// Headroom for tpacket2_hdr, sockaddr_ll and alignment in front of a frame.
const HEADROOM: u32 = 128;

/// One frame in the ring.
pub(crate) struct Slot<'a> {
    /// The frame from its Ethernet header on, as far as it fitted.
    pub(crate) data: &'a [u8],
    /// Whether the frame was longer than its slot.
    pub(crate) truncated: bool,
    /// Arrival, CLOCK_REALTIME nanoseconds.
    pub(crate) realtime: u64,
}

/// A mapped TPACKET_V2 receive ring. The kernel owns a slot while its status is TP_STATUS_KERNEL, this side owns it
/// from TP_STATUS_USER until it stores TP_STATUS_KERNEL again.
#[derive(Debug)]
pub(crate) struct Ring {
    base: NonNull<u8>,
    len: usize,
    frame_size: usize,
    frames: usize,
    next: usize,
}

// SAFETY: the mapping belongs to this value alone and is only touched through `&mut self`.
unsafe impl Send for Ring {}

impl Ring {
    /// Sets the ring up on `socket` (which must be TPACKET_V2 and not yet bound to a protocol) and maps it.
    pub(crate) fn new(socket: &OwnedFd, config: RingConfig) -> io::Result<Self> {
        let frame_size = (config.max_frame + HEADROOM).next_power_of_two().clamp(2048, BLOCK);
        let per_block = BLOCK / frame_size;
        let blocks = config.frames.div_ceil(per_block).max(1);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK,
            tp_block_nr: blocks,
            tp_frame_size: frame_size,
            tp_frame_nr: blocks * per_block,
        };
        crate::packet::set_option(socket, libc::PACKET_RX_RING, &request)?;
        let len = BLOCK as usize * blocks as usize;
        // SAFETY: a fresh shared mapping of the ring that was just made on this socket, at an address of the
        // kernel's choice; it aliases no Rust object.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self {
            base,
            len,
            frame_size: frame_size as usize,
            frames: (blocks * per_block) as usize,
            next: 0,
        })
    }

    /// Hands the oldest waiting frame to `take` and its slot back to the kernel; `None` if nothing waits.
    pub(crate) fn next<T>(&mut self, take: impl FnOnce(Slot<'_>) -> T) -> Option<T> {
        // SAFETY: `next < frames`, and slot `next` lies `next * frame_size` bytes into the mapping: block size is a
        // multiple of the frame size, so slots are contiguous over all blocks.
        let slot = unsafe { self.base.add(self.next * self.frame_size) };
        // SAFETY: each slot starts with tpacket2_hdr, whose first field is the aligned u32 tp_status that both sides
        // access; an atomic view of it is valid for the life of the mapping.
        let status = unsafe { AtomicU32::from_ptr(slot.cast().as_ptr()) };
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        // SAFETY: the status says that the slot is ours; the kernel wrote a complete header before it (Acquire).
        let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        let offset = usize::from(header.tp_mac).min(self.frame_size);
        let len = (header.tp_snaplen as usize).min(self.frame_size - offset);
        // SAFETY: offset + len ≤ frame_size, inside this slot, which stays ours until the store below; `take` cannot
        // keep the slice, whose life ends with the call.
        let data = unsafe { std::slice::from_raw_parts(slot.add(offset).as_ptr(), len) };
        let taken = take(Slot {
            data,
            truncated: (len as u32) < header.tp_len,
            realtime: u64::from(header.tp_sec) * 1_000_000_000 + u64::from(header.tp_nsec),
        });
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.frames;
        Some(taken)
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping made in `new`; no reference into it outlives `next`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
