//! Just enough of RFC 1035 to pass queries on, to judge answers, and to ask for addresses.
//!
//! Answers are passed on as they came; nothing is decompressed. A name is walked over, never followed, so a hostile answer
//! cannot make a loop. Every index is checked; what does not parse is no answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The fixed head of a message (RFC 1035, 4.1.1).
pub(crate) const HEADER: usize = 12;
/// What a UDP answer may hold without EDNS (RFC 1035, 4.2.1).
pub(crate) const PLAIN_UDP: usize = 512;
/// What this resolver asks for in UDP answers: fits any path unfragmented (DNS flag day 2020).
const EDNS_UDP: u16 = 1232;

/// Type numbers (RFC 1035, 3.2.2; RFC 3596; RFC 6891).
pub(crate) const A: u16 = 1;
const SOA: u16 = 6;
pub(crate) const AAAA: u16 = 28;
const OPT: u16 = 41;

const NO_ERROR: u8 = 0;
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;

/// A query, as far as the forwarder has to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    /// The client's number, to be given back.
    pub(crate) id: u16,
    /// The name in text, lower case, without the final dot; bytes that a host name has not are shown as `?`.
    pub(crate) name: String,
    /// Where the question ends.
    pub(crate) question_end: usize,
    /// The greatest UDP answer that the client takes.
    pub(crate) udp_limit: usize,
}

/// Reads a query with one question; `None` for everything else.
pub(crate) fn query(message: &[u8]) -> Option<Query> {
    let flags = u16_at(message, 2)?;
    let is_query = flags & 0x8000 == 0 && flags & 0x7800 == 0;
    if !is_query || u16_at(message, 4)? != 1 || u16_at(message, 6)? != 0 {
        return None;
    }
    let (name, end) = question_name(message)?;
    let question_end = end + 4;
    if message.len() < question_end {
        return None;
    }
    let mut udp_limit = PLAIN_UDP;
    let mut at = question_end;
    for _ in 0..u16_at(message, 8)?.checked_add(u16_at(message, 10)?)? {
        let record = record(message, at)?;
        if record.kind == OPT {
            udp_limit = usize::from(record.class).max(PLAIN_UDP);
        }
        at = record.end;
    }
    Some(Query { id: u16_at(message, 0)?, name, question_end, udp_limit })
}

/// What an answer says, if it is one to this query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Not an answer to this query: forged, late or broken. Ignored.
    Foreign,
    /// An answer, cut short: to be asked again over TCP.
    Truncated,
    /// A server that could not or would not: another one may.
    Failed,
    /// A good answer, also "no such name".
    Good,
}

/// Judges an answer against the query as it was sent.
pub(crate) fn judge(query: &[u8], question_end: usize, answer: &[u8]) -> Verdict {
    let (Some(flags), Some(question)) = (u16_at(answer, 2), answer.get(HEADER..question_end)) else {
        // Some servers refuse without repeating the question.
        return match u16_at(answer, 2) {
            Some(flags) if answer[..2] == query[..2] && flags & 0x8000 != 0 && rcode(flags) != NO_ERROR => {
                Verdict::Failed
            }
            _ => Verdict::Foreign,
        };
    };
    if answer[..2] != query[..2]
        || flags & 0x8000 == 0
        || u16_at(answer, 4) != Some(1)
        || !query.get(HEADER..question_end).is_some_and(|asked| asked.eq_ignore_ascii_case(question))
    {
        return Verdict::Foreign;
    }
    match rcode(flags) {
        NO_ERROR | NAME_ERROR if flags & 0x0200 != 0 => Verdict::Truncated,
        NO_ERROR | NAME_ERROR => {
            if walk(answer, question_end).is_some() {
                Verdict::Good
            } else {
                Verdict::Failed
            }
        }
        _ => Verdict::Failed,
    }
}

/// What a whole answer says.
pub(crate) struct Walked {
    /// Addresses of the answer section, in order.
    pub(crate) addresses: Vec<IpAddr>,
    /// Places of the TTLs that age.
    pub(crate) ttls: Vec<usize>,
    /// Seconds for which it may be kept; 0: not at all.
    pub(crate) ttl: u32,
}

/// Walks over all records; `None` if they do not fit the message.
pub(crate) fn walk(answer: &[u8], question_end: usize) -> Option<Walked> {
    let answers = u16_at(answer, 6)?;
    let authority = u16_at(answer, 8)?;
    let total = u32::from(answers) + u32::from(authority) + u32::from(u16_at(answer, 10)?);
    let mut walked = Walked { addresses: Vec::new(), ttls: Vec::new(), ttl: u32::MAX };
    let mut at = question_end;
    let mut negative = None;
    for index in 0..total {
        let record = record(answer, at)?;
        at = record.end;
        if record.kind == OPT {
            continue;
        }
        // A TTL with its highest bit set means zero (RFC 2181, 8).
        let ttl = if record.ttl > i32::MAX as u32 { 0 } else { record.ttl };
        walked.ttl = walked.ttl.min(ttl);
        walked.ttls.push(record.ttl_at);
        if index < u32::from(answers) {
            walked.addresses.extend(address(&record));
        } else if record.kind == SOA && record.data.len() >= 20 {
            // The last field of an SOA is how long a missing answer may be kept (RFC 2308, 5).
            negative = u32_at(record.data, record.data.len() - 4).map(|minimum| minimum.min(ttl));
        }
    }
    if answers == 0 {
        walked.ttl = negative.unwrap_or(0);
    }
    Some(walked)
}

fn address(record: &Record<'_>) -> Option<IpAddr> {
    match record.kind {
        A => <[u8; 4]>::try_from(record.data).ok().map(|octets| Ipv4Addr::from(octets).into()),
        AAAA => <[u8; 16]>::try_from(record.data).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// A query for one type of a host's records, with EDNS; `None` if the name is none.
pub(crate) fn ask(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() || name.len() > 253 {
        return None;
    }
    let mut message = Vec::with_capacity(HEADER + name.len() + 2 + 4 + 11);
    message.extend(id.to_be_bytes());
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 1]);
    for label in name.split('.') {
        let length = u8::try_from(label.len()).ok().filter(|length| (1..=63).contains(length))?;
        message.push(length);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(kind.to_be_bytes());
    message.extend(1u16.to_be_bytes());
    message.push(0);
    message.extend(OPT.to_be_bytes());
    message.extend(EDNS_UDP.to_be_bytes());
    message.extend([0; 6]);
    Some(message)
}

/// The answer that says "the server failed" to this query.
pub(crate) fn failure(query: &[u8], question_end: usize) -> Vec<u8> {
    let mut answer = query[..question_end].to_vec();
    answer[2] = 0x80 | (query[2] & 0x79);
    answer[3] = 0x80 | SERVER_FAILURE;
    answer[6..HEADER].fill(0);
    answer
}

/// An answer too long for UDP, cut down to its question and marked so (RFC 2181, 9).
pub(crate) fn truncated(answer: &[u8], question_end: usize) -> Vec<u8> {
    let mut short = answer[..question_end].to_vec();
    short[2] |= 0x02;
    short[6..HEADER].fill(0);
    short
}

fn rcode(flags: u16) -> u8 {
    (flags & 0x000f) as u8
}

struct Record<'a> {
    kind: u16,
    class: u16,
    ttl: u32,
    ttl_at: usize,
    data: &'a [u8],
    end: usize,
}

fn record(message: &[u8], at: usize) -> Option<Record<'_>> {
    let head = skip_name(message, at)?;
    let length = usize::from(u16_at(message, head + 8)?);
    let data = message.get(head + 10..head + 10 + length)?;
    Some(Record {
        kind: u16_at(message, head)?,
        class: u16_at(message, head + 2)?,
        ttl: u32_at(message, head + 4)?,
        ttl_at: head + 4,
        data,
        end: head + 10 + length,
    })
}

/// The end of the name that starts here: after its zero, or after its first pointer (RFC 1035, 4.1.4).
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    let start = at;
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += usize::from(length) + 1,
            192..=255 => return message.get(at + 1).map(|_| at + 2),
            _ => return None,
        }
        if at - start > 255 {
            return None;
        }
    }
}

/// The question's name in text, and where it ends. A question has no pointers: nothing stands before it.
fn question_name(message: &[u8]) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at)?);
        if length == 0 {
            return Some((name, at + 1));
        }
        if length > 63 || name.len() + length > 254 {
            return None;
        }
        if !name.is_empty() {
            name.push('.');
        }
        for &byte in message.get(at + 1..at + 1 + length)? {
            let shown = byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            name.push(if shown { char::from(byte.to_ascii_lowercase()) } else { '?' });
        }
        at += 1 + length;
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2)?.try_into().ok().map(u16::from_be_bytes)
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes)
}
