//! Priorities and limits of links, from the command line to the packets.
#![forbid(unsafe_code)]

mod support;

use bondwire_api::{LinkEntry, Links, Priority};
use bondwire_netns::traffic::Direction;
use support::{Bond, MEGABYTE, Options, assert_whole, in_lab, seconds, until};

const TWO: &str = r#"
    name = "two"
    [[links]]
    name = "wan0"
    up = "30 Mbit/s"
    down = "30 Mbit/s"
    delay = "10 ms"
    [[links]]
    name = "wan1"
    up = "30 Mbit/s"
    down = "30 Mbit/s"
    delay = "15 ms"
"#;

/// `bondwire links --json`, of one link.
fn shown(bond: &Bond, name: &str) -> LinkEntry {
    let ended = bond.client.call(&["links", "--json"]);
    ended.assert_done();
    let links: Links = serde_json::from_str(&ended.stdout).expect("one object");
    links.links.into_iter().find(|link| link.status.name == name).expect("a link")
}

/// Waits until a link is in this state.
fn wait_state(bond: &Bond, name: &str, state: &str) {
    until(&format!("{name} is {state}"), seconds(15), || shown(bond, name).status.state == state);
}

fn set(bond: &Bond, key: &str, value: &str) {
    let ended = bond.client.call(&["links", "set", "wan1", key, value]);
    ended.assert_done();
    assert!(ended.stdout.starts_with("link wan1: "), "{}", ended.stdout);
}

/// Moves so many bytes and returns what the second link has carried of them.
fn moved_over_wan1(bond: &Bond, direction: Direction, bytes: u64) -> u64 {
    let carried = || {
        let (rx, tx) = bond.client.carried("wan1");
        if direction == Direction::Down { rx } else { tx }
    };
    // Figures are published now and then: until they stand still, the last packets are missing.
    let settled = || {
        let mut last = (carried(), std::time::Instant::now());
        until("the figures stand still", seconds(5), || {
            let now = carried();
            if now.abs_diff(last.0) > 5_000 {
                last = (now, std::time::Instant::now());
            }
            last.1.elapsed() > seconds(1)
        });
        carried()
    };
    let before = settled();
    let report = bond.transfer(direction, bytes).finish().expect("a transfer");
    let took = assert_whole(&report, bytes);
    let over = settled() - before;
    println!("{direction:?}: {bytes} bytes in {took:?}, {over} of them over wan1");
    over
}

#[test]
fn priorities_and_limits_are_obeyed_in_both_directions_and_remembered() {
    in_lab("priorities_and_limits_are_obeyed_in_both_directions_and_remembered", || {
        let mut bond = Bond::of(TWO, Options::default());
        bond.start_server();
        let up = ["up", "--wait", "15", "--mode", "speed", "--link", "wan0"];
        bond.client.start(&[&up[..], &["--link", "wan1:backup"]].concat());
        wait_state(&bond, "wan0", "active");
        wait_state(&bond, "wan1", "standby");
        let status = bond.client.status();
        let wan1 = status.links.iter().find(|link| link.name == "wan1").expect("a link");
        assert_eq!((wan1.priority.as_str(), wan1.state.as_str()), ("backup", "standby"));

        a_backup_waits_and_takes_over(&bond);
        live_changes(&bond);

        bond.client.stop();
        bond.client.start(&[&up[..], &["--link", "wan1"]].concat());
        wait_state(&bond, "wan0", "active");
        let wan1 = shown(&bond, "wan1");
        assert_eq!((wan1.priority_setting, wan1.limit_down_bps), (Priority::Never, Some(5_000_000)));
        assert_eq!(wan1.status.state, "standby", "remembered");
        set(&bond, "priority", "default");
        set(&bond, "limit-down", "default");
        wait_state(&bond, "wan1", "active");
        let wan1 = shown(&bond, "wan1");
        assert_eq!((wan1.priority_setting, wan1.limit_down_bps), (Priority::Automatic, None));
        assert_eq!(bond.client.stop().code, Some(0));
        bond.kept_up();
    });
}

fn a_backup_waits_and_takes_over(bond: &Bond) {
    for direction in [Direction::Down, Direction::Up] {
        let bytes = 8 * MEGABYTE;
        let over = moved_over_wan1(bond, direction, bytes);
        assert!(over * 50 < bytes, "{direction:?}: the backup has carried {over} bytes of {bytes}");
    }
    let bytes = 20 * MEGABYTE;
    let transfer = bond.transfer(Direction::Down, bytes);
    until("a fifth has arrived", seconds(30), || transfer.received() > bytes / 5);
    bond.lab.silence("wan0").expect("a link");
    until("half has arrived", seconds(30), || transfer.received() > bytes / 2);
    wait_state(bond, "wan1", "active");
    bond.lab.restore("wan0").expect("a link");
    let report = transfer.finish().expect("a transfer");
    let took = assert_whole(&report, bytes);
    println!("a backup took over: longest gap {:?}", report.timeline.longest_gap(seconds(0), took));
    wait_state(bond, "wan0", "active");
    wait_state(bond, "wan1", "standby");
}

fn live_changes(bond: &Bond) {
    let bytes = 20 * MEGABYTE;
    set(bond, "priority", "always");
    wait_state(bond, "wan1", "active");
    for direction in [Direction::Down, Direction::Up] {
        let over = moved_over_wan1(bond, direction, bytes);
        assert!(over * 20 > bytes, "{direction:?}: {over} of {bytes} bytes");
    }
    set(bond, "priority", "secondary");
    wait_state(bond, "wan1", "standby");
    let before = bond.client.carried("wan1");
    let probe = bond.probe(Direction::Down, seconds(3)).finish().expect("a probe");
    let after = bond.client.carried("wan1");
    assert!(after.0 - before.0 < 5_000 && after.1 - before.1 < 5_000, "{before:?}, {after:?}");
    assert_eq!(probe.duplicates, 0);
    for direction in [Direction::Down, Direction::Up] {
        let over = moved_over_wan1(bond, direction, bytes);
        assert!(over * 20 > bytes && over * 100 < bytes * 55, "{direction:?}: {over} of {bytes} bytes");
    }
    wait_state(bond, "wan1", "standby");
    set(bond, "priority", "always");
    set(bond, "limit-down", "5M");
    assert_eq!(shown(bond, "wan1").limit_down_bps, Some(5_000_000));
    let over = moved_over_wan1(bond, Direction::Down, bytes);
    assert!(
        over > MEGABYTE / 2 && over * 4 < bytes,
        "{over} of {bytes} bytes over a link with 5 of 30 Mbit/s"
    );
    set(bond, "priority", "never");
    wait_state(bond, "wan1", "standby");
    let over = moved_over_wan1(bond, Direction::Down, 5 * MEGABYTE);
    assert!(over < 2_000, "{over} bytes over a link that is never used");
    let refused = bond.client.call(&["links", "set", "wan9", "priority", "never"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("did you mean `wan0`?"), "{}", refused.stderr);
    let table = bond.client.call(&["links"]);
    assert!(table.stdout.contains("never") && table.stdout.contains("5.0 Mbit/s"), "{}", table.stdout);
}
