//! A greedy source fills the link, and does not fill its queue.

use super::*;
use bondwire_netem::{Burst, Rng};
use bondwire_units::ByteCount;

struct Expected {
    /// Share of the link's rate that arrives.
    share: f64,
    /// Standing queue in milliseconds: mean, 95th percentile.
    queue: (f64, f64),
    /// Until 80 % of the rate arrives, in round trips plus a fixed 200 ms.
    startup_rtts: u32,
}

fn greedy(name: &str, config: PipeConfig, settle: u64, expected: &Expected) {
    for seed in [1, 2, 3] {
        let rate = config.rate.unwrap().as_mbps();
        let rtt = config.delay * 2;
        let mut run = Loop::new(config.clone(), seed);
        let end = at(settle + 12_000);
        run.run_until(end);
        let goodput = run.goodput(at(settle), end);
        let (mean, p95) = run.queue(at(settle), end);
        let startup = run.reaches(rate * 0.8, Duration::from_millis(100), Timestamp::ZERO);
        let (_, startup_queue) = run.queue(at(0), at(settle));
        let (lost, spurious) = run.sender.lost_and_spurious();
        println!(
            "{name} seed {seed}: {:.3} of {rate} Mbit/s, queue {mean:.1} ms (p95 {p95:.1}), 80 % after {startup:?} (rtt {rtt:?}), startup queue p95 {startup_queue:.0} ms, lost {lost} of {} ({spurious} spurious)",
            goodput / rate,
            run.sent
        );
        run.assert_conserved();
        assert!(goodput >= rate * expected.share, "{name} seed {seed}: {goodput:.2} of {rate} Mbit/s");
        assert!(
            mean <= expected.queue.0 && p95 <= expected.queue.1,
            "{name} seed {seed}: queue {mean:.1}, {p95:.1}"
        );
        let limit = rtt * expected.startup_rtts + Duration::from_millis(200);
        assert!(startup.is_some_and(|took| took <= limit), "{name} seed {seed}: startup {startup:?}");
        assert!(spurious <= lost / 100 + run.sent / 100, "{name} seed {seed}: {spurious} spurious");
    }
}

#[test]
fn plain() {
    greedy(
        "plain 50/10",
        link(50.0, 10, 0, 0.0),
        2_000,
        &Expected { share: 0.93, queue: (12.0, 25.0), startup_rtts: 8 },
    );
}

#[test]
fn fast_and_short() {
    greedy(
        "fast 300/5",
        link(300.0, 5, 0, 0.0),
        2_000,
        &Expected { share: 0.93, queue: (12.0, 25.0), startup_rtts: 15 },
    );
}

#[test]
fn slow() {
    greedy(
        "slow 3/20",
        link(3.0, 20, 0, 0.0),
        2_000,
        &Expected { share: 0.93, queue: (20.0, 35.0), startup_rtts: 8 },
    );
}

#[test]
fn satellite() {
    greedy(
        "satellite 25/300",
        link(25.0, 300, 0, 0.001),
        12_000,
        &Expected { share: 0.93, queue: (20.0, 45.0), startup_rtts: 8 },
    );
}

#[test]
fn bursts_and_jitter() {
    let config = PipeConfig { burst: Some(Burst { p: 0.001, r: 0.25 }), ..link(120.0, 25, 10, 0.0) };
    greedy("road 120/25±10", config, 3_000, &Expected { share: 0.90, queue: (20.0, 40.0), startup_rtts: 15 });
}

#[test]
fn jitter_and_loss() {
    greedy(
        "event 20/60±15",
        link(20.0, 60, 15, 0.02),
        3_000,
        &Expected { share: 0.90, queue: (20.0, 45.0), startup_rtts: 10 },
    );
}

#[test]
fn wild_jitter() {
    greedy(
        "wild 30/40±40",
        link(30.0, 40, 40, 0.0),
        4_000,
        &Expected { share: 0.88, queue: (30.0, 75.0), startup_rtts: 40 },
    );
}

#[test]
fn heavy_random_loss() {
    greedy(
        "lossy 20/20",
        link(20.0, 20, 0, 0.1),
        3_000,
        &Expected { share: 0.85, queue: (20.0, 40.0), startup_rtts: 15 },
    );
}

#[test]
fn poison() {
    let config = PipeConfig { queue: Some(ByteCount::new(2_000_000)), ..link(20.0, 80, 40, 0.25) };
    greedy(
        "poison 20/80±40, 25 %",
        config,
        10_000,
        &Expected { share: 0.25, queue: (60.0, 220.0), startup_rtts: 140 },
    );
}

#[test]
fn deep_queue() {
    let config = PipeConfig { queue: Some(ByteCount::new(5_000_000)), ..link(20.0, 30, 0, 0.0) };
    greedy(
        "deep 20/30, 2 s of queue",
        config,
        3_000,
        &Expected { share: 0.93, queue: (15.0, 40.0), startup_rtts: 10 },
    );
}

#[test]
fn shallow_queue() {
    let config = PipeConfig { queue: Some(ByteCount::new(30_000)), ..link(100.0, 15, 0, 0.0) };
    greedy(
        "shallow 100/15, 2.4 ms of queue",
        config,
        3_000,
        &Expected { share: 0.85, queue: (5.0, 10.0), startup_rtts: 10 },
    );
}

#[test]
fn thin_line() {
    greedy(
        "thin 0.5/40",
        link(0.5, 40, 0, 0.0),
        6_000,
        &Expected { share: 0.90, queue: (60.0, 120.0), startup_rtts: 20 },
    );
}

#[test]
fn gigabit() {
    greedy(
        "gigabit 1000/2",
        link(1_000.0, 2, 0, 0.0),
        2_000,
        &Expected { share: 0.90, queue: (12.0, 25.0), startup_rtts: 80 },
    );
}

/// Links that nobody chose.
#[test]
fn any_link() {
    let links = std::env::var("BONDWIRE_LINKS").ok().and_then(|n| n.parse().ok()).unwrap_or(16);
    for seed in 0..links {
        let mut rng = Rng::new(seed);
        let rate = 2.0 * 10_f64.powf(rng.unit() * 2.2);
        let delay = rng.between(2, 120);
        let jitter = if rng.chance(0.5) { rng.below(delay / 2 + 1).min(25) } else { 0 };
        let loss = if rng.chance(0.5) { rng.unit() * 0.03 } else { 0.0 };
        let mut run = Loop::new(link(rate, delay, jitter, loss), seed);
        if rng.chance(0.5) {
            run.set_source(Source::Paced(Bitrate::from_mbps(0.1)));
            run.run_until(at(4_000));
            run.set_source(Source::Greedy);
        }
        let start = run.now;
        let (from, to) = (start + Duration::from_secs(5), start + Duration::from_secs(15));
        run.run_until(to);
        let goodput = run.goodput(from, to) / rate;
        let (mean, p95) = run.queue(from, to);
        let startup = run.reaches(rate * 0.8, Duration::from_millis(200), start);
        println!(
            "seed {seed}: {rate:.1} Mbit/s {delay}±{jitter} ms {:.1} %: {goodput:.3}, queue {mean:.1} (p95 {p95:.1}), 80 % after {startup:?}, {} states",
            loss * 100.0,
            run.states.len()
        );
        assert_eq!(run.states.len(), 1, "seed {seed}: {:?}", run.states);
        assert!(goodput >= 0.85 * (1.0 - loss), "seed {seed}: {goodput}");
        assert!(mean <= 50.0, "seed {seed}: queue {mean}");
        run.assert_conserved();
    }
}
