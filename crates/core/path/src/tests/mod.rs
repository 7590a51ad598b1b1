//! Closed loops in virtual time: a path, an emulated link, and the path at its other end.

mod capacity;
mod changes;
mod company;
mod health;
mod reordering;

use bondwire_netem::{Pipe, PipeConfig};
use bondwire_units::{Bitrate, Timestamp};
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::{AckInfo, Path, PathConfig, PathState, ProbeKind};

/// An ACK on its way.
#[derive(Clone, Debug)]
struct AckMessage {
    largest: u64,
    delay: Duration,
    received_at_micros: u32,
    ranges: Vec<RangeInclusive<u64>>,
}

/// What the application offers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Source {
    Greedy,
    /// Full packets at this rate.
    Paced(Bitrate),
    Silent,
}

/// One look at the loop, every ten milliseconds.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Timestamp,
    /// Bytes that arrived so far.
    arrived: u64,
    /// What waits at the bottleneck, in milliseconds of the link's rate.
    queue: f64,
    estimate: f64,
}

/// How far the receiver's clock is ahead, in microseconds: close to the wrap.
const CLOCK_OFFSET: u32 = u32::MAX - 3_000_000;

struct Loop {
    now: Timestamp,
    sender: Path<u64>,
    receiver: Path<()>,
    out: Pipe<(u64, usize, bool)>,
    back: Pipe<AckMessage>,
    source: Source,
    credit: f64,
    credited: Timestamp,
    looks: Vec<Look>,
    arrived: u64,
    sent: u64,
    acked: u64,
    lost: u64,
    taken: u64,
    states: Vec<(Timestamp, PathState)>,
    trace: bool,
    cross: Option<company::Cubic>,
}

fn at(ms: u64) -> Timestamp {
    Timestamp::from_millis(ms)
}

fn link(mbps: f64, delay: u64, jitter: u64, loss: f64) -> PipeConfig {
    PipeConfig {
        rate: Some(Bitrate::from_mbps(mbps)),
        delay: Duration::from_millis(delay),
        jitter: Duration::from_millis(jitter),
        loss,
        ..PipeConfig::default()
    }
}

impl Loop {
    /// A validated path over `out`, with ACKs over a link with a quarter of the rate.
    fn new(out: PipeConfig, seed: u64) -> Self {
        let back = PipeConfig {
            rate: out.rate.map(|rate| (rate * 0.25).max(Bitrate::from_mbps(2.0))),
            loss: out.loss,
            delay: out.delay,
            jitter: out.jitter,
            ..PipeConfig::default()
        };
        Self::with_back(out, back, seed)
    }

    fn with_back(out: PipeConfig, back: PipeConfig, seed: u64) -> Self {
        let now = Timestamp::ZERO;
        let config = PathConfig { seed, ..PathConfig::default() };
        let mut sender = Path::new(config, now);
        sender.on_validated(now);
        Self {
            now,
            sender,
            receiver: Path::new(config, now),
            out: Pipe::new(out, seed),
            back: Pipe::new(back, seed ^ 77),
            source: Source::Greedy,
            credit: 0.0,
            credited: now,
            looks: Vec::new(),
            arrived: 0,
            sent: 0,
            acked: 0,
            lost: 0,
            taken: 0,
            states: vec![(now, PathState::Active)],
            cross: None,
            trace: std::env::var("BONDWIRE_TRACE").is_ok(),
        }
    }

    fn set_rate(&mut self, mbps: f64) {
        let mut config = self.out.config().clone();
        config.rate = Some(Bitrate::from_mbps(mbps));
        self.out.set_config(config, self.now);
    }

    fn set_up(&mut self, up: bool) {
        self.out.set_up(up, self.now);
        self.back.set_up(up, self.now);
    }

    fn set_source(&mut self, source: Source) {
        self.source = source;
        self.credit = 0.0;
        self.credited = self.now;
    }

    fn run_until(&mut self, end: Timestamp) {
        let mut next_look = self.now;
        loop {
            self.step();
            if self.now >= next_look {
                self.look();
                next_look = self.now + Duration::from_millis(10);
            }
            let next = self.next_event().min(next_look).max(self.now + Duration::from_micros(1));
            if next >= end {
                self.now = end;
                return;
            }
            self.now = next;
        }
    }

    fn next_event(&self) -> Timestamp {
        let offered = match self.source {
            Source::Greedy => Some(Timestamp::ZERO),
            Source::Silent => None,
            Source::Paced(rate) => {
                let missing = (1_400.0 - self.credit).max(0.0) * 8.0 / rate.as_bps() as f64;
                Some(self.credited + Duration::from_secs_f64(missing))
            }
        };
        let send = self.sender.poll_send_time(self.now).and_then(|at| offered.map(|o| o.max(at)));
        [
            send,
            self.out.poll_deadline(),
            self.back.poll_deadline(),
            self.sender.poll_deadline().map(|deadline| deadline.at),
            self.receiver.ack_deadline(),
            self.cross.as_ref().and_then(company::Cubic::next_event),
        ]
        .into_iter()
        .flatten()
        .min()
        .unwrap_or(Timestamp::MAX)
    }

    fn step(&mut self) {
        self.deliver();
        if let Some(cross) = &mut self.cross {
            cross.run(&mut self.out, self.now);
        }
        self.acknowledge();
        let mut lost = Vec::new();
        self.sender.handle_timeout(&mut lost, self.now);
        self.lost += lost.len() as u64;
        self.note_state();
        if self.sender.state() != PathState::Active && self.sender.in_flight() > 0 && self.taken < u64::MAX {
            let mut taken = Vec::new();
            if self.states.last().is_some_and(|&(since, _)| since == self.now) {
                self.sender.take_in_flight(&mut taken, self.now);
            }
            self.taken += taken.len() as u64;
        }
        self.probe();
        self.offer();
    }

    fn deliver(&mut self) {
        while let Some((number, size, eliciting)) = self.out.poll_packet(self.now) {
            if let (Some(cross), Some(number)) = (&mut self.cross, number.checked_sub(company::NUMBERS)) {
                cross.on_arrival(number, self.now);
                continue;
            }
            self.arrived += size as u64;
            self.receiver.on_packet_received(number, eliciting, Duration::ZERO, self.now);
            self.reply();
        }
        self.reply();
    }

    fn reply(&mut self) {
        if !self.receiver.ack_due(self.now) {
            return;
        }
        if let Some(ack) = self.receiver.build_ack(self.now) {
            let size = 28 + 26 + 12 + ack.ranges.len() * 3;
            let message = AckMessage {
                largest: ack.largest,
                delay: ack.delay,
                received_at_micros: ack.received_at_micros.wrapping_add(CLOCK_OFFSET),
                ranges: ack.ranges.to_vec(),
            };
            self.back.handle_packet(message, size, self.now);
        }
    }

    fn acknowledge(&mut self) {
        while let Some(ack) = self.back.poll_packet(self.now) {
            let info = AckInfo {
                largest: ack.largest,
                delay: ack.delay,
                received_at_micros: ack.received_at_micros,
                waited: Duration::ZERO,
                ranges: ack.ranges,
            };
            let (mut acked, mut lost) = (Vec::new(), Vec::new());
            self.sender.handle_ack(info, true, &mut acked, &mut lost, self.now).unwrap();
            self.acked += acked.len() as u64;
            self.lost += lost.len() as u64;
            self.note_state();
        }
    }

    fn note_state(&mut self) {
        let state = self.sender.state();
        if self.states.last().is_none_or(|&(_, last)| last != state) {
            self.states.push((self.now, state));
        }
    }

    fn transmit(&mut self, size: usize) {
        let number = self.sender.on_packet_sent(size, true, self.sent, self.now);
        self.sent += 1;
        self.out.handle_packet((number, size, true), size, self.now);
    }

    fn probe(&mut self) {
        match self.sender.probe_due(self.now) {
            Some(ProbeKind::Ping) => self.transmit(55),
            Some(ProbeKind::Mtu(mtu)) => {
                let number = self.sender.on_mtu_probe_sent(mtu, self.sent, self.now);
                self.sent += 1;
                self.out.handle_packet((number, mtu + 28, true), mtu + 28, self.now);
            }
            None => {}
        }
    }

    fn offer(&mut self) {
        let size = self.sender.mtu() + 28;
        if let Source::Paced(rate) = self.source {
            let gained = rate.as_bps() as f64 / 8.0 * self.now.since(self.credited).as_secs_f64();
            self.credit = (self.credit + gained).min(20_000.0);
            self.credited = self.now;
        }
        loop {
            let wanted = match self.source {
                Source::Greedy => true,
                Source::Paced(_) => self.credit >= 1_400.0,
                Source::Silent => false,
            };
            if !wanted {
                self.sender.set_app_limited(self.now);
                return;
            }
            if self.sender.send_budget(self.now) == 0 {
                return;
            }
            self.credit -= size as f64;
            self.transmit(size);
        }
    }

    fn look(&mut self) {
        let rate = self.out.config().rate.unwrap();
        let look = Look {
            at: self.now,
            arrived: self.arrived,
            queue: self.out.queued().get() as f64 * 8e3 / rate.as_bps().max(1) as f64,
            estimate: self.sender.delivery_rate().as_mbps(),
        };
        if self.trace {
            eprintln!(
                "{} {:>11} est {:6.2} pace {:6.2} win {:7} fl {:7} q {:5.1} st {:?} jit {:?} rtt {:?} loss {:.3}",
                self.now,
                self.sender.phase(),
                look.estimate,
                self.sender.pacing_rate().as_mbps(),
                self.sender.window(),
                self.sender.in_flight(),
                look.queue,
                self.sender.one_way_delay().standing_queue(),
                self.sender.one_way_delay().jitter(),
                self.sender.rtt().smoothed(),
                self.sender.loss(),
            );
        }
        self.looks.push(look);
    }

    fn between(&self, from: Timestamp, to: Timestamp) -> &[Look] {
        let start = self.looks.partition_point(|look| look.at < from);
        let end = self.looks.partition_point(|look| look.at <= to);
        &self.looks[start..end]
    }

    /// Arrived Mbit/s between two times.
    fn goodput(&self, from: Timestamp, to: Timestamp) -> f64 {
        let looks = self.between(from, to);
        let (first, last) = (looks.first().unwrap(), looks.last().unwrap());
        (last.arrived - first.arrived) as f64 * 8.0 / last.at.since(first.at).as_secs_f64() / 1e6
    }

    /// Mean and 95th percentile of the queue, in milliseconds.
    fn queue(&self, from: Timestamp, to: Timestamp) -> (f64, f64) {
        let mut queues: Vec<f64> = self.between(from, to).iter().map(|look| look.queue).collect();
        queues.sort_by(f64::total_cmp);
        let mean = queues.iter().sum::<f64>() / queues.len() as f64;
        (mean, queues[queues.len() * 95 / 100])
    }

    /// When the arrival rate over `window` first exceeds `mbps` after `from`.
    fn reaches(&self, mbps: f64, window: Duration, from: Timestamp) -> Option<Duration> {
        let looks = self.between(from, Timestamp::MAX);
        looks.iter().enumerate().find_map(|(i, first)| {
            let last = looks[i..].iter().find(|look| look.at >= first.at + window)?;
            let rate =
                (last.arrived - first.arrived) as f64 * 8.0 / last.at.since(first.at).as_secs_f64() / 1e6;
            (rate >= mbps).then(|| last.at.since(from))
        })
    }

    /// Nothing is lost from the books: sent = acknowledged + lost + taken + in flight.
    fn assert_conserved(&mut self) {
        let mut left = Vec::new();
        self.sender.take_in_flight(&mut left, self.now);
        assert_eq!(self.sent, self.acked + self.lost + self.taken + left.len() as u64);
        assert_eq!(self.sender.in_flight(), 0);
    }
}
