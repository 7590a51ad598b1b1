//! Whether a flow over UDP behaves like a call, a game or a live video.
//!
//! What counts, each with what it must not be mistaken for:
//!
//! | sign | bounds | kept out |
//! |---|---|---|
//! | RTP or SRT numbers in a run | at most 3,000 packets a second | everything that is not RTP or SRT |
//! | small packets both ways | 8 to 1,000 a second and at most 400 bytes in the mean, each way; the gaps here even, or STUN seen | QUIC, WireGuard and torrents in bulk (large packets one way), DNS (no rate) |
//! | a clock one way | 8 to 1,000 a second, gaps and counts even for two seconds, hardly anything the other way | what a congestion control paces: its counts change, it comes in pairs, and it is acknowledged |
//! | a known port | until a window contradicts it | what only shares the port |
//!
//! Every window of half a second in which the flow sent or received is judged: *fits* adds to a score, *does not* takes from it. The
//! class comes at [`ENTER`] and goes at zero, so that one odd window changes nothing.

use super::format::{Numbers, is_stun};
use super::ports;
use super::rhythm::{Measure, Rhythm, WINDOW};
use super::status::StreamReason;
use bondwire_units::Timestamp;
use core::time::Duration;

/// The score at which a flow becomes real-time: a second and a half of good behaviour.
const ENTER: u8 = 3;
/// The highest score: so many bad windows in a row end the class.
const HIGHEST: u8 = 6;
/// Packets a second of a call, a game, a video: fewer need no help, more are no rhythm.
const RATES: core::ops::RangeInclusive<f32> = 8.0..=1_000.0;
/// The same for what says by its format what it is.
const MAX_FORMATTED: f32 = 3_000.0;
/// The mean size up to which packets are small, in bytes with all headers.
const SMALL: f32 = 400.0;
/// How uneven the gaps of a conversation may be, and those of a flow that has nothing but its rhythm.
const LOOSE: f32 = 0.6;
const STRICT: f32 = 0.35;
/// What may come back to a flow that has nothing but its rhythm, as a share of its packets: reports. Acknowledgements are more: one for
/// ten packets at the least (draft-ietf-quic-ack-frequency).
const REPORTS: f32 = 1.0 / 16.0;
/// So many a second may come back in any case: reports and what keeps a NAT open.
const REPORTS_LEAST: f32 = 12.5;
/// For how long a STUN message speaks for a flow: agents repeat them every few seconds (RFC 7675 asks for 15 s at least).
const STUN_LASTS: Duration = Duration::from_secs(30);

/// The two directions, as this end sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// This end sends.
    Out,
    /// This end receives.
    In,
}

/// The behaviour of one flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Behaviour {
    rhythms: [Rhythm; 2],
    numbers: [Numbers; 2],
    stun_at: Option<Timestamp>,
    judged_at: Timestamp,
    score: u8,
    reason: Option<StreamReason>,
}

impl Behaviour {
    /// A flow between these ports, of which nothing was seen yet.
    pub(super) fn new(ports: [u16; 2]) -> Self {
        let known = ports::is_known(ports);
        Self {
            score: if known { ENTER } else { 0 },
            reason: known.then_some(StreamReason::Port),
            ..Self::default()
        }
    }

    /// A packet with this many bytes in all. `payload`, if it was looked into, is what stands behind its UDP header.
    pub(super) fn on_packet(
        &mut self,
        direction: Direction,
        size: usize,
        payload: Option<&[u8]>,
        now: Timestamp,
    ) {
        let side = direction as usize;
        if let Some(payload) = payload {
            if is_stun(payload) {
                self.stun_at = Some(now);
            }
            self.numbers[side].on_packet(payload);
        }
        if self.rhythms[side].on_packet(size, now) && now >= self.judged_at + WINDOW {
            self.judged_at = now;
            self.judge(now);
        }
    }

    /// Why the flow is real-time; none if it is not.
    pub(super) fn reason(&self) -> Option<StreamReason> {
        self.reason
    }

    /// Forgets what spoke for the flow.
    pub(super) fn reset(&mut self) {
        (self.score, self.reason) = (0, None);
    }

    /// What a direction's last window showed.
    pub(super) fn measure(&self, direction: Direction, now: Timestamp) -> Measure {
        self.rhythms[direction as usize].measure(now)
    }

    /// When either direction last carried a packet.
    pub(super) fn last(&self) -> Timestamp {
        self.rhythms[0].last().max(self.rhythms[1].last())
    }

    fn judge(&mut self, now: Timestamp) {
        match self.sign(now) {
            Some(reason) => {
                self.score = (self.score + 1).min(HIGHEST);
                if self.score >= ENTER && self.reason.is_none_or(|known| known == StreamReason::Port) {
                    self.reason = Some(reason);
                }
            }
            None if self.reason == Some(StreamReason::Port) && !self.contradicts(now) => {}
            None => {
                self.score = self.score.saturating_sub(1);
                if self.score == 0 {
                    self.reason = None;
                }
            }
        }
    }

    /// What the last window says for the flow.
    fn sign(&self, now: Timestamp) -> Option<StreamReason> {
        let [out, back] = self.rhythms.each_ref().map(|rhythm| rhythm.measure(now));
        if self.numbers.iter().any(Numbers::is_run) && out.rate.max(back.rate) <= MAX_FORMATTED {
            return Some(StreamReason::Format);
        }
        let lively = |measure: &Measure| RATES.contains(&measure.rate);
        let small = |measure: &Measure| measure.size <= SMALL;
        let stun = self.stun_at.is_some_and(|at| now.since(at) < STUN_LASTS);
        if lively(&out) && lively(&back) && small(&out) && small(&back) {
            if stun {
                return Some(StreamReason::Stun);
            }
            // What comes in has been shaken by the internet; what goes out has not.
            if out.spread <= LOOSE || back.spread <= STRICT {
                return Some(StreamReason::Rhythm);
            }
        }
        let clock = |one: &Measure, other: &Measure| {
            lively(one)
                && one.even
                && one.spread <= STRICT
                && other.rate <= (one.rate * REPORTS).max(REPORTS_LEAST)
        };
        (clock(&out, &back) || clock(&back, &out)).then_some(StreamReason::Rhythm)
    }

    /// Whether the last window speaks against a call, instead of merely not for it.
    fn contradicts(&self, now: Timestamp) -> bool {
        let [out, back] = self.rhythms.each_ref().map(|rhythm| rhythm.measure(now));
        let bulk = |measure: Measure| measure.rate > *RATES.start() && measure.size > 1_000.0;
        out.rate.max(back.rate) > *RATES.end() || bulk(out) || bulk(back)
    }
}
