//! Links that reorder, ACKs that take other ways, datagrams that are too large.

use super::*;

#[test]
fn reordering_links_are_learnt() {
    for share in [0.02, 0.05] {
        let config = PipeConfig { reorder: share, ..link(50.0, 25, 0, 0.0) };
        let mut run = Loop::new(config, 3);
        run.run_until(at(10_000));
        let early = run.sender.lost_and_spurious();
        run.run_until(at(20_000));
        let (lost, spurious) = run.sender.lost_and_spurious();
        let goodput = run.goodput(at(10_000), at(20_000));
        println!(
            "{share} overtaken: {goodput:.1} of 50 Mbit/s; declared lost {} then {}, spurious {} then {}, of {}",
            early.0,
            lost - early.0,
            early.1,
            spurious - early.1,
            run.sent
        );
        assert!(goodput >= 46.0, "{goodput}");
        assert!(spurious - early.1 <= run.sent / 200, "spurious after learning");
        run.assert_conserved();
    }
}

#[test]
fn wild_reordering_still_flows() {
    let config = PipeConfig { jitter_reorders: true, ..link(50.0, 25, 5, 0.0) };
    let mut run = Loop::new(config, 3);
    run.run_until(at(12_000));
    let goodput = run.goodput(at(4_000), at(12_000));
    let (lost, spurious) = run.sender.lost_and_spurious();
    println!(
        "jitter reorders ±5 ms: {goodput:.1} of 50 Mbit/s, {lost} declared lost, {spurious} spurious of {}",
        run.sent
    );
    assert!(goodput >= 45.0, "{goodput}");
    run.assert_conserved();
}

#[test]
fn acknowledgements_over_a_jittery_way_back() {
    let back = link(5.0, 40, 30, 0.01);
    for (rate, delay) in [(50.0, 10), (20.0, 60)] {
        let mut run = Loop::with_back(link(rate, delay, 0, 0.0), back.clone(), 4);
        run.run_until(at(10_000));
        let goodput = run.goodput(at(3_000), at(10_000));
        let (mean, p95) = run.queue(at(3_000), at(10_000));
        println!("{rate}/{delay}, ACKs at 40±30 ms: {goodput:.1} Mbit/s, queue {mean:.1} (p95 {p95:.1})");
        assert!(goodput >= rate * 0.93, "{goodput}");
        assert!(mean <= 15.0 && p95 <= 30.0);
    }
}

#[test]
fn the_mtu_rises_after_validation() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 1);
    assert_eq!(run.sender.mtu(), 1_252);
    run.run_until(at(200));
    assert_eq!(run.sender.mtu(), 1_472);
    run.sender.on_too_long(1_440, run.now);
    assert_eq!(run.sender.mtu(), 1_439);
}

#[test]
fn arrival_counts_the_backlog() {
    let mut run = Loop::new(link(10.0, 20, 0, 0.0), 1);
    run.run_until(at(3_000));
    run.set_source(Source::Silent);
    run.run_until(at(3_500));
    let empty = run.sender.arrival_after(1_500, run.now);
    let more = run.sender.arrival_after(13_500, run.now);
    println!("empty {empty}, 12 kB more {}", more - empty);
    assert!((more - empty - 9_600).abs() < 1_500, "12 kB at 10 Mbit/s are 9.6 ms: {}", more - empty);
    for _ in 0..20 {
        run.transmit(1_500);
    }
    let loaded = run.sender.arrival_after(1_500, run.now);
    assert!((loaded - empty - 24_000).abs() < 4_000, "30 kB are 24 ms: {}", loaded - empty);
}
