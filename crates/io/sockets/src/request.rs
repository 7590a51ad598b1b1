//! What is asked of the kernel: `struct inet_diag_req`, `inet_diag_req_v2` and the filter language of `linux/inet_diag.h`.

use crate::socket::{EXTENSIONS, Protocol, SocketKey, V4, V6};

/// Marks in one request at most.
pub const MAX_MARKS: usize = 64;

/// `TCPDIAG_GETSOCK`: TCP sockets of both families.
const TCP_ANY_FAMILY: u16 = 18;
/// `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// `SOCK_DESTROY`.
const DESTROY: u16 = 21;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;

/// `INET_DIAG_REQ_BYTECODE`.
const ATTRIBUTE_FILTER: u16 = 1;
/// `INET_DIAG_BC_JMP`.
const JUMP: u8 = 1;
/// `INET_DIAG_BC_MARK_COND`.
const MARK_IS: u8 = 10;
/// One condition about a mark: the operation, then mark and mask.
const CONDITION: u16 = 12;
/// One operation alone.
const OPERATION: u16 = 4;

/// Sockets whose mark has `value` in the bits of `mask`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The bits wanted.
    pub value: u32,
    /// Which bits count.
    pub mask: u32,
}

impl Mark {
    /// Exactly this mark.
    pub const fn exactly(value: u32) -> Self {
        Self { value, mask: u32::MAX }
    }
}

/// Which sockets one request for a list can be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    /// TCP's, of both families: the kernel goes through its whole table of connections for each request.
    Tcp,
    /// UDP's of one family.
    Udp(u8),
}

impl Listed {
    /// The requests that list a protocol's sockets.
    pub(crate) const fn all(protocol: Protocol) -> &'static [Self] {
        match protocol {
            Protocol::Tcp => &[Self::Tcp],
            Protocol::Udp => &[Self::Udp(V4), Self::Udp(V6)],
        }
    }
}

/// A request for all these sockets that are in one of the states (one bit each), with one of these marks if there are any.
pub(crate) fn dump(listed: Listed, states: u32, marks: &[Mark], sequence: u32) -> Vec<u8> {
    let (kind, mut body) = match listed {
        Listed::Tcp => (TCP_ANY_FAMILY, tcp_request(states)),
        Listed::Udp(family) => (BY_FAMILY, request(Protocol::Udp, family, states, &[0; 48])),
    };
    if !marks.is_empty() {
        let filter = filter(marks);
        let length = 4 + filter.len() as u16;
        body.extend(length.to_ne_bytes());
        body.extend(ATTRIBUTE_FILTER.to_ne_bytes());
        body.extend(filter);
    }
    message(kind, REQUEST | DUMP, sequence, &body)
}

/// A request to close a socket.
pub(crate) fn destroy(protocol: Protocol, key: &SocketKey, sequence: u32) -> Vec<u8> {
    let body = request(protocol, key.family(), u32::MAX, &key.encode());
    message(DESTROY, REQUEST | ACK, sequence, &body)
}

/// `struct inet_diag_req`, about any socket, whose family is not looked at.
fn tcp_request(states: u32) -> Vec<u8> {
    let mut body = vec![0, 0, 0, EXTENSIONS];
    body.extend([0; 48]);
    body.extend(states.to_ne_bytes());
    body.extend([0; 4]);
    body
}

/// `struct inet_diag_req_v2`, asking for nothing besides the sockets.
fn request(protocol: Protocol, family: u8, states: u32, id: &[u8; 48]) -> Vec<u8> {
    let mut body = vec![family, protocol.number(), 0, 0];
    body.extend(states.to_ne_bytes());
    body.extend(id);
    body
}

fn message(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(16 + body.len());
    message.extend((16 + body.len() as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(sequence.to_ne_bytes());
    message.extend([0; 4]);
    message.extend(body);
    message
}

/// A program for the kernel's filter: accepted is what ends exactly at its end, refused what jumps four bytes beyond.
fn filter(marks: &[Mark]) -> Vec<u8> {
    let block = CONDITION + OPERATION;
    let mut program = Vec::new();
    for (index, mark) in marks.iter().enumerate() {
        let after = (marks.len() - 1 - index) as u16;
        // If it is not this one: the next condition begins a block further; after the last one that is beyond the end.
        program.extend([MARK_IS, CONDITION as u8]);
        program.extend(block.to_ne_bytes());
        program.extend(mark.value.to_ne_bytes());
        program.extend(mark.mask.to_ne_bytes());
        if after > 0 {
            // If it is: over all other conditions to the end, where the last block has no jump.
            program.extend([JUMP, OPERATION as u8]);
            program.extend((after * block).to_ne_bytes());
        }
    }
    program
}
