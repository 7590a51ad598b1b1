//! A small fluid model of links and sockets: rates are shared max-min, queues grow where more is wanted than
//! passes, probes and connects take a round trip. Steps of 10 ms; no packets.

use core::time::Duration;
use std::collections::BTreeMap;

use bondwire_units::{LinkId, Timestamp};

use crate::{
    Balancer, Config, ConnectFailure, Event, KernelPlan, LinkConfig, LinkState, Placement, ProbeId, Refusal,
    Request, SocketId, Transport,
};

pub(super) const STEP: Duration = Duration::from_millis(10);
const COUNTERS_EVERY: u64 = 10;
const BYTES_EVERY: u64 = 50;
/// What a link's queue holds, in seconds of its rate.
const QUEUE: f64 = 0.1;

/// Numbers from a seed (xorshift*).
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }

    pub(super) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// How a socket's sender behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Sender {
    /// Takes what there is, leaves one round trip of queue.
    Bbr,
    /// Is slowed by loss (Mathis et al. 1997: 1.22 packets / (RTT √p)), and fills the queue.
    Cubic,
    /// Sends this much at most, in bits per second.
    Limited(f64),
}

/// One link.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) down: f64,
    pub(super) up: f64,
    /// One way, in seconds.
    pub(super) delay: f64,
    pub(super) jitter: f64,
    pub(super) loss: f64,
    pub(super) alive: bool,
    pub(super) since: Timestamp,
    pub(super) received: u64,
    pub(super) sent: u64,
    queue: f64,
}

impl Line {
    /// Rates in Mbit/s, one-way delay in milliseconds.
    pub(super) fn new(down: f64, up: f64, delay: f64) -> Self {
        Self {
            down: down * 1e6,
            up: up * 1e6,
            delay: delay / 1e3,
            jitter: 0.0,
            loss: 0.0,
            alive: true,
            since: Timestamp::ZERO,
            received: 0,
            sent: 0,
            queue: 0.0,
        }
    }

    pub(super) fn lossy(mut self, loss: f64, jitter: f64) -> Self {
        (self.loss, self.jitter) = (loss, jitter / 1e3);
        self
    }

    fn rtt(&self, dice: &mut Dice) -> f64 {
        2.0 * self.delay + self.queue + self.jitter * (dice.unit() + dice.unit() - 1.0)
    }
}

/// One socket of an application.
#[derive(Clone, Debug)]
pub(super) struct Download {
    pub(super) id: SocketId,
    pub(super) line: usize,
    pub(super) sender: Sender,
    /// Bits to go.
    left: f64,
    pub(super) received: f64,
    /// What it may send by now, in bits per second: slow start.
    allowed: f64,
    /// When the connect is answered, per link tried; none: never.
    answers: Vec<(usize, Option<Timestamp>, Timestamp)>,
    patience: Option<Timestamp>,
    pub(super) is_connected: bool,
    pub(super) opened: Timestamp,
    pub(super) connected: Option<Timestamp>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct World {
    pub(super) balancer: Balancer,
    pub(super) now: Timestamp,
    pub(super) lines: Vec<Line>,
    pub(super) downloads: Vec<Download>,
    /// Bits received in all.
    pub(super) goodput: f64,
    pub(super) finished: u64,
    pub(super) events: Vec<(Timestamp, Event)>,
    pub(super) dead_targets: usize,
    pub(super) dice: Dice,
    pub(super) placed: Vec<u64>,
    probes: BTreeMap<(Timestamp, u64), Duration>,
    step: u64,
    sequence: Vec<LinkId>,
    turn: usize,
}

impl World {
    pub(super) fn new(lines: Vec<Line>, config: Config, seed: u64) -> Self {
        let mut balancer = Balancer::new(config, seed);
        for line in 0..lines.len() {
            assert!(balancer.set_link(LinkConfig::new(link(line), &format!("wan{line}")), Timestamp::ZERO));
        }
        Self::with(balancer, lines, seed)
    }

    pub(super) fn with(balancer: Balancer, lines: Vec<Line>, seed: u64) -> Self {
        Self {
            balancer,
            now: Timestamp::ZERO,
            placed: vec![0; lines.len()],
            lines,
            downloads: Vec::new(),
            goodput: 0.0,
            finished: 0,
            events: Vec::new(),
            dead_targets: 0,
            dice: Dice::new(seed),
            probes: BTreeMap::new(),
            step: 0,
            sequence: Vec::new(),
            turn: 0,
        }
    }

    pub(super) fn sum(&self) -> f64 {
        self.lines.iter().map(|line| line.down).sum()
    }

    /// Opens a download of `megabytes` by a proxy.
    pub(super) fn download(
        &mut self,
        request: &Request<'_>,
        megabytes: f64,
        sender: Sender,
    ) -> Result<Placement, Refusal> {
        let placement = self.balancer.open(request, self.now)?;
        let line = index(placement.link.expect("no rule bypasses here"));
        self.placed[line] += 1;
        let mut download = Download {
            id: placement.socket,
            line,
            sender,
            left: megabytes * 8e6,
            received: 0.0,
            allowed: 0.0,
            answers: Vec::new(),
            patience: Some(self.now + placement.patience),
            is_connected: false,
            opened: self.now,
            connected: None,
        };
        self.connect(&mut download, line);
        self.downloads.push(download);
        Ok(placement)
    }

    /// The same, with the link taken from the kernel's plan.
    pub(super) fn download_by_kernel(
        &mut self,
        request: &Request<'_>,
        line: usize,
        megabytes: f64,
        sender: Sender,
    ) {
        let id = self.balancer.adopt(request, Some(link(line)), self.now);
        self.placed[line] += 1;
        let mut download = Download {
            id,
            line,
            sender,
            left: megabytes * 8e6,
            received: 0.0,
            allowed: 0.0,
            answers: Vec::new(),
            patience: None,
            is_connected: false,
            opened: self.now,
            connected: None,
        };
        self.connect(&mut download, line);
        self.downloads.push(download);
    }

    fn connect(&mut self, download: &mut Download, line: usize) {
        self.balancer.handle_connecting(download.id, link(line), self.now);
        let lost = !self.lines[line].alive || self.dice.unit() < self.lines[line].loss;
        self.lines[line].sent += 60;
        let rtt = Duration::from_secs_f64(self.lines[line].rtt(&mut self.dice).max(0.001));
        // A lost SYN is repeated after a second.
        let answer = match (self.lines[line].alive, lost) {
            (false, _) => None,
            (true, true) => Some(self.now + rtt + Duration::from_secs(1)),
            (true, false) => Some(self.now + rtt),
        };
        download.answers.push((line, answer, self.now));
    }

    pub(super) fn set_alive(&mut self, line: usize, alive: bool) {
        self.lines[line].alive = alive;
        self.lines[line].since = self.now;
    }

    pub(super) fn state(&self, line: usize) -> LinkState {
        let snapshot = self.balancer.snapshot(self.now);
        let status = snapshot.links.iter().find(|status| status.link == link(line));
        status.map_or(LinkState::Failed, |status| status.state)
    }

    /// When the link entered `state` first, after `from`.
    pub(super) fn entered(&self, line: usize, state: LinkState, from: Timestamp) -> Option<Timestamp> {
        self.events.iter().find_map(|&(at, event)| match event {
            Event::LinkState { link: id, to, .. } if id == link(line) && to == state && at >= from => {
                Some(at)
            }
            _ => None,
        })
    }

    pub(super) fn run(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            self.step();
        }
    }

    pub(super) fn step(&mut self) {
        self.now += STEP;
        self.step += 1;
        self.move_probes();
        self.move_connects();
        for line in 0..self.lines.len() {
            self.pass(line);
        }
        if self.step.is_multiple_of(COUNTERS_EVERY) {
            for line in 0..self.lines.len() {
                let Line { received, sent, .. } = self.lines[line];
                self.balancer.handle_link_counters(link(line), received, sent, self.now);
            }
        }
        if self.step.is_multiple_of(BYTES_EVERY) {
            for Download { id, received, .. } in
                self.downloads.iter().filter(|download| download.is_connected)
            {
                self.balancer.handle_bytes(*id, 500, (*received / 8.0) as u64, self.now);
            }
        }
        self.finish();
        if self.balancer.poll_timeout().is_some_and(|deadline| deadline.at <= self.now) {
            self.balancer.handle_timeout(self.now);
        }
        while let Some(event) = self.balancer.poll_event() {
            self.on_event(event);
        }
    }

    fn on_event(&mut self, event: Event) {
        self.events.push((self.now, event));
        if event == Event::PlanChanged {
            self.take_plan();
        }
        if let Event::Evict { link } = event {
            // Applications see an error, and what they do then is up to the test.
            let (now, balancer) = (self.now, &mut self.balancer);
            self.downloads.retain(|download| {
                let stays = download.line != index(link) || !download.is_connected;
                if !stays {
                    balancer.handle_closed(download.id, now);
                }
                stays
            });
        }
    }

    fn move_probes(&mut self) {
        while let Some(probe) = self.balancer.poll_probe(self.now) {
            let line = index(probe.link);
            self.lines[line].sent += 84;
            let target_lives = match probe.target.address.ip() {
                core::net::IpAddr::V4(v4) => usize::from(v4.octets()[3]) > self.dead_targets,
                core::net::IpAddr::V6(_) => true,
            };
            if self.lines[line].alive && target_lives && self.dice.unit() >= 2.0 * self.lines[line].loss {
                let rtt = Duration::from_secs_f64(self.lines[line].rtt(&mut self.dice).max(0.001));
                self.probes.insert((self.now + rtt, probe.id.0), rtt);
            }
        }
        while let Some((&(at, id), &rtt)) =
            self.probes.first_key_value().filter(|((at, _), _)| *at <= self.now)
        {
            self.probes.remove(&(at, id));
            self.balancer.handle_probe_answer(ProbeId(id), rtt, self.now);
        }
    }

    fn move_connects(&mut self) {
        let mut downloads = core::mem::take(&mut self.downloads);
        for download in downloads.iter_mut().filter(|download| !download.is_connected) {
            let now = self.now;
            let answered = |(line, answer, started): &(usize, Option<Timestamp>, Timestamp)| {
                answer.filter(|&at| at <= now).map(|_| (*line, *started))
            };
            if let Some((line, started)) = download.answers.iter().find_map(answered)
                && self.lines[line].alive
            {
                for &(other, ..) in download.answers.iter().filter(|answer| answer.0 != line) {
                    self.balancer.handle_connect_failed(
                        download.id,
                        link(other),
                        ConnectFailure::LostRace,
                        now,
                    );
                }
                self.balancer.handle_connected(download.id, link(line), now.since(started), now);
                download.line = line;
                download.is_connected = true;
                download.connected = Some(now);
                download.allowed = 10.0 * 12e3 / self.lines[line].rtt(&mut self.dice).max(0.001);
            } else if download.patience.is_some_and(|at| at <= now) {
                let next = self.balancer.next_link(download.id, now);
                download.patience = next.map(|next| now + next.patience);
                if let Some(next) = next {
                    let line = index(next.link.expect("a race has links"));
                    self.connect(download, line);
                }
            }
        }
        self.downloads = downloads;
    }

    /// One link carries for one step.
    fn pass(&mut self, line: usize) {
        let Self { lines, downloads, dice, goodput, .. } = self;
        let line_now = &mut lines[line];
        let seconds = STEP.as_secs_f64();
        let rtt = line_now.rtt(dice).max(0.001);
        let mut wants: Vec<(usize, f64)> = Vec::new();
        let mut wanted_queue = 0.0_f64;
        for (at, download) in downloads.iter_mut().enumerate() {
            if download.line != line || !download.is_connected || download.left <= 0.0 {
                continue;
            }
            download.allowed = (download.allowed * 2.0_f64.powf(seconds / rtt)).min(1e10);
            let most = match download.sender {
                Sender::Bbr => f64::INFINITY,
                Sender::Cubic if line_now.loss > 0.0 => 1.22 * 12e3 / (rtt * line_now.loss.sqrt()),
                Sender::Cubic => f64::INFINITY,
                Sender::Limited(rate) => rate,
            };
            wanted_queue = wanted_queue.max(match download.sender {
                Sender::Bbr => (2.0 * line_now.delay).min(QUEUE),
                Sender::Cubic => QUEUE,
                Sender::Limited(_) => 0.0,
            });
            let window = download.left / seconds;
            wants.push((at, download.allowed.min(most).min(window)));
        }
        if !line_now.alive {
            return;
        }
        let total: f64 = wants.iter().map(|&(_, want)| want).sum();
        let is_over = total > line_now.down * 1.001;
        let goal = if is_over { wanted_queue } else { 0.0 };
        line_now.queue += (goal - line_now.queue) * (seconds / 0.1).min(1.0);
        wants.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (mut room, mut count) = (line_now.down, wants.len() as f64);
        for (at, want) in wants {
            let share = want.min(room / count);
            room -= share;
            count -= 1.0;
            let bits = share * seconds;
            let download = &mut downloads[at];
            download.left -= bits;
            download.received += bits;
            // A window grows no further than what passes twice over.
            download.allowed = download.allowed.min(share * 2.5 + 1e5);
            *goodput += bits;
            line_now.received += (bits / 8.0) as u64;
            line_now.sent += (bits.min(line_now.up * seconds) / 8.0 / 40.0) as u64;
        }
    }

    fn finish(&mut self) {
        let (now, balancer) = (self.now, &mut self.balancer);
        let before = self.downloads.len();
        self.downloads.retain(|download| {
            let is_done = download.is_connected && download.left < 1.0;
            if is_done {
                balancer.handle_bytes(download.id, 500, (download.received / 8.0) as u64, now);
                balancer.handle_closed(download.id, now);
            }
            !is_done
        });
        self.finished += (before - self.downloads.len()) as u64;
    }

    /// Keeps `count` downloads from port 80 of one host going, each of `megabytes`.
    pub(super) fn keep(&mut self, count: usize, megabytes: f64, sender: Sender, span: Duration) -> f64 {
        let (end, before) = (self.now + span, self.goodput);
        while self.now < end {
            while self.downloads.len() < count {
                let placed = self.download(&web(80), megabytes, sender);
                assert!(placed.is_ok(), "{placed:?}");
            }
            self.step();
        }
        (self.goodput - before) / span.as_secs_f64()
    }
}

impl World {
    /// The same, with links taken from the kernel's plan in sequence.
    pub(super) fn keep_by_plan(
        &mut self,
        count: usize,
        megabytes: f64,
        sender: Sender,
        span: Duration,
    ) -> f64 {
        let (end, before) = (self.now + span, self.goodput);
        while self.now < end {
            while self.downloads.len() < count {
                if self.sequence.is_empty() {
                    self.take_plan();
                }
                let line = index(self.sequence[self.turn % 64]);
                self.turn += 1;
                self.download_by_kernel(&web(80), line, megabytes, sender);
            }
            self.step();
        }
        (self.goodput - before) / span.as_secs_f64()
    }

    /// As late as the kernel hears of it.
    fn take_plan(&mut self) {
        self.sequence = KernelPlan::sequence(&self.balancer.plan(self.now).bulk, 64);
    }
}

pub(super) fn link(line: usize) -> LinkId {
    LinkId(line as u32 + 1)
}

pub(super) fn index(link: LinkId) -> usize {
    link.0 as usize - 1
}

/// A TCP socket to `port` of one host.
pub(super) fn web(port: u16) -> Request<'static> {
    Request::new(Transport::Tcp, ([198, 51, 100, 7], port).into())
}

/// A TCP socket to `port` of host `n`.
pub(super) fn host(n: u32, port: u16) -> Request<'static> {
    let [a, b, c, _] = n.to_be_bytes();
    Request::new(Transport::Tcp, ([10 + (a & 7), b, c, n as u8], port).into())
}

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
