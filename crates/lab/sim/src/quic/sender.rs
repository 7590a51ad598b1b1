use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bondwire_units::Timestamp;

use crate::tcp::{Cubic, Round, SenderCounters};

/// RFC 9002, section 6.1.1.
const PACKET_THRESHOLD: u64 = 3;
/// Before the first sample (RFC 9002, section 6.2.2).
const INITIAL_RTT: Duration = Duration::from_millis(333);
const GRANULARITY: Duration = Duration::from_millis(1);
const MAX_ACK_DELAY: Duration = Duration::from_millis(25);
/// Packets that may leave together: what a sender's timer lets it do.
const BURST: u32 = 2;

/// The sending half; it always has more to send.
#[derive(Debug)]
pub(super) struct Sender {
    /// Not acknowledged and not lost: when it was sent, and what it carries.
    flying: BTreeMap<u64, (Timestamp, u32)>,
    next: u64,
    next_chunk: u32,
    /// What has to go again.
    again: VecDeque<u32>,
    largest_acked: Option<u64>,
    cubic: Cubic,
    smoothed: Option<Duration>,
    variation: Duration,
    latest: Duration,
    least: Duration,
    /// Losses of packets that were sent before this are of the reduction that was made then.
    reduced_at: Timestamp,
    probes: u32,
    /// A probe is to be sent whatever the window says.
    probe: bool,
    last_sent: Timestamp,
    pace: Timestamp,
    loss_at: Option<Timestamp>,
    counters: SenderCounters,
}

impl Sender {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            flying: BTreeMap::new(),
            next: 1,
            next_chunk: 0,
            again: VecDeque::new(),
            largest_acked: None,
            cubic: Cubic::new(),
            smoothed: None,
            variation: Duration::ZERO,
            latest: Duration::ZERO,
            least: Duration::MAX,
            reduced_at: Timestamp::ZERO,
            probes: 0,
            probe: false,
            last_sent: now,
            pace: now,
            loss_at: None,
            counters: SenderCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> SenderCounters {
        self.counters
    }

    pub(super) fn window(&self) -> (f64, Option<Duration>) {
        (self.cubic.window(), self.smoothed)
    }

    pub(super) fn handle_ack(&mut self, ranges: &[RangeInclusive<u64>], now: Timestamp) {
        let Some(largest) = ranges.first().map(|range| *range.end()) else { return };
        let limited = self.flying.len() as f64 + 1.0 >= self.cubic.window().floor();
        let mut newest = None;
        let mut acked = 0;
        for range in ranges {
            let numbers: Vec<u64> = self.flying.range(range.clone()).map(|(number, _)| *number).collect();
            for number in numbers {
                let Some((sent, _)) = self.flying.remove(&number) else { continue };
                acked += 1;
                newest = newest.max(Some((number, sent)));
            }
        }
        self.largest_acked = self.largest_acked.max(Some(largest));
        if let Some((number, sent)) = newest {
            self.probes = 0;
            if number == largest {
                self.on_rtt(now.since(sent));
            }
        }
        self.find_lost(now);
        if acked > 0 && self.least < Duration::MAX {
            let first = self.flying.keys().next().copied().unwrap_or(self.next);
            let round = Round { acknowledged: first, next: self.next };
            self.cubic.on_rtt(self.latest, round, now);
            if limited {
                self.cubic.on_ack(f64::from(acked), self.least, now);
            }
        }
    }

    fn on_rtt(&mut self, sample: Duration) {
        self.latest = sample;
        self.least = self.least.min(sample);
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(sample), sample / 2),
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(sample)) / 4;
                self.smoothed = Some((smoothed * 7 + sample) / 8);
            }
        }
    }

    fn find_lost(&mut self, now: Timestamp) {
        self.loss_at = None;
        let (Some(largest), Some(smoothed)) = (self.largest_acked, self.smoothed) else { return };
        let patience = (smoothed.max(self.latest) * 9 / 8).max(GRANULARITY);
        let mut lost = Vec::new();
        for (&number, &(sent, _)) in self.flying.range(..largest) {
            if number + PACKET_THRESHOLD <= largest || sent + patience <= now {
                lost.push(number);
            } else {
                self.loss_at = Some(sent + patience);
                break;
            }
        }
        for number in lost {
            let Some((sent, chunk)) = self.flying.remove(&number) else { continue };
            self.again.push_back(chunk);
            if sent >= self.reduced_at {
                self.reduced_at = now;
                self.cubic.on_loss();
                // QUIC goes on with the reduced window, and grows from the next round on.
                self.cubic.set_window(self.cubic.threshold());
                self.counters.reductions += 1;
            }
        }
    }

    fn probe_timeout(&self) -> Duration {
        let rtt = self.smoothed.unwrap_or(INITIAL_RTT);
        let variation = if self.smoothed.is_some() { self.variation } else { INITIAL_RTT / 2 };
        (rtt + (variation * 4).max(GRANULARITY) + MAX_ACK_DELAY) * (1 << self.probes.min(6))
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.loss_at.is_some_and(|at| at <= now) {
            self.find_lost(now);
        }
        if !self.flying.is_empty() && now >= self.last_sent + self.probe_timeout() {
            self.counters.timeouts += 1;
            self.probes += 1;
            self.probe = true;
            self.last_sent = now;
        }
    }

    /// The next packet's number and chunk.
    pub(super) fn poll_packet(&mut self, now: Timestamp) -> Option<(u64, u32)> {
        let probe = core::mem::take(&mut self.probe);
        let room = (self.flying.len() as f64) < self.cubic.window().floor();
        if !probe && (!room || self.pace > now) {
            return None;
        }
        let unanswered = || self.flying.values().next().map(|(_, chunk)| *chunk);
        let chunk = self.again.pop_front().or_else(|| unanswered().filter(|_| probe));
        self.counters.retransmitted += u64::from(chunk.is_some());
        let chunk = chunk.unwrap_or_else(|| {
            self.next_chunk += 1;
            self.next_chunk - 1
        });
        let number = self.next;
        self.next += 1;
        self.flying.insert(number, (now, chunk));
        self.counters.sent += 1;
        self.last_sent = now;
        if let Some(smoothed) = self.smoothed {
            let interval = smoothed.div_f64(1.25 * self.cubic.window().max(1.0));
            self.pace = self.pace.max(now.saturating_sub(interval * BURST)) + interval;
        }
        Some((number, chunk))
    }

    pub(super) fn poll_deadline(&self) -> Option<Timestamp> {
        let room = (self.flying.len() as f64) < self.cubic.window().floor();
        let pace = room.then_some(self.pace);
        let probe = (!self.flying.is_empty()).then(|| self.last_sent + self.probe_timeout());
        pace.into_iter().chain(probe).chain(self.loss_at).min()
    }
}
