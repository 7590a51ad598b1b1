//! The flows that connection tracking knows, listed over ctnetlink.
//!
//! A flow stands there from its first packet until it was silent for its timeout, so being listed is a sign of life. Bytes are counted only
//! where the administrator switched that on (`net.netfilter.nf_conntrack_acct`).
//!
//! Bound: [`MAX_FLOWS`] flows are listed, those beyond are counted.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr as Address};
use std::time::Duration;

use netlink_sys::{Socket, SocketAddr};

use crate::conntrack::{MARK, MARK_MASK, PROTOCOL, message};
use crate::error::NetError;

/// Flows that are listed at most.
pub const MAX_FLOWS: usize = 65_536;

/// `NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET`, and what is answered (`IPCTNL_MSG_CT_NEW`).
const GET: u16 = 1 << 8 | 1;
const NEW: u16 = 1 << 8;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 1 | 0x300;
/// Kinds of messages of every netlink.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// The bits of an attribute's kind that say how it is written.
const KIND: u16 = 0x3fff;
/// Attributes of a connection (`CTA_TUPLE_ORIG` and so on).
const ORIGINAL: u16 = 1;
const PROTOCOL_STATE: u16 = 4;
const TIMEOUT: u16 = 7;
const SENT: u16 = 9;
const RECEIVED: u16 = 10;

/// How far a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlowStage {
    /// TCP: its connect is not answered yet.
    Opening,
    /// It is open. UDP always is.
    Open,
    /// TCP: one end has said that it is done.
    Closing,
}

/// A TCP or UDP flow, as its first packet had it before any translation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedFlow {
    /// TCP, or UDP.
    pub is_tcp: bool,
    /// Who began it.
    pub source: Address,
    /// With whom.
    pub destination: Address,
    /// Its connection mark.
    pub mark: u32,
    /// How far it is.
    pub stage: FlowStage,
    /// After so long without a packet it is forgotten; each packet starts that time anew.
    pub left: Duration,
    /// Bytes of its beginner, and back, headers included; none where they are not counted.
    pub bytes: Option<(u64, u64)>,
}

/// The flows whose connection mark, with `mask` laid over it, is `mark`, of both families, in this network namespace; and how many there are beyond
/// [`MAX_FLOWS`]. Where connection tracking was never used there are none.
///
/// # Errors
/// No permission, or the kernel has no ctnetlink.
pub fn tracked_flows(mark: u32, mask: u32) -> Result<(Vec<TrackedFlow>, usize), NetError> {
    list(mark, mask).map_err(|source| NetError::kernel("list the flows that are tracked", source))
}

fn list(mark: u32, mask: u32) -> io::Result<(Vec<TrackedFlow>, usize)> {
    let mut socket = Socket::new(PROTOCOL)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&message(GET, DUMP, &[(MARK, mark), (MARK_MASK, mask)]), 0)?;
    let (mut flows, mut beyond) = (Vec::new(), 0);
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some((length, kind)) = head(rest) {
            let body = rest.get(16..length).unwrap_or_default();
            match kind {
                NLMSG_DONE => return Ok((flows, beyond)),
                NLMSG_ERROR => {
                    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                    return match code.abs() {
                        0 | libc::ENOENT => Ok((flows, beyond)),
                        code => Err(io::Error::from_raw_os_error(code)),
                    };
                }
                // After the family, the version and a number that means nothing here.
                NEW => match flow(body.get(4..).unwrap_or_default()) {
                    Some(flow) if flow.mark & mask != mark => {}
                    Some(_) if flows.len() >= MAX_FLOWS => beyond += 1,
                    Some(flow) => flows.push(flow),
                    None => {}
                },
                _ => {}
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
    }
}

/// Length and kind of the next message.
fn head(bytes: &[u8]) -> Option<(usize, u16)> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    (16..=bytes.len()).contains(&length).then_some((length, kind))
}

/// The attributes of a message, or of an attribute that is made of some.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*bytes.first_chunk()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & KIND, value))
    })
}

fn find(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

fn number<const N: usize>(bytes: &[u8], kind: u16) -> Option<[u8; N]> {
    find(bytes, kind)?.first_chunk().copied()
}

/// A flow; none if it is neither TCP nor UDP.
fn flow(bytes: &[u8]) -> Option<TrackedFlow> {
    let tuple = find(bytes, ORIGINAL)?;
    let (ends, protocol) = (find(tuple, 1)?, find(tuple, 2)?);
    let [protocol_number] = number(protocol, 1)?;
    let is_tcp = i32::from(protocol_number) == libc::IPPROTO_TCP;
    if !is_tcp && i32::from(protocol_number) != libc::IPPROTO_UDP {
        return None;
    }
    let ip = |v4: u16, v6: u16| -> Option<IpAddr> {
        let v4 = number(ends, v4).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into());
        v4.or_else(|| number(ends, v6).map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()))
    };
    let port = |kind| number(protocol, kind).map(u16::from_be_bytes);
    let counted = |direction| number(find(bytes, direction)?, 2).map(u64::from_be_bytes);
    Some(TrackedFlow {
        is_tcp,
        source: Address::new(ip(1, 3)?, port(2)?),
        destination: Address::new(ip(2, 4)?, port(3)?),
        mark: number(bytes, MARK).map_or(0, u32::from_be_bytes),
        stage: stage(bytes),
        left: Duration::from_secs(number(bytes, TIMEOUT).map_or(0, u32::from_be_bytes).into()),
        bytes: counted(SENT).zip(counted(RECEIVED)),
    })
}

/// From the kernel's states of TCP (`enum tcp_conntrack`).
fn stage(bytes: &[u8]) -> FlowStage {
    let tcp = find(bytes, PROTOCOL_STATE).and_then(|state| find(state, 1));
    match tcp.and_then(|tcp| number(tcp, 1)) {
        Some([0..=2 | 9]) => FlowStage::Opening,
        Some([4..=8]) => FlowStage::Closing,
        _ => FlowStage::Open,
    }
}
