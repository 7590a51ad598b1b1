//! Echoes: RFC 792 for IPv4, RFC 4443 (section 4) for IPv6.

use std::io::{self, ErrorKind};

use socket2::{Domain, Protocol, Socket, Type};

/// Types of echo and reply.
const ECHO_V4: u8 = 8;
const REPLY_V4: u8 = 0;
const ECHO_V6: u8 = 128;
const REPLY_V6: u8 = 129;
/// An IPv4 header's least length.
const HEADER: usize = 20;

/// A socket for echoes: the ordinary user's, or where that is forbidden (`ping_group_range`) root's, which gives whole packets.
pub(super) fn socket(domain: Domain) -> io::Result<(Socket, bool)> {
    let protocol = if domain == Domain::IPV4 { Protocol::ICMPV4 } else { Protocol::ICMPV6 };
    match Socket::new(domain, Type::DGRAM.nonblocking(), Some(protocol)) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            Socket::new(domain, Type::RAW.nonblocking(), Some(protocol)).map(|socket| (socket, true))
        }
        other => other.map(|socket| (socket, false)),
    }
}

/// An echo with this number, twice: as the identifier, which an ordinary user's socket replaces, and as the sequence number.
pub(super) fn echo(v4: bool, number: u16) -> [u8; 8] {
    let [high, low] = number.to_be_bytes();
    let kind = if v4 { ECHO_V4 } else { ECHO_V6 };
    let mut message = [kind, 0, 0, 0, high, low, high, low];
    if v4 {
        // RFC 1071; for IPv6 the kernel does it, since its sum covers addresses.
        let sum = message
            .chunks_exact(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum::<u32>();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !(((folded & 0xffff) + (folded >> 16)) as u16);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
    }
    message
}

/// Whether this is the reply to the echo with this number.
pub(super) fn is_reply(packet: &[u8], raw: bool, number: u16) -> bool {
    let is_v4_packet = raw && packet.first().is_some_and(|byte| byte >> 4 == 4) && packet.len() >= HEADER;
    let start = if is_v4_packet { usize::from(packet[0] & 0xf) * 4 } else { 0 };
    let Some(message) = packet.get(start..).and_then(<[u8]>::first_chunk::<8>) else { return false };
    let [kind, code, _, _, id_high, id_low, high, low] = *message;
    let ours = !raw || u16::from_be_bytes([id_high, id_low]) == number;
    matches!(kind, REPLY_V4 | REPLY_V6) && code == 0 && ours && u16::from_be_bytes([high, low]) == number
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_sums_to_zero_and_its_reply_is_known() {
        for number in [0, 1, 0x1234, 0xffff] {
            let echo = echo(true, number);
            let sum: u32 =
                echo.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{number}");
            assert!(!is_reply(&echo, false, number), "an echo is no reply");
            let mut reply = echo;
            reply[0] = REPLY_V4;
            assert!(is_reply(&reply, false, number) && !is_reply(&reply, false, number ^ 1));
            let packet = [&[0x45; 1][..], &[0; 19], &reply].concat();
            assert!(is_reply(&packet, true, number) && !is_reply(&packet[..27], true, number));
        }
        assert!(!is_reply(&[], true, 0) && !is_reply(&[0x4f; 21], true, 0));
    }
}
