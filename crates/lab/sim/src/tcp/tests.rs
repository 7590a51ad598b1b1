use bondwire_netem::{Burst, Pipe, PipeConfig};
use bondwire_units::{Bitrate, ByteCount};

use super::*;
use crate::packet::TCP;

const MS: Duration = Duration::from_millis(1);

fn addresses() -> Addresses {
    Addresses {
        protocol: TCP,
        source: "10.0.0.1:5000".parse().unwrap(),
        destination: "10.0.0.2:80".parse().unwrap(),
    }
}

/// One connection over two pipes; data flows with the first.
struct Run {
    sender: Endpoint,
    receiver: Endpoint,
    there: Pipe<Vec<u8>>,
    back: Pipe<Vec<u8>>,
    now: Timestamp,
}

impl Run {
    fn new(there: PipeConfig, back: PipeConfig, config: TcpConfig, caller_sends: bool, seed: u64) -> Self {
        let (sender, receiver) = if caller_sends {
            let sender = Endpoint::caller(addresses(), true, config, Timestamp::ZERO);
            (sender, Endpoint::listener(addresses().reversed(), false, config))
        } else {
            let receiver = Endpoint::caller(addresses().reversed(), false, config, Timestamp::ZERO);
            (Endpoint::listener(addresses(), true, config), receiver)
        };
        let (there, back) = (Pipe::new(there, seed), Pipe::new(back, seed + 1));
        Self { sender, receiver, there, back, now: Timestamp::ZERO }
    }

    fn until(&mut self, end: Timestamp) {
        loop {
            self.exchange();
            let deadlines = [
                self.sender.poll_deadline(),
                self.receiver.poll_deadline(),
                self.there.poll_deadline(),
                self.back.poll_deadline(),
            ];
            match deadlines.into_iter().flatten().min() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
        }
        self.now = end;
    }

    fn exchange(&mut self) {
        let now = self.now;
        self.sender.handle_timeout(now);
        self.receiver.handle_timeout(now);
        while let Some(packet) = self.there.poll_packet(now) {
            self.receiver.handle_packet(&packet, now);
        }
        while let Some(packet) = self.back.poll_packet(now) {
            self.sender.handle_packet(&packet, now);
        }
        while let Some(packet) = self.sender.poll_packet(now) {
            let size = packet.len();
            self.there.handle_packet(packet, size, now);
        }
        while let Some(packet) = self.receiver.poll_packet(now) {
            let size = packet.len();
            self.back.handle_packet(packet, size, now);
        }
    }
}

fn link(rate: f64, delay: Duration) -> PipeConfig {
    PipeConfig { rate: Some(Bitrate::from_mbps(rate)), delay, ..PipeConfig::default() }
}

/// Goodput over the last 2/3 of 12 s, as a share of the rate.
fn goodput(there: PipeConfig, back: PipeConfig) -> (f64, SenderCounters) {
    let rate = there.rate.unwrap();
    let mut run = Run::new(there, back, TcpConfig::default(), false, 3);
    run.until(Timestamp::from_millis(4_000));
    let before = run.receiver.progress().bytes;
    run.until(Timestamp::from_millis(12_000));
    let bytes = ByteCount::new(run.receiver.progress().bytes - before);
    let share = Bitrate::from_bytes_over(bytes, Duration::from_secs(8)).as_mbps() / rate.as_mbps();
    (share, run.sender.counters())
}

/// 1448 / 1500 = 0.965 is the limit; a kernel reaches 0.95 to 0.96 of such a link.
#[test]
fn fills_a_link_of_twin() {
    let (share, counters) = goodput(link(50.0, 10 * MS), link(50.0, 10 * MS));
    assert!((0.94..0.966).contains(&share), "{share} {counters:?}");
    assert_eq!(counters.timeouts, 0);
}

#[test]
fn fills_other_clean_links() {
    for (rate, delay) in [(10.0, 40 * MS), (100.0, 5 * MS), (300.0, 5 * MS), (5.0, 100 * MS)] {
        let (share, counters) = goodput(link(rate, delay), link(rate, delay));
        assert!((0.90..0.966).contains(&share), "{rate} {delay:?}: {share} {counters:?}");
    }
}

/// The shares that the kernel reaches on one link of `event` and `road` alone, by the response function of CUBIC at
/// these loss rates: a few percent of the rate.
#[test]
fn suffers_from_random_loss_as_it_should() {
    let lossy = PipeConfig { loss: 0.01, jitter: 10 * MS, ..link(15.0, 40 * MS) };
    let (share, counters) = goodput(lossy.clone(), lossy);
    assert!((0.05..0.2).contains(&share), "{share} {counters:?}");
    let burst = Some(Burst { p: 0.001, r: 0.25 });
    let bursty = PipeConfig { burst, jitter: 10 * MS, ..link(120.0, 25 * MS) };
    let (share, counters) = goodput(bursty.clone(), bursty);
    assert!((0.04..0.3).contains(&share), "{share} {counters:?}");
}

#[test]
fn a_transfer_ends_whatever_happens_to_it() {
    for seed in 0..40 {
        let mut rng = bondwire_netem::Rng::new(seed);
        let mut config = || PipeConfig {
            loss: rng.unit() * 0.2,
            jitter: MS * rng.below(20) as u32,
            jitter_reorders: rng.chance(0.3),
            reorder: rng.unit() * 0.05,
            duplicate: rng.unit() * 0.05,
            ..link(5.0 + rng.unit() * 50.0, MS * rng.between(1, 100) as u32)
        };
        let (there, back) = (config(), config());
        let tcp = TcpConfig { bytes: 200_000 + seed * 1001, ..TcpConfig::default() };
        let mut run = Run::new(there, back, tcp, seed % 2 == 0, seed);
        run.until(Timestamp::from_millis(600_000));
        assert!(run.sender.is_done(), "seed {seed}: {:?}", run.sender);
        assert_eq!(run.receiver.progress().bytes, tcp.bytes, "seed {seed}");
    }
}

#[test]
fn an_outage_is_survived_by_timeouts() {
    let mut run = Run::new(link(20.0, 10 * MS), link(20.0, 10 * MS), TcpConfig::default(), true, 1);
    run.until(Timestamp::from_millis(2_000));
    run.there.set_up(false, run.now);
    run.until(Timestamp::from_millis(4_000));
    let stalled = run.receiver.progress().bytes;
    run.there.set_up(true, run.now);
    run.until(Timestamp::from_millis(8_000));
    assert!(run.receiver.progress().bytes > stalled + 2_000_000, "{:?}", run.sender.counters());
    assert!(run.sender.counters().timeouts > 1);
    let gap = run.receiver.progress().longest_gap;
    assert!((2_000 * MS..4_500 * MS).contains(&gap), "{gap:?}");
}

#[test]
fn a_small_receive_window_is_respected() {
    let config = TcpConfig { window: 64 << 10, ..TcpConfig::default() };
    let mut run = Run::new(link(100.0, 50 * MS), link(100.0, 50 * MS), config, false, 1);
    run.until(Timestamp::from_millis(5_000));
    let rate = run.receiver.progress().bytes as f64 * 8.0 / 5.0 / 1e6;
    assert!((4.5..5.3).contains(&rate), "64 KiB in 100 ms are 5.2 Mbit/s, not {rate}");
    assert_eq!(run.sender.counters().retransmitted, 0);
}

#[test]
fn positions_wrap() {
    for near in [0, 1 << 31, (1_u64 << 32) - 1, 1 << 32, 5 << 40] {
        for off in [-1000_i64, -1, 0, 1, 5_000_000] {
            let Some(at) = near.checked_add_signed(off) else { continue };
            assert_eq!(position(wire(at), near), at);
        }
    }
}

/// One link alone, measured with the kernel's TCP on an emulator in the same terms: Mbit/s down, Mbit/s up. On clean
/// links the model agrees within 10 %; a lossy one leaves a few Mbit/s to both.
#[test]
fn agrees_with_the_kernel() {
    let cases =
        [("twin", 0, 48.0, 48.0), ("home", 0, 48.6, 9.6), ("geo", 0, 29.0, 9.6), ("skew", 0, 290.0, 96.5)];
    for (profile, link, down, up) in cases {
        let scenario = bondwire_scenario::Scenario::builtin(profile).unwrap();
        let (pipe_up, pipe_down) = scenario.links[link].pipes();
        for (there, back, kernel) in [(&pipe_down, &pipe_up, down), (&pipe_up, &pipe_down, up)] {
            let (share, counters) = goodput(there.clone(), back.clone());
            let model = share * there.rate.unwrap().as_mbps();
            assert!((model / kernel - 1.0_f64).abs() < 0.1, "{profile}: {model}, not {kernel}; {counters:?}");
        }
    }
}
