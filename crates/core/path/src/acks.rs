//! Acknowledgements: who arrived, who is lost, and what that says about the path.

use bondwire_units::Timestamp;
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::MAX_RANGES;
use crate::congestion::AckEvent;
use crate::health::{PathState, SILENT_PACKETS};
use crate::path::Path;
use crate::rtt::MAX_ACK_DELAY;
use crate::sent::{Remembered, Sent};

/// The mean difference of neighbouring delays from which on one of them is no measure.
const MUCH_JITTER: Duration = Duration::from_millis(1);

/// An ACK that came from the peer, over any path, for this one.
#[derive(Clone, Debug)]
pub struct AckInfo<I> {
    /// The largest packet number that the peer received.
    pub largest: u64,
    /// How long the peer held its acknowledgement back.
    pub delay: Duration,
    /// When it came in: microseconds of the peer's clock, modulo 2^32.
    pub received_at_micros: u32,
    /// How long it lay in the socket here until it was read.
    pub waited: Duration,
    /// What was received, newest first, the first range ending with `largest`. Ranges beyond the 64th are ignored.
    pub ranges: I,
}

/// What an ACK changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckSummary {
    /// Packets acknowledged for the first time.
    pub acked_packets: usize,
    /// Their IP bytes.
    pub acked_bytes: usize,
    /// Packets that are lost, as this ACK shows.
    pub lost_packets: usize,
    /// Packets that were declared lost, or taken from a suspect path, and arrived after all.
    pub spurious_packets: usize,
    /// The round-trip time that it measured.
    pub rtt: Option<Duration>,
    /// It ended a suspicion: the path is active again.
    pub recovered: bool,
}

/// The peer acknowledged a packet that was never sent (docs/protocol.md, FRAME-2): the session must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the peer acknowledged packet {largest}, but the next number is {next}: it is broken or hostile, close the session"
)]
pub struct AckedUnsent {
    /// The largest number acknowledged.
    pub largest: u64,
    /// The number of the next packet.
    pub next: u64,
}

/// The newest packet that an ACK acknowledges for the first time.
struct Newest<C> {
    number: u64,
    packet: Sent<C>,
}

impl<C> Path<C> {
    /// Processes an ACK. `same_path`: it came over this very path. The contents of packets acknowledged or lost
    /// are appended to `acked` and `lost`.
    ///
    /// # Errors
    /// [`AckedUnsent`] if a number was never sent; nothing is changed then.
    pub fn handle_ack<I>(
        &mut self,
        ack: AckInfo<I>,
        same_path: bool,
        acked: &mut Vec<C>,
        lost: &mut Vec<C>,
        now: Timestamp,
    ) -> Result<AckSummary, AckedUnsent>
    where
        I: IntoIterator<Item = RangeInclusive<u64>>,
    {
        let next = self.sent.next_number();
        if ack.largest >= next {
            return Err(AckedUnsent { largest: ack.largest, next });
        }
        let mut summary = AckSummary::default();
        let largest_before = self.largest_acked;
        self.ranges.clear();
        self.ranges.extend(ack.ranges.into_iter().take(MAX_RANGES));
        let newest = self.take_acked(acked, &mut summary);
        self.recognise_spurious(largest_before, &mut summary, now);
        self.largest_acked = Some(largest_before.map_or(ack.largest, |l| l.max(ack.largest)));
        if same_path {
            self.two_way_at = Some(now);
        }
        let Some(Newest { number, packet }) = newest else {
            self.find_lost(lost, &mut summary, now.saturating_sub(ack.waited));
            return Ok(summary);
        };
        self.acked_at = now;
        self.timeouts = 0;
        self.refresh_silent();
        let mut rate = None;
        if number == ack.largest && self.is_in_line(largest_before, now) {
            self.sampled_at = now;
            summary.rtt = self.sample_rtt(&packet, ack.delay, same_path, now.saturating_sub(ack.waited));
            let queued = Duration::from_micros(packet.queued.into());
            let busy = self.congestion.is_busy();
            let delay = self.delay.update(packet.sent_at, ack.received_at_micros, queued, busy, now);
            // Where there is much jitter, one packet's says nothing about the rate; the change of the smoothed delay does, unless it changes fast.
            self.delay.set_reorders(self.loss.has_learnt_reordering());
            // What overtakes others comes with none of them: there the single delay is the true one.
            let smooth = self.delay.jitter() > MUCH_JITTER
                && !self.loss.has_learnt_reordering()
                && !self.congestion.is_starting();
            let delay = if smooth { self.delay.quick_level() } else { delay };
            let sent_at = i64::try_from(packet.sent_at.as_micros()).unwrap_or(i64::MAX);
            let received_at = sent_at.saturating_add(delay);
            rate = self.sampler.on_ack(packet.sent_at, received_at, self.delivered, packet.bubble);
        }
        // By the time at which it came: what other acknowledgements say that still lie in the socket is not late.
        self.find_lost(lost, &mut summary, now.saturating_sub(ack.waited));
        let round_start = packet.delivered >= self.next_round;
        if round_start {
            self.next_round = self.delivered;
        }
        if let Some(outage) = self.health.on_acked(number, now) {
            summary.recovered = true;
            self.congestion.on_return(outage, &self.rtt, now);
        }
        if summary.recovered || self.state() != PathState::Active {
            // A rate measured across an outage is none.
            self.sampler.restart();
            rate = None;
        }
        self.congestion.on_ack(
            &AckEvent {
                rate,
                round_start,
                in_flight: self.sent.in_flight(),
                rtt: &self.rtt,
                loss: self.loss.ratio(),
                gentle_loss: self.loss.gentle_ratio(),
            },
            &mut self.delay,
            now,
        );
        self.sampler.set_window(self.congestion.sample_window());
        self.delay.set_floor_span(self.congestion.queue_window());
        self.update_pace(now);
        Ok(summary)
    }

    /// Whether the largest packet came in its turn. One that overtook others on a link that reorders tells
    /// nothing about the way that those take. Where nothing comes in its turn, since every other packet is
    /// lost, anything must do.
    fn is_in_line(&self, largest_before: Option<u64>, now: Timestamp) -> bool {
        let expected = largest_before.map_or(0, |l| l + 1);
        let patience = (self.rtt.smoothed() / 2).clamp(Duration::from_millis(20), Duration::from_millis(100));
        self.ranges
            .first()
            .is_some_and(|first| *first.start() <= expected || first.start() + 2 <= *first.end())
            || self.sampled_at + patience <= now
    }

    /// Takes what the ranges acknowledge out of flight; returns the newest of it.
    fn take_acked(&mut self, acked: &mut Vec<C>, summary: &mut AckSummary) -> Option<Newest<C>> {
        let mut newest: Option<Newest<C>> = None;
        for range in &self.ranges {
            if *range.end() < self.sent.first_number() {
                break;
            }
            for number in self.sent.clip(range) {
                let Some(mut packet) = self.sent.take(number) else { continue };
                let size = packet.size as usize;
                summary.acked_packets += 1;
                summary.acked_bytes += size;
                self.delivered += u64::from(packet.size);
                if packet.mtu_probe {
                    self.mtu.on_probe_acked(size - self.overhead);
                    self.congestion.set_packet(self.mtu.current() + self.overhead);
                } else {
                    self.mtu.on_acked(size - self.overhead.min(size), number);
                    if packet.ack_eliciting {
                        self.loss.on_resolved(false, packet.gentle);
                    }
                }
                acked.extend(packet.content.take());
                if newest.as_ref().is_none_or(|n| n.number < number) {
                    newest = Some(Newest { number, packet });
                }
            }
        }
        self.sent.trim();
        newest
    }

    fn recognise_spurious(&mut self, largest_before: Option<u64>, summary: &mut AckSummary, now: Timestamp) {
        if !self.sent.remembers_any() {
            return;
        }
        let (loss, delivered, spurious) = (&mut self.loss, &mut self.delivered, &mut self.spurious);
        for range in &self.ranges {
            self.sent.take_remembered(range, |late: Remembered| {
                summary.spurious_packets += 1;
                *delivered += u64::from(late.size);
                if !late.abandoned {
                    *spurious += 1;
                    let distance = largest_before.unwrap_or(0).saturating_sub(late.number);
                    loss.on_spurious(distance, now.since(late.sent_at), now);
                }
            });
        }
        let memory = (self.rtt.pto() * 2).clamp(Duration::from_millis(200), Duration::from_secs(2));
        self.sent.forget_before(now.saturating_sub(memory));
    }

    fn sample_rtt(
        &mut self,
        packet: &Sent<C>,
        delay: Duration,
        same_path: bool,
        arrived: Timestamp,
    ) -> Option<Duration> {
        if !packet.ack_eliciting {
            return None;
        }
        let sample = arrived.since(packet.sent_at);
        let delay = delay.min(MAX_ACK_DELAY * 4);
        self.rtt.update(sample, delay, arrived);
        if same_path {
            self.two_way_rtt.update(sample, delay, arrived);
        }
        Some(sample)
    }

    /// Declares lost what the thresholds say, oldest first.
    pub(crate) fn find_lost(&mut self, lost: &mut Vec<C>, summary: &mut AckSummary, now: Timestamp) {
        lost.append(&mut self.sent.evicted);
        self.loss.on_time(now);
        let Some(largest) = self.largest_acked else { return };
        let threshold = self.loss.time_threshold(&self.rtt);
        let mut number = self.sent.first_number();
        while number < largest {
            let Some(sent_at) = self.sent.in_flight_since(number) else {
                number += 1;
                continue;
            };
            if largest - number < self.loss.packet_threshold() && sent_at + threshold > now {
                break;
            }
            if let Some(packet) = self.sent.take(number) {
                self.on_lost(number, packet, lost, summary, now);
            }
            number += 1;
        }
        self.sent.trim();
    }

    fn on_lost(
        &mut self,
        number: u64,
        packet: Sent<C>,
        lost: &mut Vec<C>,
        summary: &mut AckSummary,
        now: Timestamp,
    ) {
        let size = packet.size as usize;
        if packet.mtu_probe {
            self.mtu.on_probe_lost(size - self.overhead);
        } else if packet.ack_eliciting {
            summary.lost_packets += 1;
            self.lost_packets += 1;
            self.loss.on_resolved(true, packet.gentle);
            if self.mtu.on_lost(size - self.overhead.min(size), number, now) {
                self.congestion.set_packet(self.mtu.current() + self.overhead);
            }
            self.sent.remember(Remembered {
                number,
                sent_at: packet.sent_at,
                declared_at: now,
                size: packet.size,
                abandoned: false,
            });
        }
        lost.extend(packet.content);
    }

    /// Finds the first ack-eliciting packets after the largest acknowledged one: those whose silence counts.
    fn refresh_silent(&mut self) {
        self.silent = [None; SILENT_PACKETS];
        let from = self.largest_acked.map_or(0, |l| l + 1);
        let waiting = self.sent.iter_from(from).filter(|(_, p)| p.ack_eliciting && p.content.is_some());
        for (slot, (_, packet)) in self.silent.iter_mut().zip(waiting) {
            *slot = Some(packet.sent_at);
        }
    }
}
