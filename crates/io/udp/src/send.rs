//! Sending: datagrams are gathered into runs, runs into one `sendmmsg`.
//!
//! A run is one datagram, or with segmentation offload several of one size (the last may be shorter) to one peer, which stand
//! behind one another in the batch anyway. A run that the kernel refuses is sent again one by one, so that the
//! caller hears of each datagram by itself; a device that cannot segment says `EIO` or `EINVAL`, at any time, and is never asked again.

use std::io;
use std::mem;
use std::net::IpAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};

use bondwire_packet::Batch;

use crate::error::{SendError, SendErrorKind, SendOutcome};
use crate::{Datagram, MAX_BATCH, Segmentation, sys};

/// The kernel's bound on segments in one packet, in all versions.
const MAX_SEGMENTS: usize = 64;
/// The most payload bytes that one IP packet of segments may have.
const MAX_RUN_BYTES: usize = 65_000;

type Control = [u64; 12];

#[derive(Debug)]
pub(crate) struct Sender {
    segmentation: Segmentation,
}

/// Datagrams that leave as one kernel packet.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    count: usize,
    segment: usize,
    to: Datagram,
}

impl Sender {
    pub(crate) fn new(segmentation: Segmentation) -> Self {
        Self { segmentation }
    }

    pub(crate) fn send<M>(
        &mut self,
        fd: &OwnedFd,
        v6_socket: bool,
        batch: &Batch<M>,
        range: Range<usize>,
        route: impl Fn(&M) -> Datagram,
    ) -> SendOutcome {
        assert!(range.end <= batch.len(), "the range goes beyond the batch");
        let mut outcome = SendOutcome::default();
        let mut next = range.start;
        // Up to here datagrams go one by one: they belong to a run that was refused.
        let mut single_until = next;
        while next < range.end {
            let runs = self.gather(batch, next..range.end, single_until, &route);
            let (taken, errno) = send_runs(fd, v6_socket, batch, &runs);
            for run in runs.iter().take(taken).flatten() {
                outcome.sent += run.count;
                next = run.first + run.count;
            }
            let Some(errno) = errno else { continue };
            let Some(Some(refused)) = runs.get(taken) else { continue };
            let kind = SendErrorKind::from_errno(errno);
            if kind == SendErrorKind::WouldBlock {
                outcome.blocked = range.end - next;
                break;
            }
            if refused.count > 1 {
                if matches!(errno, libc::EIO | libc::EINVAL) {
                    self.segmentation = Segmentation::Off;
                }
                single_until = refused.first + refused.count;
                continue;
            }
            outcome.errors.push(SendError { index: refused.first, kind });
            next = refused.first + 1;
        }
        outcome
    }

    /// The next runs of the range, at most [`MAX_BATCH`].
    fn gather<M>(
        &self,
        batch: &Batch<M>,
        range: Range<usize>,
        single_until: usize,
        route: impl Fn(&M) -> Datagram,
    ) -> [Option<Run>; MAX_BATCH] {
        let mut runs = [None; MAX_BATCH];
        let mut next = range.start;
        for slot in &mut runs {
            let Some((bytes, meta)) = batch.get(next).filter(|_| next < range.end) else { break };
            let mut run = Run { first: next, count: 1, segment: bytes.len(), to: route(meta) };
            let mut total = bytes.len();
            while self.segmentation == Segmentation::On
                && run.first >= single_until
                && run.count < MAX_SEGMENTS
            {
                let follower = next + run.count;
                let Some((bytes, meta)) = batch.get(follower).filter(|_| follower < range.end) else { break };
                total += bytes.len();
                if bytes.len() > run.segment
                    || total > MAX_RUN_BYTES
                    || bytes.is_empty()
                    || route(meta) != run.to
                {
                    break;
                }
                run.count += 1;
                if bytes.len() < run.segment {
                    break;
                }
            }
            next += run.count;
            *slot = Some(run);
        }
        runs
    }
}

/// One system call: how many runs the kernel took, and why it stopped if it did.
fn send_runs<M>(
    fd: &OwnedFd,
    v6_socket: bool,
    batch: &Batch<M>,
    runs: &[Option<Run>; MAX_BATCH],
) -> (usize, Option<i32>) {
    // SAFETY: all-zero is a valid value of these plain C structures.
    let (mut headers, mut names, mut pieces): (
        [libc::mmsghdr; MAX_BATCH],
        [libc::sockaddr_storage; MAX_BATCH],
        [libc::iovec; MAX_BATCH],
    ) = unsafe { (mem::zeroed(), mem::zeroed(), mem::zeroed()) };
    let mut controls: [Control; MAX_BATCH] = [[0; 12]; MAX_BATCH];
    let mut count = 0;
    for (index, run) in runs.iter().flatten().enumerate() {
        let bytes = batch.contiguous(run.first, run.count).unwrap_or_default();
        let (name, name_length) = sys::to_sockaddr(run.to.remote, v6_socket);
        names[index] = name;
        pieces[index] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let header = &mut headers[index].msg_hdr;
        header.msg_name = (&raw mut names[index]).cast();
        header.msg_namelen = name_length;
        header.msg_iov = &raw mut pieces[index];
        header.msg_iovlen = 1;
        let segment = (run.count > 1).then_some(run.segment as u16);
        write_notes(header, &mut controls[index], v6_socket, run.to.local, segment);
        count = index + 1;
    }
    if count == 0 {
        return (0, None);
    }
    loop {
        // SAFETY: the first `count` headers point to a name, a buffer and a control area of the stated sizes, all of which live
        // until the end of this function; the kernel only reads the buffers.
        let result = unsafe {
            libc::sendmmsg(fd.as_raw_fd(), headers.as_mut_ptr(), count as u32, libc::MSG_DONTWAIT as _)
        };
        match usize::try_from(result) {
            // A short count hides the reason: the next call begins with the refused run and tells it.
            Ok(sent) => return (sent, None),
            Err(_) => match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                errno => return (0, Some(errno.unwrap_or(libc::EIO))),
            },
        }
    }
}

/// Writes the source address and the segment size of a packet into its control area.
fn write_notes(
    header: &mut libc::msghdr,
    area: &mut Control,
    v6_socket: bool,
    local: Option<IpAddr>,
    segment: Option<u16>,
) {
    if local.is_none() && segment.is_none() {
        return;
    }
    header.msg_control = area.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    let mut used = 0;
    // SAFETY: the area is zeroed, aligned, and larger than both messages together.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(header) };
    let mut append = |level, kind, length: usize| {
        // SAFETY: `next` lies within the area, which has room for the header and `length` bytes of data behind it.
        unsafe {
            let data = libc::CMSG_DATA(next);
            (*next).cmsg_level = level;
            (*next).cmsg_type = kind;
            (*next).cmsg_len = libc::CMSG_LEN(length as u32) as _;
            used += libc::CMSG_SPACE(length as u32) as usize;
            next = next.byte_add(libc::CMSG_SPACE(length as u32) as usize);
            data
        }
    };
    match local {
        Some(IpAddr::V4(ip)) if !v6_socket => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr { s_addr: u32::from_ne_bytes(ip.octets()) },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let data = append(libc::IPPROTO_IP, libc::IP_PKTINFO, size_of_val(&info));
            // SAFETY: `append` left room for exactly this.
            unsafe { data.cast::<libc::in_pktinfo>().write_unaligned(info) };
        }
        Some(ip) => {
            let octets = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            let info = libc::in6_pktinfo { ipi6_addr: libc::in6_addr { s6_addr: octets }, ipi6_ifindex: 0 };
            let data = append(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, size_of_val(&info));
            // SAFETY: `append` left room for exactly this.
            unsafe { data.cast::<libc::in6_pktinfo>().write_unaligned(info) };
        }
        None => {}
    }
    if let Some(size) = segment {
        let data = append(libc::SOL_UDP, libc::UDP_SEGMENT, size_of::<u16>());
        // SAFETY: `append` left room for exactly this.
        unsafe { data.cast::<u16>().write_unaligned(size) };
    }
    header.msg_controllen = used as _;
}
