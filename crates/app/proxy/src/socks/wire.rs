//! SOCKS5 on the wire: requests, replies, the head of UDP datagrams (RFC 1928).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::connect::{Host, Target};
use crate::director::Refusal;
use crate::error::ConnectError;

/// The protocol's version.
pub(crate) const VERSION: u8 = 5;
/// No authentication (RFC 1928, 3).
pub(crate) const NO_LOGIN: u8 = 0;
/// User name and password (RFC 1929).
pub(crate) const PASSWORD: u8 = 2;
/// None of the offered methods will do.
pub(crate) const NO_METHOD: u8 = 0xff;
/// The longest head of a datagram that the proxy itself writes: IPv6.
pub(crate) const LONGEST_HEAD: usize = 22;

/// Reply codes (RFC 1928, 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reply {
    Granted = 0,
    Failure = 1,
    NotAllowed = 2,
    NetworkUnreachable = 3,
    HostUnreachable = 4,
    Refused = 5,
    BadCommand = 7,
    BadAddress = 8,
}

impl From<ConnectError> for Reply {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Refused(Refusal::RuleLinkDown) => Self::NotAllowed,
            ConnectError::Local => Self::Failure,
            ConnectError::Refused(Refusal::NoLink) | ConnectError::Unreachable => Self::NetworkUnreachable,
            ConnectError::NoAnswer | ConnectError::NoSuchName | ConnectError::NoResolver => {
                Self::HostUnreachable
            }
            ConnectError::ByRemote => Self::Refused,
        }
    }
}

/// What reading an address came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// So many bytes are needed at least.
    More(usize),
    /// An address type that RFC 1928 does not have.
    BadType,
    /// A name that no host can have, in so many bytes.
    BadName(usize),
    /// A target, in so many bytes.
    Read(Target, usize),
}

/// Reads address type, address and port.
pub(crate) fn address(bytes: &[u8]) -> Address {
    let length = match (bytes.first(), bytes.get(1)) {
        (None, _) => return Address::More(1),
        (Some(1), _) => 1 + 4 + 2,
        (Some(4), _) => 1 + 16 + 2,
        (Some(3), None) => return Address::More(2),
        (Some(3), Some(length)) => 1 + 1 + usize::from(*length) + 2,
        _ => return Address::BadType,
    };
    let Some(bytes) = bytes.get(..length) else { return Address::More(length) };
    let (body, port) = bytes.split_at(length - 2);
    let port = u16::from_be_bytes([port[0], port[1]]);
    let host = match body[0] {
        1 => <[u8; 4]>::try_from(&body[1..]).ok().map(|octets| Host::Ip(Ipv4Addr::from(octets).into())),
        4 => <[u8; 16]>::try_from(&body[1..]).ok().map(|octets| Host::Ip(Ipv6Addr::from(octets).into())),
        _ => Host::parse(&body[2..]),
    };
    match host {
        Some(host) => Address::Read(Target { host, port }, length),
        None => Address::BadName(length),
    }
}

/// Writes address type, address and port; gives back how many bytes.
pub(crate) fn put_address(to: &mut [u8], address: SocketAddr) -> usize {
    let (kind, length) = if address.is_ipv4() { (1, 4) } else { (4, 16) };
    to[0] = kind;
    match address.ip() {
        IpAddr::V4(ip) => to[1..5].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => to[1..17].copy_from_slice(&ip.octets()),
    }
    to[1 + length..3 + length].copy_from_slice(&address.port().to_be_bytes());
    3 + length
}

/// A reply with the address that the proxy uses.
pub(crate) fn reply(code: Reply, bound: SocketAddr) -> ([u8; LONGEST_HEAD], usize) {
    let mut bytes = [0; LONGEST_HEAD];
    bytes[..3].copy_from_slice(&[VERSION, code as u8, 0]);
    let length = put_address(&mut bytes[3..], bound);
    (bytes, 3 + length)
}

/// Why a datagram from a client goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadDatagram {
    /// It is a part of a larger one, which this proxy does not put together (RFC 1928, 7 lets it).
    Fragment,
    /// Its head does not parse.
    Malformed,
}

/// Reads the head of a client's datagram: the target, and where the payload begins.
pub(crate) fn datagram(bytes: &[u8]) -> Result<(Target, usize), BadDatagram> {
    match bytes.get(..3) {
        Some([0, 0, 0]) => {}
        Some([0, 0, _]) => return Err(BadDatagram::Fragment),
        _ => return Err(BadDatagram::Malformed),
    }
    match address(&bytes[3..]) {
        Address::Read(target, length) if target.port != 0 => Ok((target, 3 + length)),
        _ => Err(BadDatagram::Malformed),
    }
}

/// Writes the head of a datagram from a remote right before its payload, which begins at [`LONGEST_HEAD`]. Gives back where the whole
/// begins.
pub(crate) fn put_head(bytes: &mut [u8], from: SocketAddr) -> usize {
    let length = if from.is_ipv4() { 10 } else { 22 };
    let start = LONGEST_HEAD - length;
    bytes[start..start + 3].fill(0);
    put_address(&mut bytes[start + 3..], from);
    start
}
