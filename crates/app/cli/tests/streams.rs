//! Real-time flows from end to end: found by their behaviour or by a rule, listed on both sides, and kept alive when a link dies.
#![forbid(unsafe_code)]

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use bondwire_api::{StreamEntry, Streams};
use bondwire_netns::traffic::{Direction, Probe, ProbeOptions};
use support::{Bond, Options, in_lab, ms, seconds, until};

fn streaming() -> Options {
    Options { mode: "streaming", ..Options::default() }
}

/// A flow like a live video: 100 packets of 1,000 bytes a second.
fn video(bond: &Bond, direction: Direction, duration: Duration) -> Probe {
    let options =
        ProbeOptions { direction, duration, interval: ms(10), size: 1_000, ..ProbeOptions::default() };
    let address = SocketAddr::new(bond.lab.web_addr_v4().into(), 0);
    Probe::start(bond.lab.client(), bond.lab.web(), address, options).expect("a probe")
}

fn streams(bond: &Bond) -> Vec<StreamEntry> {
    bond.client.control().streams().expect("it runs").streams
}

#[test]
fn a_live_video_is_listed_on_both_sides_and_survives_the_death_of_a_link() {
    in_lab("a_live_video_is_listed_on_both_sides_and_survives_the_death_of_a_link", || {
        let bond = Bond::profile("twin", streaming()).started();
        let ended = bond.client.call(&["streams"]);
        ended.assert_done();
        assert!(ended.stdout.starts_with("no real-time flows at present"), "{}", ended.stdout);
        let probes = [Direction::Up, Direction::Down].map(|direction| video(&bond, direction, seconds(12)));
        until("both are listed", seconds(10), || streams(&bond).len() >= 2);
        let listed = bond.client.call(&["streams"]);
        listed.assert_done();
        println!("{}", listed.stdout);
        assert!(listed.stdout.starts_with("FLOW") && listed.stdout.contains("udp 10.99.0.2:"));
        let json = bond.client.call(&["streams", "--json"]);
        let parsed: Streams = serde_json::from_str(json.assert_done().stdout.trim()).expect("one object");
        assert!(parsed.streams.iter().all(|stream| stream.up.packets + stream.down.packets > 0));
        until("the server lists them", seconds(5), || {
            let listed = bond.server.control().streams().expect("it runs").streams;
            listed.len() >= 2 && listed.iter().all(|stream| stream.client.as_deref() == Some("client"))
        });
        // Which of the two carries a flow is not for this test to know: each dies in turn.
        for link in ["line0", "line1"] {
            bond.lab.silence(link).expect("a link");
            let least = probes.each_ref().map(|probe| probe.received() + 100);
            let go_on = || probes.iter().zip(least).all(|(probe, least)| probe.received() > least);
            until("they flow on", seconds(5), go_on);
            bond.lab.restore(link).expect("a link");
            bond.client.wait_active(2);
        }
        println!("{}", bond.client.call(&["streams"]).stdout);
        let slow = !bond.kept_up();
        for (probe, direction) in probes.into_iter().zip(["up", "down"]) {
            probe.stop();
            let report = probe.finish().expect("a probe");
            let (lost, gap) = (report.lost(), report.longest_gap());
            println!("{direction}: {lost} of {} lost, longest gap {gap:?}", report.sent);
            assert_eq!(report.duplicates, 0, "{direction}");
            assert!(slow || (lost <= 20 && gap <= ms(500)), "{direction}: {lost} lost, {gap:?}");
        }
    });
}

#[test]
fn a_rule_decides_on_both_sides() {
    in_lab("a_rule_decides_on_both_sides", || {
        let mut bond = Bond::profile("twin", streaming());
        let rules =
            "[streams]\nrules = [{ remote = \"0.0.0.0/0\", protocol = \"udp\", class = \"default\" }]";
        bond.client.configure("client.toml", rules);
        bond.start_server();
        bond.start_client();
        bond.client.wait_active(2);
        let probe = video(&bond, Direction::Down, seconds(6));
        until("it flows for four seconds", seconds(20), || probe.received() > 400);
        assert!(streams(&bond).is_empty());
        assert_eq!(bond.server.control().streams().expect("it runs").streams, []);
        probe.stop();
        probe.finish().expect("a probe");
    });
}
