use core::ops::Range;
use core::time::Duration;

use bondwire_units::Timestamp;

use super::cubic::{Cubic, Round};
use super::rtt::RttEstimator;
use super::scoreboard::Scoreboard;

/// The sending half: CUBIC, RACK and tail loss probes, proportional rate reduction (RFC 6937), retransmission timeouts,
/// and the return from reductions that were for nothing (by timestamps, RFC 3522, and by D-SACK, RFC 3708).
///
/// Data is a number of bytes, cut into segments of one size; the last one may be shorter.
#[derive(Debug)]
pub(super) struct Sender {
    segment: u64,
    /// Bytes to send in all; grows while the application writes.
    total: u64,
    /// The position up to which the peer takes bytes.
    allowed: u64,
    board: Scoreboard,
    cubic: Cubic,
    rtt: RttEstimator,
    phase: Phase,
    backoff: u32,
    /// When to give up waiting, and for what.
    timer: Option<(Timestamp, Timer)>,
    reordering_timer: Option<Timestamp>,
    usage: Usage,
    /// A tail probe is out: it ends when this segment is acknowledged.
    probing: Option<u64>,
    probe: Option<u64>,
    counters: SenderCounters,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Open,
    /// Something was lost; over when the segment `until` is reached.
    Recovery(Episode, Reduction),
    /// The timeout ran out.
    Loss(Episode),
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Episode {
    until: u64,
    /// The serial of the first retransmission.
    first_serial: Option<u32>,
    /// Retransmissions whose original is not known to have arrived too.
    unproven: i64,
}

/// Whether the window, and not the source, was what limited the sender within the last round (`tcp_cwnd_validate` in Linux).
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    limited: bool,
    most_in_flight: u64,
    /// The segment whose acknowledgement ends the round.
    until: u64,
}

/// Proportional rate reduction.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reduction {
    before: f64,
    delivered: f64,
    sent: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    Retransmit,
    Probe,
}

/// What a sender has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Segments sent, again or not.
    pub sent: u64,
    /// Segments sent again.
    pub retransmitted: u64,
    /// Timeouts.
    pub timeouts: u64,
    /// Reductions of the window because of loss.
    pub reductions: u64,
    /// Reductions that were taken back.
    pub undone: u64,
    /// Tail probes.
    pub probes: u64,
}

/// What to put into the next segment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    pub(super) start: u64,
    pub(super) bytes: usize,
}

impl Sender {
    pub(super) fn new(segment: usize, total: u64) -> Self {
        Self {
            segment: segment as u64,
            total,
            allowed: 0,
            board: Scoreboard::default(),
            cubic: Cubic::new(),
            rtt: RttEstimator::new(),
            phase: Phase::Open,
            backoff: 0,
            timer: None,
            reordering_timer: None,
            usage: Usage::default(),
            probing: None,
            probe: None,
            counters: SenderCounters::default(),
        }
    }

    pub(super) fn counters(&self) -> SenderCounters {
        self.counters
    }

    pub(super) fn window(&self) -> f64 {
        self.cubic.window()
    }

    pub(super) fn smoothed_rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// Bytes that the peer has acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        (self.board.first() * self.segment).min(self.total)
    }

    /// The round trip of the handshake.
    pub(super) fn on_handshake(&mut self, rtt: Option<Duration>, window: u32) {
        self.allowed = u64::from(window);
        if let Some(rtt) = rtt {
            self.rtt.on_sample(rtt);
        }
    }

    pub(super) fn handle_ack(
        &mut self,
        ack: u64,
        window: u32,
        sack: &[Range<u64>],
        echo: u32,
        now: Timestamp,
    ) {
        self.allowed = self.allowed.max(ack + u64::from(window));
        let first = if ack >= self.total { self.total.div_ceil(self.segment) } else { ack / self.segment };
        let duplicate = sack.first().is_some_and(|block| {
            block.end <= ack || sack.get(1).is_some_and(|b| b.start <= block.start && block.end <= b.end)
        });
        let blocks = &sack[usize::from(duplicate)..];
        let blocks: Vec<Range<u64>> =
            blocks.iter().map(|b| b.start / self.segment..b.end.div_ceil(self.segment)).collect();
        let limited = self.is_limited_by_window();
        let before = self.board.first();
        let delivered = self.board.on_ack(first, &blocks, self.rtt.least(), now);
        let advanced = self.board.first() > before;
        if let Some(sample) = delivered.oldest_rtt {
            self.rtt.on_sample(sample);
        }
        if advanced {
            self.backoff = 0;
        }
        self.on_probe_answer(duplicate);
        if duplicate {
            self.board.on_duplicate();
        }
        self.check_undo(advanced, duplicate, echo);
        self.detect_losses(now);
        self.update_window(delivered.segments, limited, delivered.newest_rtt, now);
        if self.board.outstanding() == 0 {
            (self.timer, self.reordering_timer) = (None, None);
        } else if advanced || delivered.segments > 0 {
            self.arm(now);
        }
    }

    /// The next segment to send, if one may be sent. `serial` is the number that it will carry.
    pub(super) fn poll_chunk(&mut self, serial: u32, now: Timestamp) -> Option<Chunk> {
        let next = self.next_to_send();
        self.note_usage(next.is_none() && self.may_send_new());
        let number = next?;
        let first_of_flight = self.board.outstanding() == 0;
        let again = number < self.board.next();
        if again {
            self.counters.retransmitted += 1;
            self.board.on_again(number, now);
            if let Phase::Recovery(episode, _) | Phase::Loss(episode) = &mut self.phase {
                episode.first_serial.get_or_insert(serial);
                episode.unproven += 1;
            }
        } else {
            self.board.on_new(now);
        }
        if let Phase::Recovery(_, reduction) = &mut self.phase {
            reduction.sent += 1.0;
        }
        self.counters.sent += 1;
        self.probe = None;
        if first_of_flight || !again || self.timer.is_none() {
            self.arm(now);
        }
        let start = number * self.segment;
        Some(Chunk { start, bytes: self.segment.min(self.total - start) as usize })
    }

    pub(super) fn handle_timeout(&mut self, now: Timestamp) {
        if self.reordering_timer.is_some_and(|at| at <= now) {
            self.reordering_timer = None;
            self.detect_losses(now);
        }
        let Some((_, timer)) = self.timer.filter(|(at, _)| *at <= now) else { return };
        self.timer = None;
        match timer {
            Timer::Probe => {
                self.counters.probes += 1;
                let number = if self.may_send_new() { self.board.next() } else { self.board.next() - 1 };
                self.probing = Some(number + 1);
                self.probe = Some(number);
                self.timer = Some((now + self.rtt.timeout(self.backoff), Timer::Retransmit));
            }
            Timer::Retransmit => self.on_retransmit_timeout(now),
        }
    }

    pub(super) fn poll_deadline(&self) -> Option<Timestamp> {
        let timer = self.timer.map(|(at, _)| at);
        timer.into_iter().chain(self.reordering_timer).min()
    }

    fn next_to_send(&self) -> Option<u64> {
        if self.probe.is_some() {
            return self.probe;
        }
        let room = self.board.in_flight() < self.cubic.window().floor().max(1.0) as u64;
        if !room {
            return None;
        }
        self.board.first_lost().or_else(|| self.may_send_new().then(|| self.board.next()))
    }

    fn may_send_new(&self) -> bool {
        let start = self.board.next() * self.segment;
        start < self.total && (start + self.segment).min(self.total) <= self.allowed
    }

    fn is_limited_by_window(&self) -> bool {
        let slow_start = self.cubic.in_slow_start();
        self.usage.limited || slow_start && self.cubic.window() < 2.0 * self.usage.most_in_flight as f64
    }

    /// The sender sent what it could; `limited`: the window stopped it, not the source.
    fn note_usage(&mut self, limited: bool) {
        let flying = self.board.in_flight();
        let round_over = self.board.first() >= self.usage.until;
        if round_over || limited || !self.usage.limited && flying > self.usage.most_in_flight {
            self.usage = Usage { limited, most_in_flight: flying, until: self.board.next() };
        }
    }

    fn detect_losses(&mut self, now: Timestamp) {
        let (Some(least), Some(smoothed)) = (self.rtt.least(), self.rtt.smoothed()) else { return };
        let recovering = self.phase != Phase::Open;
        let (lost, again) = self.board.detect_losses(recovering, least, smoothed, now);
        self.reordering_timer = again;
        if lost > 0 && self.phase == Phase::Open {
            self.enter_recovery();
        }
    }

    fn enter_recovery(&mut self) {
        let before = self.cubic.window();
        self.cubic.on_loss();
        self.counters.reductions += 1;
        let episode = Episode { until: self.board.next(), first_serial: None, unproven: 0 };
        self.phase = Phase::Recovery(episode, Reduction { before, delivered: 0.0, sent: 0.0 });
    }

    /// Follows the phase: recovery by proportional reduction, everything else by CUBIC.
    fn update_window(&mut self, delivered: u64, limited: bool, rtt: Option<Duration>, now: Timestamp) {
        if let Phase::Recovery(episode, _) | Phase::Loss(episode) = self.phase
            && self.board.first() >= episode.until
        {
            if matches!(self.phase, Phase::Recovery(..)) {
                self.cubic.set_window(self.cubic.threshold());
            }
            self.board.on_recovered();
            self.phase = Phase::Open;
        }
        let in_flight = self.board.in_flight() as f64;
        if let Phase::Recovery(_, reduction) = &mut self.phase {
            if delivered == 0 {
                return;
            }
            reduction.delivered += delivered as f64;
            let threshold = self.cubic.threshold();
            let send = if in_flight > threshold {
                (reduction.delivered * threshold / reduction.before).ceil() - reduction.sent
            } else {
                let catch_up = (reduction.delivered - reduction.sent).max(delivered as f64) + 1.0;
                catch_up.min(threshold - in_flight)
            };
            let first = if reduction.sent == 0.0 { 1.0 } else { 0.0 };
            self.cubic.set_window(in_flight + send.max(first));
            return;
        }
        let Some(least) = self.rtt.least() else { return };
        if let Some(rtt) = rtt {
            let round = Round { acknowledged: self.board.first(), next: self.board.next() };
            self.cubic.on_rtt(rtt, round, now);
        }
        if limited && delivered > 0 {
            self.cubic.on_ack(delivered as f64, least, now);
        }
    }

    /// Takes a reduction back if it turns out that nothing was lost: the acknowledgement echoes a packet older than the
    /// first retransmission, and none is under way that may be what it answers (as Linux does it), or every retransmission arrived as a duplicate.
    fn check_undo(&mut self, advanced: bool, duplicate: bool, echo: u32) {
        let (Phase::Recovery(episode, _) | Phase::Loss(episode)) = &mut self.phase else { return };
        let Some(first_serial) = episode.first_serial else { return };
        episode.unproven -= i64::from(duplicate);
        let original = advanced && echo != 0 && echo < first_serial && !self.board.has_again();
        if original || episode.unproven == 0 {
            self.counters.undone += 1;
            self.cubic.on_spurious_loss();
            self.phase = Phase::Open;
        }
    }

    fn on_probe_answer(&mut self, duplicate: bool) {
        let Some(until) = self.probing else { return };
        if duplicate || self.board.first() >= until {
            self.probing = None;
        }
    }

    fn on_retransmit_timeout(&mut self, now: Timestamp) {
        if self.board.outstanding() == 0 {
            return;
        }
        self.counters.timeouts += 1;
        self.backoff += 1;
        if !matches!(self.phase, Phase::Loss(_)) {
            self.cubic.on_loss();
            self.counters.reductions += 1;
        }
        self.board.on_timeout();
        self.cubic.set_window(1.0);
        (self.probing, self.reordering_timer) = (None, None);
        self.phase = Phase::Loss(Episode { until: self.board.next(), first_serial: None, unproven: 0 });
        self.timer = Some((now + self.rtt.timeout(self.backoff), Timer::Retransmit));
    }

    fn arm(&mut self, now: Timestamp) {
        let quiet = self.phase == Phase::Open && !self.board.has_sacked() && self.probing.is_none();
        let probe = self.rtt.probe_timeout(self.board.outstanding()).filter(|_| quiet && self.backoff == 0);
        self.timer = Some(match probe {
            Some(span) => (now + span, Timer::Probe),
            None => (now + self.rtt.timeout(self.backoff), Timer::Retransmit),
        });
    }
}
