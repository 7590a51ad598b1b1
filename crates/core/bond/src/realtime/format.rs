//! Formats that real-time traffic is written in, by the first bytes behind the UDP header: RTP, SRT, STUN.
//!
//! One packet proves nothing; a run of packets whose numbers rise one by one does. QUIC, WireGuard, DTLS, DNS and uTP cannot be
//! taken for either: the first two bits of RTP are `10` (QUIC's are `01` or `11`, the others' `00`; a DNS identifier does not rise),
//! and SRT repeats a socket id and a clock behind its number.

/// The magic cookie of STUN (RFC 8489, section 5).
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// A number may be ahead of its predecessor by this much: some packets are lost or overtaken.
const MAX_STEP: u32 = 8;
/// So many good packets in a row make a run.
const RUN: u8 = 16;
/// The longest run that is counted: so many bad ones end it.
const MAX_RUN: u8 = 48;

/// Whether a payload is a STUN message.
pub(super) fn is_stun(payload: &[u8]) -> bool {
    payload.len() >= 20 && payload[0] & 0xc0 == 0 && payload[4..8] == COOKIE
}

/// Follows the numbers of one direction of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Numbers {
    /// Sources (RTP's SSRC, SRT's socket) and their newest numbers: a call has an audio and a video source on one flow.
    sources: [(u32, u32); 2],
    turn: bool,
    run: u8,
}

impl Numbers {
    /// A packet with this payload.
    pub(super) fn on_packet(&mut self, payload: &[u8]) {
        match source_of(payload) {
            Some((source, number, modulus)) => self.on_number(source, number, modulus),
            // What shares a call's flow (STUN, DTLS, RTCP) neither proves nor disproves anything; anything else does.
            None if is_control(payload) => {}
            None => self.run = self.run.saturating_sub(1),
        }
    }

    fn on_number(&mut self, source: u32, number: u32, modulus: u32) {
        let known = self.sources.iter_mut().find(|(known, _)| *known == source);
        let Some((_, newest)) = known else {
            self.sources[usize::from(self.turn)] = (source, number);
            self.turn = !self.turn;
            self.run = self.run.saturating_sub(2);
            return;
        };
        let step = number.wrapping_sub(*newest) & (modulus - 1);
        if (1..=MAX_STEP).contains(&step) {
            *newest = number;
            self.run = (self.run + 1).min(MAX_RUN);
        } else if step < modulus - MAX_STEP * 8 {
            // A leap. What is a little behind was overtaken or repeated, and says nothing.
            *newest = number;
            self.run /= 2;
        }
    }

    /// Whether the last packets were such a run.
    pub(super) fn is_run(&self) -> bool {
        self.run >= RUN
    }
}

/// Source, number and the modulus of the number, if the payload can be RTP (RFC 3550, section 5.1) or SRT data
/// (draft-sharabayko-srt, section 3.1).
fn source_of(payload: &[u8]) -> Option<(u32, u32, u32)> {
    let head: &[u8; 16] = payload.first_chunk()?;
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    match head[0] >> 6 {
        2 => {
            // 64 to 95 is where RTCP stands when both share a port (RFC 5761, section 4).
            let kind = head[1] & 0x7f;
            let plausible = kind <= 34 || kind >= 96;
            plausible.then(|| (word(8), u32::from(u16::from_be_bytes([head[2], head[3]])), 1 << 16))
        }
        0 | 1 => {
            let socket = word(12);
            // A socket id of 0 belongs to SRT's handshake, and to what is no SRT.
            (socket != 0).then_some((socket, word(0), 1 << 31))
        }
        _ => None,
    }
}

/// STUN, DTLS (RFC 7983: first byte 20 to 63), and RTCP.
fn is_control(payload: &[u8]) -> bool {
    match payload {
        [20..=63, ..] => true,
        [first, second, ..] if first >> 6 == 2 => (64..=95).contains(&(second & 0x7f)),
        _ => is_stun(payload),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_seen_and_forgotten() {
        let mut numbers = Numbers::default();
        let rtp = |n: u16, ssrc: u8| {
            let [a, b] = n.to_be_bytes();
            [0x80, 96, a, b, 0, 0, 0, 0, ssrc, 0, 0, 1, 9, 9, 9, 9]
        };
        for n in 65_500..65_536_u32 + 30 {
            numbers.on_packet(&rtp(n as u16, 1));
            numbers.on_packet(&rtp((n * 3) as u16, 2));
        }
        assert!(numbers.is_run());
        for n in 0..100_u16 {
            numbers.on_packet(&rtp(n.wrapping_mul(7_919), 1));
        }
        assert!(!numbers.is_run(), "identifiers at random are no numbers");
    }

    #[test]
    fn stun_needs_the_cookie() {
        let mut message = [0; 20];
        message[1] = 1;
        assert!(!is_stun(&message));
        message[4..8].copy_from_slice(&COOKIE);
        assert!(is_stun(&message) && !is_stun(&message[..19]));
    }
}
