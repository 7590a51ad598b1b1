//! What is asked of the kernel: `struct inet_diag_req_v2` and the filter language of `linux/inet_diag.h`.

use crate::socket::{Protocol, SocketKey};

/// Marks in one request at most.
pub const MAX_MARKS: usize = 64;

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

/// A request for all sockets of a protocol and family in these states (one bit each), with one of these marks if there are any.
pub(crate) fn dump(protocol: Protocol, family: u8, states: u32, marks: &[Mark], sequence: u32) -> Vec<u8> {
    let mut body = head(protocol, family, protocol.extensions(), states);
    body.extend([0; 48]);
    if !marks.is_empty() {
        let filter = filter(marks);
        let length = 4 + filter.len() as u16;
        body.extend(length.to_ne_bytes());
        body.extend(ATTRIBUTE_FILTER.to_ne_bytes());
        body.extend(filter);
    }
    message(BY_FAMILY, REQUEST | DUMP, sequence, &body)
}

/// A request to close a socket.
pub(crate) fn destroy(protocol: Protocol, key: &SocketKey, sequence: u32) -> Vec<u8> {
    let mut body = head(protocol, key.family(), 0, u32::MAX);
    body.extend(key.encode());
    message(DESTROY, REQUEST | ACK, sequence, &body)
}

fn head(protocol: Protocol, family: u8, extensions: u8, states: u32) -> Vec<u8> {
    let mut body = vec![family, protocol.number(), extensions, 0];
    body.extend(states.to_ne_bytes());
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
