use super::*;
use crate::{Burst, Trace};
use bondwire_units::Bitrate;

const MS: Duration = Duration::from_millis(1);

/// Sends `count` packets of `size` bytes, one per `gap`; returns (number, arrival) and the pipe.
fn run(config: PipeConfig, count: u32, size: usize, gap: Duration) -> (Vec<(u32, Timestamp)>, Pipe<u32>) {
    let mut pipe = Pipe::new(config, 42);
    let mut out = Vec::new();
    let mut now = Timestamp::ZERO;
    for number in 0..count {
        drain(&mut pipe, now, &mut out);
        pipe.handle_packet(number, size, now);
        conserved(&pipe);
        now += gap;
    }
    drain(&mut pipe, now + Duration::from_secs(60), &mut out);
    conserved(&pipe);
    assert_eq!(pipe.held(), 0);
    (out, pipe)
}

/// Takes out all that is due until `until`, each at its deadline.
fn drain(pipe: &mut Pipe<u32>, until: Timestamp, out: &mut Vec<(u32, Timestamp)>) {
    while let Some(at) = pipe.poll_deadline().filter(|&at| at <= until) {
        let before = (pipe.held(), pipe.poll_deadline());
        while let Some(number) = pipe.poll_packet(at) {
            out.push((number, at));
        }
        assert_ne!((pipe.held(), pipe.poll_deadline()), before, "a deadline that leads nowhere");
    }
}

fn conserved(pipe: &Pipe<u32>) {
    let stats = pipe.stats();
    let gone = stats.packets_out + stats.dropped() + pipe.held() as u64;
    assert_eq!(stats.packets_in + stats.duplicated, gone, "{stats:?}");
}

fn mbps(rate: f64) -> Option<Bitrate> {
    Some(Bitrate::from_mbps(rate))
}

#[test]
fn nothing_set_passes_at_once() {
    let (out, _) = run(PipeConfig::default(), 100, 1500, MS);
    assert!(out.iter().all(|&(n, at)| at == Timestamp::from_millis(u64::from(n))));
    assert_eq!(out.len(), 100);
}

#[test]
fn rate_holds_within_two_percent() {
    for rate in [0.5, 10.0, 300.0] {
        let config = PipeConfig { rate: mbps(rate), ..PipeConfig::default() };
        let interval = Bitrate::from_mbps(rate * 2.0).time_for(ByteCount::new(1200));
        let (out, pipe) = run(config, 20_000, 1200, interval);
        let span = out.last().unwrap().1.since(out[0].1);
        let measured =
            Bitrate::from_bytes_over(ByteCount::new(1200 * (out.len() as u64 - 1)), span).as_mbps();
        assert!((measured / rate - 1.0).abs() < 0.02, "{measured} of {rate}");
        assert!(pipe.stats().dropped_queue > 6_000);
    }
}

#[test]
fn queue_is_drop_tail_with_its_documented_size() {
    let config = PipeConfig { rate: mbps(10.0), ..PipeConfig::default() };
    assert_eq!(config.queue_limit(), Some(ByteCount::new(125_000)));
    let slow = PipeConfig { rate: mbps(1.0), ..PipeConfig::default() };
    assert_eq!(slow.queue_limit(), Some(PipeConfig::LEAST_QUEUE));
    let (out, _) = run(slow, 100, 1500, Duration::ZERO);
    assert_eq!(out.iter().map(|&(n, _)| n).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    let chosen = PipeConfig { rate: mbps(1.0), queue: Some(ByteCount::new(4_500)), ..PipeConfig::default() };
    assert_eq!(run(chosen, 100, 1500, Duration::ZERO).0.len(), 3);
}

#[test]
fn delay_is_added_after_serialisation() {
    let config = PipeConfig { rate: mbps(12.0), delay: 20 * MS, ..PipeConfig::default() };
    let (out, _) = run(config, 2, 1500, Duration::ZERO);
    assert_eq!(out, [(0, Timestamp::from_millis(21)), (1, Timestamp::from_millis(22))]);
}

#[test]
fn jitter_is_uniform_and_keeps_order() {
    let config = PipeConfig { delay: 30 * MS, jitter: 8 * MS, ..PipeConfig::default() };
    let (out, _) = run(config, 10_000, 100, 20 * MS);
    let delays: Vec<f64> = out.iter().map(|&(n, at)| at.as_secs_f64() * 1e3 - 20.0 * f64::from(n)).collect();
    let mean = delays.iter().sum::<f64>() / 1e4;
    assert!((mean - 30.0).abs() < 0.3, "{mean}");
    assert!(delays.iter().all(|d| (21.99..=38.01).contains(d)));
    let config = PipeConfig { delay: 30 * MS, jitter: 25 * MS, ..PipeConfig::default() };
    let (out, _) = run(config.clone(), 10_000, 100, MS);
    assert!(out.is_sorted_by_key(|&(n, _)| n) && out.len() == 10_000);
    let (out, _) = run(PipeConfig { jitter_reorders: true, ..config }, 10_000, 100, MS);
    assert!(!out.is_sorted_by_key(|&(n, _)| n) && out.len() == 10_000);
}

#[test]
fn jitter_larger_than_the_delay_stays_at_zero() {
    let config = PipeConfig { delay: 2 * MS, jitter: 10 * MS, ..PipeConfig::default() };
    let (out, _) = run(config, 5_000, 100, 50 * MS);
    let late = out.iter().map(|&(n, at)| at.since(Timestamp::from_millis(50 * u64::from(n))));
    assert!(late.clone().all(|d| d <= 12 * MS));
    let at_zero = late.filter(Duration::is_zero).count();
    assert!((1_800..2_200).contains(&at_zero), "{at_zero}");
}

#[test]
fn random_loss_within_statistics() {
    let config = PipeConfig { loss: 0.02, ..PipeConfig::default() };
    let (out, pipe) = run(config, 100_000, 100, MS);
    let lost = pipe.stats().dropped_loss;
    assert!((1_800..2_200).contains(&lost), "{lost}");
    assert_eq!(out.len() as u64 + lost, 100_000);
}

#[test]
fn loss_uses_up_the_rate() {
    let config = PipeConfig { rate: mbps(12.0), loss: 0.5, ..PipeConfig::default() };
    let (out, _) = run(config, 80, 1500, Duration::ZERO);
    assert!(out.iter().all(|&(n, at)| at == Timestamp::from_millis(u64::from(n) + 1)));
    assert!(out.len() < 60);
}

#[test]
fn bursts_have_their_mean_and_length() {
    let burst = Some(Burst { p: 0.001, r: 0.25 });
    let (out, pipe) = run(PipeConfig { burst, ..PipeConfig::default() }, 1_000_000, 100, MS);
    let lost = pipe.stats().dropped_loss as f64;
    let mean = 0.001 / 0.251 * 1e6;
    assert!((lost / mean - 1.0).abs() < 0.15, "{lost} of {mean}");
    let bursts = out.windows(2).filter(|pair| pair[1].0 > pair[0].0 + 1).count() as f64;
    assert!((lost / bursts - 4.0).abs() < 0.4, "{}", lost / bursts);
}

#[test]
fn reordering_overtakes_and_loses_nothing() {
    let config = PipeConfig { delay: 20 * MS, reorder: 0.05, ..PipeConfig::default() };
    let (mut out, pipe) = run(config, 10_000, 100, MS);
    let early = out.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
    assert!((300..600).contains(&early), "{early}");
    assert!((400..600).contains(&pipe.stats().reordered));
    out.sort_unstable();
    assert!(out.iter().map(|&(n, _)| n).eq(0..10_000));
}

#[test]
fn duplicates_follow_their_original() {
    let config = PipeConfig { duplicate: 0.1, delay: MS, ..PipeConfig::default() };
    let (out, pipe) = run(config, 10_000, 100, MS);
    let twice = out.windows(2).filter(|pair| pair[1] == pair[0]).count() as u64;
    assert_eq!(twice, pipe.stats().duplicated);
    assert!((850..1_150).contains(&twice), "{twice}");
}

#[test]
fn an_outage_swallows_all() {
    let config = PipeConfig { rate: mbps(12.0), delay: 10 * MS, ..PipeConfig::default() };
    let mut pipe = Pipe::new(config, 1);
    let at = Timestamp::from_millis;
    (0..5).for_each(|n| pipe.handle_packet(n, 1500, at(0)));
    pipe.set_up(false, at(3));
    pipe.handle_packet(5, 1500, at(4));
    assert_eq!((pipe.poll_packet(at(1000)), pipe.poll_deadline()), (None, None));
    assert_eq!(pipe.stats().dropped_outage, 6);
    pipe.set_up(true, at(1000));
    pipe.handle_packet(6, 1500, at(1000));
    assert_eq!(pipe.poll_deadline(), Some(at(1011)));
    assert_eq!(pipe.poll_packet(at(1011)), Some(6));
    conserved(&pipe);
}

#[test]
fn a_trace_is_followed_and_repeats() {
    // 4 opportunities in the first 4 ms of each 100 ms: 480 kbit/s on average, in bursts.
    let trace = Trace::from_millis(vec![1, 2, 3, 4, 100]).unwrap();
    let config = PipeConfig { trace: Some(trace), ..PipeConfig::default() };
    let (out, _) = run(config.clone(), 12, 1500, Duration::ZERO);
    let times: Vec<u64> = out.iter().map(|(_, at)| at.as_micros() / 1000).collect();
    assert_eq!(times, [1, 2, 3, 4, 100, 101, 102, 103, 104, 200, 201, 202]);
    // Small packets share an opportunity, large gaps waste those that pass.
    let (out, _) = run(config.clone(), 6, 500, Duration::ZERO);
    assert!(out.iter().map(|(_, at)| at.as_micros() / 1000).eq([1, 1, 1, 2, 2, 2]));
    let (out, _) = run(config, 3, 1500, 50 * MS);
    assert!(out.iter().map(|(_, at)| at.as_micros() / 1000).eq([1, 100, 101]));
}

#[test]
fn a_change_of_rate_counts_from_its_moment() {
    let at = Timestamp::from_millis;
    let mut pipe = Pipe::new(PipeConfig { rate: mbps(1.2), ..PipeConfig::default() }, 1);
    pipe.handle_packet(0, 1500, at(0));
    pipe.handle_packet(1, 1500, at(0));
    pipe.set_config(PipeConfig { rate: mbps(12.0), ..PipeConfig::default() }, at(5));
    assert_eq!(pipe.poll_deadline(), Some(Timestamp::from_micros(5_500)));
    assert_eq!(pipe.poll_packet(Timestamp::from_micros(5_500)), Some(0));
    assert_eq!(pipe.poll_deadline(), Some(Timestamp::from_micros(6_500)));
    // A dip to zero stops the clock, and what follows starts it again.
    pipe.set_config(PipeConfig { rate: mbps(0.0), ..PipeConfig::default() }, at(6));
    assert_eq!((pipe.poll_deadline(), pipe.poll_packet(at(500))), (None, None));
    pipe.set_config(PipeConfig { rate: mbps(12.0), ..PipeConfig::default() }, at(500));
    let due = pipe.poll_deadline().unwrap();
    assert!((at(500)..=at(501)).contains(&due), "{due}");
    assert_eq!(pipe.poll_packet(at(501)), Some(1));
}

#[test]
fn late_calls_change_nothing_but_the_moment() {
    let config =
        PipeConfig { rate: mbps(8.0), delay: 5 * MS, jitter: 3 * MS, loss: 0.1, ..PipeConfig::default() };
    let mut often = Pipe::new(config.clone(), 9);
    let mut rarely = Pipe::new(config, 9);
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for step in 0..5_000 {
        let now = Timestamp::from_micros(step * 700);
        often.handle_packet(step, 1000, now);
        rarely.handle_packet(step, 1000, now);
        a.extend(core::iter::from_fn(|| often.poll_packet(now)));
    }
    let end = Timestamp::from_millis(100_000);
    a.extend(core::iter::from_fn(|| often.poll_packet(end)));
    b.extend(core::iter::from_fn(|| rarely.poll_packet(end)));
    assert_eq!(a, b);
    assert_eq!(often.stats(), rarely.stats());
}

#[test]
fn memory_is_bounded() {
    let config = PipeConfig { delay: Duration::from_secs(1000), ..PipeConfig::default() };
    let mut pipe = Pipe::new(config, 1);
    (0..MAX_PACKETS as u32 + 10).for_each(|n| pipe.handle_packet(n, 100, Timestamp::ZERO));
    assert_eq!((pipe.held(), pipe.stats().dropped_queue), (MAX_PACKETS, 10));
}

#[test]
fn grants_let_packets_out_in_bunches() {
    let config = PipeConfig {
        delay: Duration::from_millis(3),
        grants: Duration::from_millis(10),
        ..PipeConfig::default()
    };
    let mut pipe = Pipe::new(config, 1);
    for millis in 0..10 {
        pipe.handle_packet(millis, 100, Timestamp::from_millis(millis));
    }
    assert_eq!(pipe.poll_deadline(), Some(Timestamp::from_millis(10)));
    let mut arrived = |at| core::iter::from_fn(|| pipe.poll_packet(Timestamp::from_millis(at))).count();
    assert_eq!((arrived(9), arrived(10), arrived(19), arrived(20)), (0, 8, 0, 2));
}
