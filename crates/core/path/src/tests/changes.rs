//! Rates that change, and sources that pause.

use super::*;

fn follow(name: &str, config: PipeConfig, factor: f64, limit: Duration) {
    let rate = config.rate.unwrap().as_mbps();
    for seed in [1, 2, 3] {
        let mut run = Loop::new(config.clone(), seed);
        let change = at(if config.delay > Duration::from_millis(100) { 12_000 } else { 5_000 });
        run.run_until(change);
        run.set_rate(rate * factor);
        let end = change + limit + Duration::from_secs(4);
        run.run_until(end);
        let wanted = rate * factor;
        let followed = run
            .between(change, end)
            .iter()
            .find(|look| (0.85..=1.15).contains(&(look.estimate / wanted)))
            .map(|look| look.at.since(change));
        let after = run.goodput(change + limit, end);
        let (mean, p95) = run.queue(change + limit, end);
        println!(
            "{name} seed {seed}: x{factor} followed after {followed:?} (limit {limit:?}); then {:.3}, queue {mean:.1} ms (p95 {p95:.1})",
            after / wanted
        );
        run.assert_conserved();
        assert!(followed.is_some_and(|took| took <= limit), "{name} seed {seed}: {followed:?}");
        assert!(after >= wanted * 0.75, "{name} seed {seed}: {after:.2} of {wanted}");
        assert!(mean <= 30.0, "{name} seed {seed}: queue {mean:.1} ms");
    }
}

#[test]
fn halved() {
    follow("50/10", link(50.0, 10, 0, 0.0), 0.5, Duration::from_secs(1));
    follow("120/25±10", link(120.0, 25, 10, 0.0), 0.5, Duration::from_secs(1));
    follow("20/60±15 2 %", link(20.0, 60, 15, 0.02), 0.5, Duration::from_millis(1_300));
    follow("25/300", link(25.0, 300, 0, 0.0), 0.5, Duration::from_millis(1_800));
}

#[test]
fn doubled() {
    follow("50/10", link(50.0, 10, 0, 0.0), 2.0, Duration::from_secs(2));
    follow("60/25±10", link(60.0, 25, 10, 0.0), 2.0, Duration::from_secs(2));
    follow("10/60±15 2 %", link(10.0, 60, 15, 0.02), 2.0, Duration::from_secs(3));
    follow("12/300", link(12.0, 300, 0, 0.0), 2.0, Duration::from_secs(15));
}

#[test]
fn a_thin_source_does_not_make_the_path_forget() {
    for (name, config) in [("50/10", link(50.0, 10, 0, 0.0)), ("20/60±15", link(20.0, 60, 15, 0.0))] {
        let rate = config.rate.unwrap().as_mbps();
        let mut run = Loop::new(config, 5);
        run.run_until(at(4_000));
        run.set_source(Source::Paced(Bitrate::from_mbps(rate / 10.0)));
        run.run_until(at(34_000));
        let remembered = run.sender.delivery_rate().as_mbps();
        run.set_source(Source::Greedy);
        run.run_until(at(38_000));
        let burst = run.goodput(at(34_200), at(34_700));
        let steady = run.goodput(at(35_000), at(38_000));
        println!(
            "{name}: remembered {remembered:.1}, first half second {burst:.1}, then {steady:.1} of {rate}"
        );
        assert!(remembered >= rate * 0.8 && burst >= rate * 0.75 && steady >= rate * 0.9);
        run.assert_conserved();
    }
}

#[test]
fn an_idle_path_remembers() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 6);
    run.run_until(at(3_000));
    run.set_source(Source::Silent);
    run.run_until(at(13_000));
    run.set_source(Source::Greedy);
    run.run_until(at(15_000));
    let first = run.goodput(at(13_030), at(13_300));
    println!("after 10 s of silence: {first:.1} of 50 Mbit/s");
    assert!(first >= 42.0);
    assert_eq!(run.sender.state(), PathState::Active);
}

#[test]
fn a_source_at_half_the_rate_is_never_held_back() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 8);
    run.set_source(Source::Paced(Bitrate::from_mbps(25.0)));
    run.run_until(at(8_000));
    let goodput = run.goodput(at(2_000), at(8_000));
    assert!(goodput >= 24.5, "{goodput}");
}

#[test]
fn a_rate_limit_is_a_ceiling() {
    let mut run = Loop::new(link(50.0, 10, 0, 0.0), 9);
    run.sender.set_rate_limit(Some(Bitrate::from_mbps(10.0)), at(0));
    run.run_until(at(5_000));
    let goodput = run.goodput(at(1_000), at(5_000));
    assert!((9.0..=10.2).contains(&goodput), "{goodput}");
    assert!(run.sender.delivery_rate() <= Bitrate::from_mbps(10.0));
    run.sender.set_rate_limit(Some(Bitrate::from_mbps(4.0)), at(5_000));
    run.run_until(at(8_000));
    let goodput = run.goodput(at(6_000), at(8_000));
    assert!((3.6..=4.1).contains(&goodput), "lowered: {goodput}");
    run.sender.set_rate_limit(None, at(8_000));
    run.run_until(at(14_000));
    let goodput = run.goodput(at(12_000), at(14_000));
    assert!(goodput >= 42.0, "lifted: {goodput}");
}
