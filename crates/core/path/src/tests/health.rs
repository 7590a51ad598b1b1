//! Outages: suspected fast, forgiven at once.

use super::*;

fn outage(name: &str, config: PipeConfig, length: u64) {
    for seed in [1, 2, 3] {
        let rate = config.rate.unwrap().as_mbps();
        let mut run = Loop::new(config.clone(), seed);
        let fall = at(5_000);
        run.run_until(fall);
        assert_eq!(run.states.len(), 1, "{name}: suspected a living path: {:?}", run.states);
        let rtt = run.sender.rtt().clone();
        run.set_up(false);
        run.run_until(fall + Duration::from_millis(length));
        let suspected =
            run.states.iter().find(|(t, s)| *t >= fall && *s == PathState::Suspect).unwrap().0.since(fall);
        let back = run.now;
        run.set_up(true);
        run.run_until(back + Duration::from_secs(6));
        let active =
            run.states.iter().find(|(t, s)| *t >= back && *s == PathState::Active).unwrap().0.since(back);
        let full = run.reaches(rate * 0.85, Duration::from_millis(200), back).unwrap();
        println!(
            "{name} seed {seed}: suspected after {suspected:?} (srtt {:?} var {:?}), back after {active:?}, 85 % after {full:?}",
            rtt.smoothed(),
            rtt.variation()
        );
        let due = rtt.smoothed() + rtt.variation() * 4;
        assert!(suspected <= (due * 3 / 2 + Duration::from_millis(20)).max(Duration::from_millis(80)));
        // A lossy link may lose the first probes too.
        let tries = if config.loss > 0.0 { 2 } else { 1 };
        assert!(active <= Duration::from_millis(1_100) * tries + rtt.smoothed());
        assert!(full <= active + Duration::from_millis(800) + rtt.smoothed() * 6, "{name}: {full:?}");
        run.assert_conserved();
    }
}

#[test]
fn an_outage_is_seen_and_survived() {
    outage("50/10", link(50.0, 10, 0, 0.0), 4_000);
    outage("120/25±10", link(120.0, 25, 10, 0.0), 4_000);
    outage("20/60±15", link(20.0, 60, 15, 0.02), 2_000);
    outage("3/20", link(3.0, 20, 0, 0.0), 10_000);
}

#[test]
fn a_lossy_path_with_sparse_packets_is_not_suspected() {
    for seed in 0..5 {
        let mut run = Loop::new(link(20.0, 40, 10, 0.02), seed);
        run.set_source(Source::Paced(Bitrate::from_mbps(0.5)));
        run.run_until(at(60_000));
        assert!(run.states.len() <= 3, "seed {seed}: {:?}", run.states);
    }
}

#[test]
fn a_path_goes_down_and_returns() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 1);
    run.run_until(at(1_000));
    run.set_up(false);
    run.run_until(at(20_000));
    assert_eq!(run.sender.state(), PathState::Down);
    let probes = run.sent;
    run.run_until(at(30_000));
    assert!((9..=11).contains(&(run.sent - probes)), "a probe per second");
    run.set_up(true);
    run.sender.on_link_up(run.now);
    run.run_until(at(30_100));
    assert_eq!(run.sender.state(), PathState::Active);
}

#[test]
fn a_link_down_hint_is_immediate() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 1);
    run.run_until(at(1_000));
    assert!(run.sender.on_link_down(run.now));
    assert_eq!((run.sender.state(), run.sender.send_budget(run.now)), (PathState::Suspect, 0));
    let mut taken = Vec::new();
    run.sender.take_in_flight(&mut taken, run.now);
    assert!(!taken.is_empty() && run.sender.in_flight() == 0);
    run.taken += taken.len() as u64;
    run.run_until(at(1_100));
    assert_eq!(run.sender.state(), PathState::Active, "the hint was wrong, and a probe told so");
    run.assert_conserved();
}

#[test]
fn idle_probes_become_rare() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 1);
    run.set_source(Source::Silent);
    run.run_until(at(5_000));
    let recent = run.sent;
    run.run_until(at(60_000));
    println!("{recent} packets in 5 s, {} in the 55 s after", run.sent - recent);
    assert!(recent <= 12 && run.sent - recent <= 12);
    run.sender.set_traffic(crate::Traffic::Realtime, run.now);
    let before = run.sent;
    run.run_until(at(62_000));
    assert!((18..=22).contains(&(run.sent - before)), "{}", run.sent - before);
}

#[test]
fn acknowledging_what_was_never_sent_is_an_error() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 1);
    run.run_until(at(100));
    let next = run.sender.next_packet_number();
    let ack = AckInfo {
        largest: next,
        delay: Duration::ZERO,
        received_at_micros: 0,
        waited: Duration::ZERO,
        ranges: [next..=next],
    };
    let error = run.sender.handle_ack(ack, true, &mut Vec::new(), &mut Vec::new(), run.now).unwrap_err();
    assert_eq!((error.largest, error.next), (next, next));
}
