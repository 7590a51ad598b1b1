//! One path put to the test: a bond over a link with one difficult trait, filled to the brim, and what becomes of the
//! link's queue, of a call beside it, and of a neighbour.
//!
//! All figures are of the direction down, over the time from `settle` to the end, and the link's queue is looked at every
//! five milliseconds.

use core::time::Duration;

use bondwire_bond::PathStatus;
use bondwire_netem::{PipeConfig, Policer, Trace};
use bondwire_scenario::{Action, Change, Event, Link, Queue, Scenario};
use bondwire_units::{Bitrate, ByteCount, Timestamp};
use bondwire_wire::Mode;

use crate::bonded::Bonded;
use crate::report;
use crate::tcp::TcpConfig;
use crate::traffic::{Direction, FlowConfig};
use crate::world::World;

const LOOK: Duration = Duration::from_millis(5);
/// What the call takes of the link, its headers included.
const CALL: Bitrate = Bitrate::from_bps(200 * 8 * (200 + 68));
const DOWN: Direction = Direction::Down;

/// A path's trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// What is difficult about it.
    pub name: String,
    /// Its links and what happens to them, counted from the first byte.
    pub scenario: Scenario,
    /// Whether one CUBIC flow fills the bond, instead of more datagrams than it takes.
    pub cubic: bool,
    /// Whether one CUBIC flow of somebody else uses the first link too.
    pub neighbour: bool,
    /// What the links deliver together.
    pub capacity: Bitrate,
    /// What a greedy source offers.
    pub offered: Bitrate,
    /// A stretch that all links share.
    pub shared: Option<PipeConfig>,
    /// From when on figures are taken.
    pub settle: Duration,
    /// How long it lasts.
    pub span: Duration,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Figures {
    /// IP bytes that the bond delivered, as a share of the capacity.
    pub share: f64,
    /// The same for the neighbour.
    pub neighbour: f64,
    /// The first link's queue, with that of the shared stretch: mean and 95th percentile.
    pub queue: (Duration, Duration),
    /// The greatest queue before `settle`.
    pub startup_queue: Duration,
    /// The delay of a flow of 200 small datagrams a second, 95th percentile; lost ones count as endless.
    pub probe: Option<Duration>,
    /// The same before anything else was sent.
    pub idle: Option<Duration>,
    /// What the sending end says of its paths at the end.
    pub paths: Vec<PathStatus>,
}

impl Trial {
    /// A greedy source over one link, 20 s, of which the first five do not count.
    pub fn new(name: impl Into<String>, link: Link) -> Self {
        let capacity = report::link_rate(&link, DOWN) * (1.0 - link.loss);
        let scenario = Scenario {
            name: "trial".into(),
            about: String::new(),
            seed: 1,
            links: vec![link],
            events: Vec::new(),
        };
        Self {
            name: name.into(),
            scenario,
            cubic: false,
            neighbour: false,
            capacity,
            offered: capacity * 1.5,
            shared: None,
            settle: Duration::from_secs(5),
            span: Duration::from_secs(20),
        }
    }

    /// Runs it.
    ///
    /// # Errors
    /// If the bond does not connect.
    pub fn run(&self) -> Result<Figures, String> {
        let quiet = Scenario { events: Vec::new(), ..self.scenario.clone() };
        let mut world = report::connected(&quiet, Mode::Speed, report::MEMORY, self.scenario.seed)?;
        if let Some(shared) = &self.shared {
            let all: Vec<usize> = (0..self.scenario.links.len()).collect();
            world.network.share(&all, shared.clone(), shared.clone(), self.scenario.seed);
        }
        world.run_for(Duration::from_millis(500));
        let probe = world.add_flow(FlowConfig::udp(DOWN, 200, 200));
        let probe = world.flow(probe).data;
        let begun = world.now();
        world.run_for(Duration::from_secs(2));
        let start = world.now();
        let mut runner = Runner { world, events: self.scenario.events.clone(), start, queues: Vec::new() };
        let mtu = runner.world.network.mtu(start).unwrap_or(1280);
        let flow = runner.world.add_flow(if self.cubic {
            FlowConfig::tcp(DOWN, mtu)
        } else {
            FlowConfig::greedy(DOWN, mtu, self.offered)
        });
        let neighbour = self.neighbour.then(|| {
            // It is there a second later, and has been told nothing.
            let tcp = TcpConfig::default();
            runner.run_until(start + Duration::from_secs(1));
            let now = runner.world.now();
            runner.world.network.add_neighbour(0, FlowConfig::Tcp { direction: DOWN, tcp }, now)
        });
        runner.run_until(start + self.settle);
        let startup_queue = runner.queues.iter().copied().max().unwrap_or_default();
        runner.queues.clear();
        let before = (runner.world.flow(flow), neighbour.map(|n| runner.world.network.neighbour(n)));
        let settled = runner.world.now();
        runner.run_until(start + self.span);
        let (span, now) = (self.span - self.settle, runner.world.now());
        let capacity = self.capacity.as_bps() as f64 - CALL.as_bps() as f64;
        let share = |rate: Bitrate| rate.as_bps() as f64 / capacity;
        let world = &mut runner.world;
        let neighbour = match (neighbour, before.1) {
            (Some(id), Some(before)) => share(world.network.neighbour(id).rate_since(&before, span)),
            _ => 0.0,
        };
        let tail = Duration::from_secs(1).min(span / 4);
        Ok(Figures {
            share: share(world.flow(flow).rate_since(&before.0, span)),
            neighbour,
            startup_queue,
            queue: mean_and_p95(&mut runner.queues),
            probe: world.ledger().delay_quantile(probe, 0.95, settled, now.saturating_sub(tail)),
            idle: world.ledger().delay_quantile(probe, 0.95, begun, start.saturating_sub(tail)),
            paths: world.network.server_status(now).map(|status| status.paths).unwrap_or_default(),
        })
    }
}

/// Runs a world step by step, with events counted from the first byte.
struct Runner {
    world: World<Bonded>,
    events: Vec<Event>,
    start: Timestamp,
    queues: Vec<Duration>,
}

impl Runner {
    fn run_until(&mut self, end: Timestamp) {
        while self.world.now() < end {
            let now = self.world.now();
            while self.events.first().is_some_and(|event| self.start + event.at <= now) {
                let event = self.events.remove(0);
                self.world.handle_event(&event);
            }
            self.world.run_until((now + LOOK).min(end));
            let own = self.world.network.queues().next().map_or(Duration::ZERO, |[_, down]| down);
            self.queues.push(own + self.world.network.shared_queue());
        }
    }
}

fn mean_and_p95(queues: &mut [Duration]) -> (Duration, Duration) {
    queues.sort_unstable();
    let mean = queues.iter().sum::<Duration>() / queues.len().max(1) as u32;
    (mean, queues.get(queues.len() * 95 / 100).copied().unwrap_or_default())
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A link of `mbps` both ways.
fn link(mbps: f64, delay: u64, jitter: u64, loss: f64) -> Link {
    Link { jitter: ms(jitter), loss, ..report::link(Bitrate::from_mbps(mbps), ms(delay)) }
}

fn change(at: u64, change: Change) -> Event {
    Event { at: ms(at), link: 0, action: Action::Change(Box::new(change)) }
}

/// All trials but those with a neighbour.
pub fn trials() -> Vec<Trial> {
    let mut all = Vec::new();
    for (mbps, delay) in [(1.0, 30), (5.0, 30), (10.0, 10), (50.0, 10), (100.0, 40), (300.0, 5), (25.0, 300)]
    {
        let seconds = if mbps > 200.0 { 10 } else { 20 };
        let trial = Trial::new(format!("clean {mbps}/{delay}"), link(mbps, delay, 0, 0.0));
        all.push(Trial { span: Duration::from_secs(seconds), ..trial });
    }
    for (mbps, delay, jitter) in
        [(3.0, 40, 10), (20.0, 20, 5), (15.0, 40, 10), (20.0, 60, 15), (100.0, 20, 8)]
    {
        all.push(Trial::new(format!("jitter {mbps}/{delay}±{jitter}"), link(mbps, delay, jitter, 0.0)));
    }
    for loss in [0.01, 0.02, 0.05] {
        all.push(Trial::new(format!("loss {loss} 20/30"), link(20.0, 30, 0, loss)));
    }
    all.push(Trial::new("jitter and loss 20/60±15 0.02", link(20.0, 60, 15, 0.02)));
    let deep = Some(Queue::Time(ms(2_000)));
    all.push(Trial::new("queue of 2 s 20/30", Link { queue: deep, ..link(20.0, 30, 0, 0.0) }));
    all.push(Trial::new("queue of 2 s 5/40±10", Link { queue: deep, ..link(5.0, 40, 10, 0.0) }));
    let shallow = Some(Queue::Time(ms(8)));
    all.push(Trial::new("queue of 8 ms 50/20", Link { queue: shallow, ..link(50.0, 20, 0, 0.0) }));
    for (name, burst) in [("20 ms", 50_000), ("200 ms", 500_000)] {
        let policer = Policer { rate: Bitrate::from_mbps(20.0), burst: ByteCount::new(burst) };
        let policed = Link { policer_down: Some(policer), ..link(100.0, 20, 0, 0.0) };
        let capacity = policer.rate;
        all.push(Trial { capacity, ..Trial::new(format!("policer 20 of 100, burst {name}"), policed) });
    }
    let thin = Link { up: Some(Bitrate::from_mbps(3.0)), ..link(25.0, 30, 0, 0.0) };
    all.push(Trial { cubic: true, ..Trial::new("thin uplink 3/25", thin) });
    all.push(Trial::new("grants 10 ms 20/30", Link { grants: ms(10), ..link(20.0, 30, 0, 0.0) }));
    all.push(shared());
    all.extend(changes());
    all
}

/// Two links of 30 Mbit/s through one stretch of 30 Mbit/s.
fn shared() -> Trial {
    let stretch = PipeConfig { rate: Some(Bitrate::from_mbps(30.0)), ..PipeConfig::default() };
    let mut trial = Trial::new("two links share 30", link(30.0, 20, 0, 0.0));
    let second = Link { name: "link1".into(), ..link(30.0, 30, 0, 0.0) };
    trial.scenario.links.push(second);
    Trial { shared: Some(stretch), ..trial }
}

fn changes() -> Vec<Trial> {
    // ±20 ms each 15 s, as when a satellite in low orbit hands over.
    let step = |(at, delay)| change(at, Change { delay: Some(ms(delay)), ..Change::default() });
    let mut leo = Trial {
        span: ms(60_000),
        ..Trial::new("handover 100/30, ±20 ms each 15 s", link(100.0, 30, 5, 0.002))
    };
    leo.scenario.events = [(10_000, 50), (25_000, 30), (40_000, 10), (55_000, 30)].map(step).to_vec();
    let rates = |mbps: f64| {
        let rate = Some(Bitrate::from_mbps(mbps));
        Change { up: rate, down: rate, ..Change::default() }
    };
    let mut halved = Trial::new("halved 40 to 20, 20 ms", link(40.0, 20, 0, 0.0));
    halved.scenario.events = vec![change(8_000, rates(20.0))];
    (halved.settle, halved.span, halved.capacity) = (ms(9_000), ms(14_000), Bitrate::from_mbps(20.0));
    let mut doubled = Trial::new("doubled 20 to 40, 20 ms", link(20.0, 20, 0, 0.0));
    doubled.scenario.events = vec![change(8_000, rates(40.0))];
    (doubled.settle, doubled.span, doubled.capacity) = (ms(10_000), ms(14_000), Bitrate::from_mbps(40.0));
    let mut halved_far = Trial::new("halved 40 to 20, 150 ms", link(40.0, 150, 0, 0.0));
    halved_far.scenario.events = vec![change(10_000, rates(20.0))];
    (halved_far.settle, halved_far.span, halved_far.capacity) =
        (ms(11_000), ms(16_000), Bitrate::from_mbps(20.0));
    let dips = Link { trace_down: Some(dips()), ..link(20.0, 30, 0, 0.0) };
    let mut dips = Trial::new("trace 20 with dips to zero for 2 s", dips);
    (dips.capacity, dips.span) = (report::link_rate(&dips.scenario.links[0], DOWN), ms(45_000));
    vec![leo, halved, halved_far, doubled, dips]
}

/// Ten seconds: 20 Mbit/s, nothing for two seconds, a ramp from 5 to 30.
fn dips() -> Trace {
    let rate_at = |millis: u32| match millis {
        0..4_000 => 20.0,
        4_000..6_000 => 0.0,
        _ => 5.0 + f64::from(millis - 6_000) / 4_000.0 * 25.0,
    };
    let (mut millis, mut bits) = (Vec::new(), 0.0);
    for at in 0..10_000 {
        bits += rate_at(at) * 1e3;
        while bits >= 12_000.0 {
            bits -= 12_000.0;
            millis.push(at + 1);
        }
    }
    Trace::from_millis(millis).expect("its times rise")
}

/// Beside one CUBIC flow of another device on the same link.
pub fn neighbours() -> Vec<Trial> {
    let mut all = Vec::new();
    for (mbps, delay, queue) in [
        (10.0, 10, 100),
        (10.0, 40, 50),
        (10.0, 40, 500),
        (10.0, 80, 2_000),
        (20.0, 30, 100),
        (20.0, 30, 1_000),
        (50.0, 10, 50),
        (50.0, 20, 200),
        (50.0, 40, 2_000),
        (100.0, 10, 100),
        (100.0, 40, 300),
        (100.0, 80, 50),
    ] {
        let shared = Link { queue: Some(Queue::Time(ms(queue))), ..link(mbps, delay, 0, 0.0) };
        let trial = Trial::new(format!("{mbps}/{delay}, queue {queue} ms"), shared);
        all.push(Trial { neighbour: true, settle: ms(10_000), span: ms(40_000), ..trial });
    }
    let jittery = Trial::new("20/40±10, queue 100 ms", link(20.0, 40, 10, 0.0));
    all.push(Trial { neighbour: true, settle: ms(10_000), span: ms(40_000), ..jittery });
    all
}

/// A table of trials, one line each.
pub fn table(trials: &[Trial]) -> String {
    let mut text = format!(
        "{:36} {:>6} {:>9} {:>12} {:>8} {:>13}\n",
        "", "share", "neighbour", "queue (p95)", "startup", "call (idle)"
    );
    for trial in trials {
        let line = match trial.run() {
            Ok(figures) => figures.row(),
            Err(why) => why,
        };
        text += &format!("{:36} {line}\n", trial.name);
    }
    text
}

impl Figures {
    fn row(&self) -> String {
        let millis = |span: Duration| span.as_secs_f64() * 1e3;
        let delay = |span: Option<Duration>| span.map_or("–".into(), |span| format!("{:.0}", millis(span)));
        let neighbour = if self.neighbour > 0.0 { format!("{:.2}", self.neighbour) } else { String::new() };
        let queue = format!("{:.0} ({:.0})", millis(self.queue.0), millis(self.queue.1));
        let call = format!("{} ({})", delay(self.probe), delay(self.idle));
        format!("{:6.2} {neighbour:>9} {queue:>12} {:8.0} {call:>13}", self.share, millis(self.startup_queue))
    }
}
