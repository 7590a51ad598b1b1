//! Receiving: one `recvmmsg` into fixed slots, then a copy behind one another into the caller's batch.
//!
//! The copy costs less than the holes that slots would leave in the batch. A `UDP_GRO` packet is cut here.

use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bondwire_packet::Batch;
use libc::c_int;

use crate::{Datagram, MAX_BATCH, sys};

/// Room for a datagram over the widest link (9,000-byte frames).
const SLOT: usize = 9_216;
/// Room for the largest packet that `UDP_GRO` makes.
const GRO_SLOT: usize = 65_536;
/// Packets per call with `UDP_GRO`: few large buffers stay in the cache.
const GRO_BATCH: usize = 8;
/// What waited for longer, or less than nothing, says that the clock was set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The time of day may drift against the machine's own time by so much between two reads; more is a step.
const STEP: Duration = Duration::from_millis(1);
/// What each datagram of so long a time waited is no burst.
const BURST: Duration = Duration::from_millis(100);
/// Room for both kinds of packet info, a segment size and a time, aligned as control messages must be.
type Control = [u64; 16];

const UDP_GRO: c_int = 104;

#[derive(Debug)]
pub(crate) struct Receiver {
    /// `slots` slots of `slot` bytes, reused for every call.
    buffer: Vec<u8>,
    slot: usize,
    slots: usize,
    waits: Waits,
}

/// What the control messages of a packet say.
#[derive(Default)]
struct Notes {
    local: Option<IpAddr>,
    segment: Option<usize>,
    /// When the packet arrived, by the time of day.
    arrived: Option<Duration>,
}

/// How long datagrams lay in the socket because the thread was away.
///
/// What all of them wait for is something else: the thread is too slow for the link, and the sender has to see that queue as any other.
#[derive(Debug)]
struct Waits {
    started: Instant,
    /// The time of day and the time since `started` of this read, and how far apart they were at the last one.
    read_at: (Duration, Duration),
    apart: Option<Duration>,
    /// Whether the clock was set since the last read.
    stepped: bool,
    /// When this window began, its least wait so far, and the last window's.
    since: Duration,
    least: Duration,
    least_before: Duration,
}

impl Waits {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            read_at: (Duration::ZERO, Duration::ZERO),
            apart: None,
            stepped: false,
            since: Duration::ZERO,
            least: Duration::ZERO,
            least_before: Duration::ZERO,
        }
    }

    /// Something is read, at this time of day and so long after the start.
    fn on_read(&mut self, day: Duration, machine: Duration) {
        let apart = day.saturating_sub(machine);
        self.stepped = self.apart.is_some_and(|before| before.abs_diff(apart) > STEP);
        self.apart = Some(apart);
        self.read_at = (day, machine);
        if machine.saturating_sub(self.since) >= BURST {
            (self.since, self.least_before, self.least) = (machine, self.least, Duration::MAX);
        }
    }

    /// How much of what a datagram waited that came at `arrived` by the time of day was the thread's absence; zero if nobody knows.
    fn of(&mut self, arrived: Option<Duration>) -> Duration {
        let waited = arrived.and_then(|arrived| self.read_at.0.checked_sub(arrived));
        let Some(waited) = waited.filter(|waited| *waited <= LONGEST_WAIT && !self.stepped) else {
            return Duration::ZERO;
        };
        self.least = self.least.min(waited);
        waited.saturating_sub(self.least.min(self.least_before))
    }
}

impl Receiver {
    pub(crate) fn new(gro: bool) -> Self {
        let (slot, slots) = if gro { (GRO_SLOT, GRO_BATCH) } else { (SLOT, MAX_BATCH) };
        Self { buffer: vec![0; slot * slots], slot, slots, waits: Waits::new() }
    }

    pub(crate) fn recv<M>(
        &mut self,
        fd: &OwnedFd,
        out: &mut Batch<M>,
        mut make_meta: impl FnMut(Datagram, Duration) -> M,
    ) -> io::Result<usize> {
        // SAFETY: all-zero is a valid value of these plain C structures.
        let (mut headers, mut names, mut pieces): (
            [libc::mmsghdr; MAX_BATCH],
            [libc::sockaddr_storage; MAX_BATCH],
            [libc::iovec; MAX_BATCH],
        ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
        let mut controls: [Control; MAX_BATCH] = [[0; 16]; MAX_BATCH];
        for (index, slot) in self.buffer.chunks_exact_mut(self.slot).enumerate() {
            pieces[index] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            let header = &mut headers[index].msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
            header.msg_control = controls[index].as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
        }
        let count = loop {
            // SAFETY: the first `slots` headers point to a name, a buffer and a control area of the stated sizes, all of which
            // live until the end of this function and are not touched by anyone else during the call.
            let result = unsafe {
                libc::recvmmsg(
                    fd.as_raw_fd(),
                    headers.as_mut_ptr(),
                    self.slots as u32,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            if let Ok(count) = usize::try_from(result) {
                break count;
            }
            let error = io::Error::last_os_error();
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return Ok(0),
                _ => return Err(error),
            }
        };
        let day = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.waits.on_read(day, self.waits.started.elapsed());
        let mut datagrams = 0;
        for (index, header) in headers.iter().enumerate().take(count) {
            let Some(remote) = sys::from_sockaddr(&names[index]) else { continue };
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            let notes = read_notes(&header.msg_hdr);
            let start = index * self.slot;
            let packet = &self.buffer[start..start + header.msg_len as usize];
            let segment = notes.segment.unwrap_or(packet.len()).max(1);
            let waited = self.waits.of(notes.arrived);
            for datagram in packet.chunks(segment) {
                out.push(datagram, make_meta(Datagram { remote, local: notes.local }, waited));
                datagrams += 1;
            }
        }
        Ok(datagrams)
    }
}

fn read_notes(header: &libc::msghdr) -> Notes {
    let mut notes = Notes::default();
    // SAFETY: the kernel filled the control area and set its length; the macros stay within it.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !next.is_null() {
        // SAFETY: not null, so a whole header stands here, within the control area.
        let (level, kind, data) =
            unsafe { ((*next).cmsg_level, (*next).cmsg_type, libc::CMSG_DATA(next).cast_const()) };
        match (level, kind) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // SAFETY: this kind carries an in_pktinfo.
                let info = unsafe { data.cast::<libc::in_pktinfo>().read_unaligned() };
                notes.local = Some(IpAddr::V4(Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes())));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                // SAFETY: this kind carries an in6_pktinfo.
                let info = unsafe { data.cast::<libc::in6_pktinfo>().read_unaligned() };
                notes.local = Some(IpAddr::V6(Ipv6Addr::from(info.ipi6_addr.s6_addr)).to_canonical());
            }
            (libc::SOL_UDP, UDP_GRO) => {
                // SAFETY: this kind carries a C int.
                let size = unsafe { data.cast::<c_int>().read_unaligned() };
                notes.segment = usize::try_from(size).ok();
            }
            (libc::SOL_SOCKET, sys::SO_TIMESTAMPNS_NEW) => {
                // SAFETY: this kind carries two 64-bit numbers, seconds and nanoseconds, on every machine.
                let [seconds, nanos] = unsafe { data.cast::<[i64; 2]>().read_unaligned() };
                notes.arrived = match (u64::try_from(seconds), u32::try_from(nanos)) {
                    (Ok(seconds), Ok(nanos)) => Some(Duration::new(seconds, nanos)),
                    _ => None,
                };
            }
            _ => {}
        }
        // SAFETY: `next` came from the same header's control area.
        next = unsafe { libc::CMSG_NXTHDR(header, next) };
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// What is excused of the wait of a datagram that came at `arrived` and was read at `read`.
    fn waited(waits: &mut Waits, arrived: u64, read: u64) -> Duration {
        waits.on_read(at(read), at(read));
        waits.of(Some(at(arrived)))
    }

    #[test]
    fn a_thread_that_was_away_is_excused() {
        let mut waits = Waits::new();
        assert_eq!(waited(&mut waits, 5_000, 5_012), at(12));
        assert_eq!(waited(&mut waits, 5_020, 5_020), at(0));
        assert_eq!(waited(&mut waits, 5_060, 5_090), at(30));
        assert_eq!(waited(&mut waits, 9_000, 9_080), at(80), "after a rest");
        assert_eq!(waits.of(None), at(0), "not known");
    }

    #[test]
    fn a_thread_that_is_too_slow_is_not() {
        let mut waits = Waits::new();
        for n in 0..10 {
            waited(&mut waits, 1_000 + n * 10, 1_020 + n * 10);
        }
        for n in 10..30 {
            let excused = waited(&mut waits, 1_000 + n * 10, 1_020 + n * 10 + n % 3);
            assert!(excused <= at(2), "{excused:?}");
        }
        // It has caught up, and was away once more.
        waited(&mut waits, 1_320, 1_320);
        assert_eq!(waited(&mut waits, 1_330, 1_345), at(15));
    }

    #[test]
    fn a_clock_that_was_set_is_no_wait() {
        let mut waits = Waits::new();
        waited(&mut waits, 5_000, 5_001);
        for (arrived, day) in [(5_002, 5_502), (5_503, 4_900), (5_000, 3_605_000)] {
            waits.on_read(at(day), at(5_003));
            assert_eq!(waits.of(Some(at(arrived))), at(0));
        }
        waits.on_read(at(3_605_020), at(5_023));
        assert_eq!(waits.of(Some(at(3_605_010))), at(10), "and then it goes on");
    }
}
