//! What the bond is for: traffic goes on, and arrives whole, whatever happens to the links.
#![forbid(unsafe_code)]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bondwire_api::Mode;
use bondwire_netns::traffic::{Bulk, BulkOptions, Direction, Probe, ProbeOptions};
use bondwire_units::Bitrate;
use support::{Bond, MEGABYTE, Options, Quic, QuicOptions, assert_whole, in_lab, ms, seconds, until};

/// A link's silent death costs at most so much. A machine that is too busy for its emulator stretches all times.
fn longest(bond: &Bond) -> Duration {
    if bond.kept_up() { seconds(1) } else { seconds(3) }
}

/// A transfer of `bytes` over twin, of whose links one is dead for a part of the time.
fn survive(direction: Direction, bytes: u64) {
    let bond = Bond::profile("twin", Options::default()).started();
    let transfer = bond.transfer(direction, bytes);
    until("a fifth has arrived", seconds(30), || transfer.received() > bytes / 5);
    bond.lab.silence("line0").expect("a link");
    until("half has arrived", seconds(30), || transfer.received() > bytes / 2);
    bond.lab.restore("line0").expect("a link");
    let before = bond.client.carried("line0");
    let report = transfer.finish().expect("a transfer");
    let took = assert_whole(&report, bytes);
    let gap = report.timeline.longest_gap(Duration::ZERO, took);
    let after = bond.client.carried("line0");
    println!("{direction:?}: {bytes} bytes in {took:?}, longest gap {gap:?}");
    assert!(gap <= longest(&bond), "{gap:?}");
    let carried = if direction == Direction::Down { after.0 - before.0 } else { after.1 - before.1 };
    assert!(carried > bytes / 20, "the link that came back has carried {carried} bytes since");
}

#[test]
fn a_download_survives_the_death_and_return_of_a_link() {
    in_lab("a_download_survives_the_death_and_return_of_a_link", || survive(Direction::Down, 50 * MEGABYTE));
}

#[test]
fn an_upload_survives_the_death_and_return_of_a_link() {
    in_lab("an_upload_survives_the_death_and_return_of_a_link", || survive(Direction::Up, 30 * MEGABYTE));
}

/// The same for QUIC; the link that dies is the one that has carried most of it, and stays dead.
fn survive_in_quic(direction: Direction, bytes: u64) {
    let bond = Bond::profile("twin", Options::default()).started();
    let carried = || {
        let sides = ["line0", "line1"].map(|link| bond.client.carried(link));
        sides.map(|(rx, tx)| if direction == Direction::Down { rx } else { tx })
    };
    let before = carried();
    let options = QuicOptions { direction, bytes: Some(bytes), limit: seconds(60), ..QuicOptions::default() };
    let web = SocketAddr::new(bond.lab.web_addr_v4().into(), 0);
    let transfer = Quic::start(bond.lab.client(), bond.lab.web(), web, options).expect("a transfer");
    until("a fifth has arrived", seconds(30), || transfer.received() > bytes / 5);
    until("the counters show it", seconds(5), || {
        carried().iter().sum::<u64>() > before.iter().sum::<u64>() + bytes / 5
    });
    let now = carried();
    let link = if now[0] - before[0] > now[1] - before[1] { "line0" } else { "line1" };
    bond.lab.silence(link).expect("a link");
    let report = transfer.finish().expect("it ends");
    let took = report.timeline.last().expect("bytes arrived").since(report.timeline.start());
    let gap = report.timeline.longest_gap(Duration::ZERO, took);
    println!(
        "{direction:?}: {bytes} bytes in {took:?}, longest gap {gap:?} after the silent death of {link}"
    );
    assert!(report.complete && report.intact, "{} of {bytes} bytes", report.timeline.total().get());
    assert!(gap <= longest(&bond), "{gap:?}");
}

#[test]
fn a_quic_download_survives_the_death_of_a_link() {
    in_lab("a_quic_download_survives_the_death_of_a_link", || {
        survive_in_quic(Direction::Down, 40 * MEGABYTE);
    });
}

#[test]
fn a_quic_upload_survives_the_death_of_a_link() {
    in_lab("a_quic_upload_survives_the_death_of_a_link", || survive_in_quic(Direction::Up, 30 * MEGABYTE));
}

#[test]
fn in_mode_redundant_nothing_is_lost_when_a_link_dies() {
    in_lab("in_mode_redundant_nothing_is_lost_when_a_link_dies", || {
        let bond = Bond::profile("twin", Options::default()).started();
        bond.client.call(&["mode", "redundant"]).assert_done();
        let is_redundant = || bond.client.status().mode == Some(Mode::Redundant);
        until("the mode has changed", seconds(2), is_redundant);
        let probes = [Direction::Up, Direction::Down].map(|direction| bond.probe(direction, seconds(4)));
        until("probes flow", seconds(5), || probes.iter().all(|probe| probe.received() > 200));
        bond.lab.silence("line1").expect("a link");
        for (probe, direction) in probes.into_iter().zip(["up", "down"]) {
            let report = probe.finish().expect("a probe");
            let gap = report.longest_gap();
            println!("{direction}: {} of {} lost, longest gap {gap:?}", report.lost(), report.sent);
            assert_eq!((report.lost(), report.duplicates), (0, 0), "{direction}");
            assert!(gap <= ms(500), "{direction}: {gap:?}");
        }
        bond.kept_up();
    });
}

#[test]
fn datagrams_go_on_when_a_link_dies() {
    in_lab("datagrams_go_on_when_a_link_dies", || {
        let bond = Bond::profile("twin", Options::default()).started();
        let probes = [Direction::Up, Direction::Down].map(|direction| bond.probe(direction, seconds(5)));
        until("probes flow", seconds(5), || probes.iter().all(|probe| probe.received() > 200));
        // Which of the two carries a flow is not for this test to know: each dies in turn.
        for link in ["line0", "line1"] {
            bond.lab.silence(link).expect("a link");
            let least = probes.each_ref().map(|probe| probe.received() + 200);
            let go_on = || probes.iter().zip(least).all(|(probe, least)| probe.received() > least);
            until("probes flow on", seconds(5), go_on);
            bond.lab.restore(link).expect("a link");
            bond.client.wait_active(2);
        }
        let most = longest(&bond);
        for (probe, direction) in probes.into_iter().zip(["up", "down"]) {
            probe.stop();
            let report = probe.finish().expect("a probe");
            let gap = report.longest_gap();
            println!("{direction}: {} of {} lost, longest gap {gap:?}", report.lost(), report.sent);
            assert!(gap <= most, "{direction}: {gap:?}");
            assert_eq!(report.duplicates, 0, "{direction}");
        }
    });
}

#[test]
fn a_transfer_survives_the_death_of_all_links() {
    in_lab("a_transfer_survives_the_death_of_all_links", || {
        let bond = Bond::profile("twin", Options::default()).started();
        let options = BulkOptions { limit: seconds(90), ..BulkOptions::default() };
        let transfer = Bulk::start(bond.lab.client(), &bond.web, options).expect("a transfer");
        for carrier in [false, true] {
            let least = transfer.received() + 5 * MEGABYTE;
            until("data flows", seconds(20), || transfer.received() > least);
            for link in ["line0", "line1"] {
                let lab = &bond.lab;
                if carrier { lab.carrier_loss(link) } else { lab.silence(link) }.expect("a link");
            }
            let away = Instant::now();
            until("the links were away for some time", seconds(4), || away.elapsed() > seconds(3));
            let least = transfer.received() + MEGABYTE;
            bond.lab.restore("line0").expect("a link");
            bond.lab.restore("line1").expect("a link");
            let back = until("data flows again", seconds(15), || transfer.received() > least);
            println!("carrier lost: {carrier}; data flows {back:?} after the return");
            bond.client.wait_active(2);
        }
        transfer.stop();
        let report = transfer.finish().expect("a transfer");
        assert!(report.error.is_none() && report.intact, "{:?}", report.error);
    });
}

const MOVING: &str = r#"
    name = "moving"
    [[links]]
    name = "wan0"
    up = "30 Mbit/s"
    down = "30 Mbit/s"
    delay = "10 ms"
    nat = true
    [[links]]
    name = "wan1"
    up = "30 Mbit/s"
    down = "30 Mbit/s"
    delay = "15 ms"
    nat = true
"#;

#[test]
fn a_transfer_goes_on_when_addresses_change() {
    in_lab("a_transfer_goes_on_when_addresses_change", || {
        let bond = Bond::of(MOVING, Options::default()).started();
        let bytes = 30 * MEGABYTE;
        let transfer = bond.transfer(Direction::Down, bytes);
        let move_on = |what: &str| {
            let least = transfer.received() + 5 * MEGABYTE;
            until(what, seconds(20), || transfer.received() > least)
        };
        move_on("the transfer runs");
        bond.lab.rebind_nat("wan0").expect("a NAT");
        bond.lab.rebind_nat("wan1").expect("a NAT");
        println!("both NATs gave new ports: 5 MB took {:?}", move_on("after new ports on both links"));
        bond.lab.change_public_address("wan0").expect("a NAT");
        println!("another public address: 5 MB took {:?}", move_on("after another public address"));
        bond.lab.change_address("wan1").expect("a link");
        println!("another address: 5 MB took {:?}", move_on("after another address"));
        bond.client.wait_active(2);
        let before = ["wan0", "wan1"].map(|link| bond.client.carried(link).0);
        let report = transfer.finish().expect("a transfer");
        let took = assert_whole(&report, bytes);
        println!("longest gap {:?}", report.timeline.longest_gap(Duration::ZERO, took));
        for (link, before) in ["wan0", "wan1"].into_iter().zip(before) {
            let carried = bond.client.carried(link).0 - before;
            assert!(carried > MEGABYTE / 2, "{link} has carried {carried} bytes since");
        }
    });
}

const SIX: &str = r#"
    name = "six"
    [[links]]
    name = "wan0"
    down = "30 Mbit/s"
    up = "30 Mbit/s"
    delay = "10 ms"
    v4 = false
    v6 = true
    [[links]]
    name = "wan1"
    down = "20 Mbit/s"
    up = "20 Mbit/s"
    delay = "15 ms"
    v4 = false
    v6 = true
"#;

/// Moves a little by TCP and UDP in both families inside, and each link has a part in it.
fn both_families_inside(bond: &Bond) {
    let bytes = 5 * MEGABYTE;
    for web in [&bond.web, &bond.web6] {
        for direction in [Direction::Down, Direction::Up] {
            let options =
                BulkOptions { direction, bytes: Some(bytes), limit: seconds(30), ..BulkOptions::default() };
            let report = Bulk::start(bond.lab.client(), web, options)
                .expect("a transfer")
                .finish()
                .expect("a transfer");
            assert_whole(&report, bytes);
        }
    }
    let web = [IpAddr::from(bond.lab.web_addr_v4()), bond.lab.web_addr_v6().into()]
        .map(|address| (bond.lab.web(), address));
    let own = ["10.99.0.1", "fd99::1"].map(|text| (bond.lab.server(), text.parse().expect("an address")));
    for (node, address) in web.into_iter().chain(own) {
        let options = ProbeOptions { duration: ms(200), ..ProbeOptions::default() };
        let probe =
            Probe::start(bond.lab.client(), node, SocketAddr::new(address, 0), options).expect("a probe");
        assert_eq!(probe.finish().expect("a probe").lost(), 0, "{address}");
    }
    for link in &bond.scenario.links {
        let (rx, tx) = bond.client.carried(&link.name);
        assert!(rx > MEGABYTE && tx > MEGABYTE, "{}: {rx} received, {tx} sent", link.name);
    }
}

#[test]
fn ipv6_outside_carries_both_families() {
    in_lab("ipv6_outside_carries_both_families", || {
        let options = Options { outside_v6: true, inside_v6: true, ..Options::default() };
        both_families_inside(&Bond::of(SIX, options).started());
    });
}

#[test]
fn ipv4_outside_carries_both_families() {
    in_lab("ipv4_outside_carries_both_families", || {
        let options = Options { inside_v6: true, ..Options::default() };
        both_families_inside(&Bond::profile("twin", options).started());
    });
}

/// One TCP flow gets a good part of the sum of the links.
fn aggregation(profile: &str) {
    let bond = Bond::profile(profile, Options::default()).started();
    let options = BulkOptions { limit: seconds(8), verify: false, ..BulkOptions::default() };
    let transfer = Bulk::start(bond.lab.client(), &bond.web, options).expect("a transfer");
    let report = transfer.finish().expect("a transfer");
    let goodput = report.timeline.goodput(ms(2_700), seconds(8));
    let sum: u64 = bond.scenario.links.iter().filter_map(|link| link.down).map(Bitrate::as_bps).sum();
    let share = goodput.as_bps() as f64 / sum as f64;
    println!("{profile}: {:.1} Mbit/s, {share:.2} of the sum", goodput.as_mbps());
    let least = if bond.kept_up() { 0.70 } else { 0.35 };
    assert!(share >= least, "{profile}: {share:.2}");
}

#[test]
fn one_flow_gets_the_sum_of_twin() {
    in_lab("one_flow_gets_the_sum_of_twin", || aggregation("twin"));
}

#[test]
fn one_flow_gets_the_sum_of_home() {
    in_lab("one_flow_gets_the_sum_of_home", || aggregation("home"));
}
