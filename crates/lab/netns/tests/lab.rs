//! The lab as others use it: everything is reachable, links do what they are told, transfers arrive whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};

use bondwire_netns::traffic::{Bulk, BulkOptions, BulkReport, BulkServer, Direction, ProbeOptions};
use bondwire_netns::{Lab, LabError, isolated_test, now};

use support::{build, ms, probe, probe_with};

const TWO_LINKS: &str = r#"
    name = "two"
    [[links]]
    name = "wan0"
    up = "20 Mbit/s"
    down = "20 Mbit/s"
    delay = "5 ms"
    v6 = true
    [[links]]
    name = "wan1"
    up = "10 Mbit/s"
    down = "20 Mbit/s"
    delay = "10 ms"
    v6 = true
    nat = true
"#;

#[test]
fn every_link_carries_both_families_both_ways() {
    isolated_test("every_link_carries_both_families_both_ways", || {
        let (lab, scenario) = build(TWO_LINKS);
        for link in &scenario.links {
            for direction in [Direction::Up, Direction::Down] {
                let v4 = probe(&lab, &link.name, lab.web_addr_v4(), direction, ms(100));
                assert_eq!((v4.lost(), v4.duplicates), (0, 0), "{} {direction:?} IPv4", link.name);
                assert!(v4.delay(0.0).unwrap() >= link.delay, "{v4:?}");
                let v6 = probe(&lab, &link.name, lab.web_addr_v6(), direction, ms(100));
                assert_eq!((v6.lost(), v6.duplicates), (0, 0), "{} {direction:?} IPv6", link.name);
                assert!(v6.delay(0.0).unwrap() >= link.delay, "{v6:?}");
            }
        }
    });
}

#[test]
fn hosts_at_the_core_reach_each_other() {
    isolated_test("hosts_at_the_core_reach_each_other", || {
        let (lab, _) = build(TWO_LINKS);
        let host = lab.add_host("another").unwrap();
        let light = || ProbeOptions { duration: ms(50), ..ProbeOptions::default() };
        assert_eq!(probe_with(lab.web(), lab.server(), lab.server_addr_v4(), light()).lost(), 0);
        assert_eq!(probe_with(lab.web(), lab.server(), lab.server_addr_v6(), light()).lost(), 0);
        assert_eq!(probe_with(lab.client(), &host.node, host.v4, light()).lost(), 0);
        assert_eq!(probe_with(&host.node, lab.server(), lab.server_addr_v6(), light()).lost(), 0);
    });
}

#[test]
fn multipath_tcp_is_spoken_where_the_kernel_can_and_its_server_ends() {
    isolated_test("multipath_tcp_is_spoken_where_the_kernel_can_and_its_server_ends", || {
        let (lab, _) = build(TWO_LINKS);
        if [lab.client(), lab.web()].iter().any(|node| node.sysctl("net.mptcp.enabled", "1").is_err()) {
            println!("skipped: this kernel has no MPTCP");
            return;
        }
        let address = SocketAddr::new(lab.web_addr_v4().into(), 0);
        let server = BulkServer::start_multipath(lab.web(), address).unwrap();
        for multipath in [true, false] {
            let options = BulkOptions { bytes: Some(500_000), multipath, ..BulkOptions::default() };
            let report = Bulk::start(lab.client(), &server, options).unwrap().finish().unwrap();
            assert!(report.complete && report.intact, "{:?}", report.error);
        }
        // Nobody connects any more; it must not wait for that.
        drop(server);
    });
}

#[test]
fn a_transfer_arrives_whole_in_both_directions() {
    isolated_test("a_transfer_arrives_whole_in_both_directions", || {
        let (lab, _) = build(TWO_LINKS);
        let server = BulkServer::start(lab.web(), SocketAddr::new(lab.web_addr_v6().into(), 0)).unwrap();
        let bytes = 2_000_000;
        for (direction, link, seed) in [(Direction::Down, "wan0", 3), (Direction::Up, "wan1", 4)] {
            let options = BulkOptions {
                direction,
                bytes: Some(bytes),
                interface: Some(link.to_owned()),
                limit: ms(60_000),
                seed,
                ..BulkOptions::default()
            };
            let report = Bulk::start(lab.client(), &server, options).unwrap().finish().unwrap();
            assert!(report.intact && report.complete, "{direction:?}: {:?}", report.error);
            assert_eq!(report.timeline.total().get(), bytes);
            assert_eq!(report.hash, Some(BulkReport::expected_hash(seed, bytes)));
        }
        let sent = lab.emulator().report().unwrap();
        assert!(sent.link("wan0").unwrap().down.bytes_out > bytes, "{sent:?}");
        assert!(sent.link("wan1").unwrap().up.bytes_out > bytes, "{sent:?}");
    });
}

#[test]
fn a_silent_link_loses_everything_and_comes_back() {
    isolated_test("a_silent_link_loses_everything_and_comes_back", || {
        let (lab, _) = build(TWO_LINKS);
        let quick = || ProbeOptions {
            duration: ms(100),
            patience: ms(100),
            interface: Some("wan0".to_owned()),
            ..ProbeOptions::default()
        };
        lab.silence("wan0").unwrap();
        let dead = probe_with(lab.client(), lab.web(), lab.web_addr_v4(), quick());
        assert_eq!(dead.lost(), dead.sent);
        assert_eq!(carrier(&lab, "wan0"), "1");
        assert_eq!(probe(&lab, "wan1", lab.web_addr_v4(), Direction::Up, ms(50)).lost(), 0);
        lab.restore("wan0").unwrap();
        assert_eq!(probe_with(lab.client(), lab.web(), lab.web_addr_v4(), quick()).lost(), 0);
    });
}

#[test]
fn carrier_loss_shows_at_the_client_and_ends() {
    isolated_test("carrier_loss_shows_at_the_client_and_ends", || {
        let (lab, _) = build(TWO_LINKS);
        assert_eq!(carrier(&lab, "wan1"), "1");
        lab.carrier_loss("wan1").unwrap();
        assert_eq!(carrier(&lab, "wan1"), "0");
        lab.restore("wan1").unwrap();
        assert_eq!(carrier(&lab, "wan1"), "1");
        for to in [lab.web_addr_v4().into(), std::net::IpAddr::from(lab.web_addr_v6())] {
            assert_eq!(probe(&lab, "wan1", to, Direction::Down, ms(50)).lost(), 0, "{to}");
        }
    });
}

#[test]
fn an_address_change_is_seen_from_outside() {
    isolated_test("an_address_change_is_seen_from_outside", || {
        let (lab, _) = build(TWO_LINKS);
        let before = lab.link("wan0").unwrap();
        assert_eq!(seen_from(&lab, "wan0").ip(), before.client_v4.unwrap());
        lab.change_address("wan0").unwrap();
        let after = lab.link("wan0").unwrap();
        assert_ne!(before.client_v4, after.client_v4);
        assert_eq!(seen_from(&lab, "wan0").ip(), after.client_v4.unwrap());
        for to in [lab.web_addr_v4().into(), std::net::IpAddr::from(lab.web_addr_v6())] {
            assert_eq!(probe(&lab, "wan0", to, Direction::Down, ms(50)).lost(), 0, "{to}");
        }
    });
}

#[test]
fn nat_hides_the_client_and_rebinds() {
    isolated_test("nat_hides_the_client_and_rebinds", || {
        let (lab, _) = build(TWO_LINKS);
        let web = udp_at(&lab);
        let (to, client) = (web.local_addr().unwrap(), udp_over(&lab, "wan1"));
        let seen = || {
            client.send_to(b"hello", to).unwrap();
            let (_, from) = web.recv_from(&mut [0; 16]).unwrap();
            web.send_to(b"answer", from).unwrap();
            assert_eq!(client.recv(&mut [0; 16]).unwrap(), 6);
            from
        };
        let first = seen();
        assert_eq!(first.ip(), lab.link("wan1").unwrap().public_v4.unwrap());
        assert_eq!(seen(), first, "a mapping lasts");
        lab.rebind_nat("wan1").unwrap();
        let second = seen();
        assert_eq!(second.ip(), first.ip());
        assert_ne!(second.port(), first.port());
        lab.change_public_address("wan1").unwrap();
        let third = seen();
        assert_ne!(third.ip(), first.ip());
        assert_eq!(third.ip(), lab.link("wan1").unwrap().public_v4.unwrap());
        assert!(matches!(lab.rebind_nat("wan0"), Err(LabError::NoNat { .. })));
    });
}

#[test]
fn packets_beyond_the_links_mtu_vanish() {
    isolated_test("packets_beyond_the_links_mtu_vanish", || {
        let (lab, _) = build("name = \"narrow\"\n[[links]]\nname = \"wan0\"\nmtu = 1400\n");
        let of = |size| ProbeOptions { size, duration: ms(50), patience: ms(100), ..ProbeOptions::default() };
        let fits = probe_with(lab.client(), lab.web(), lab.web_addr_v4(), of(1400 - 28));
        assert_eq!(fits.lost(), 0);
        let too_large = probe_with(lab.client(), lab.web(), lab.web_addr_v4(), of(1400 - 27));
        assert_eq!(too_large.lost(), too_large.sent);
        let report = lab.emulator().report().unwrap();
        assert_eq!(report.links[0].up.dropped_size, too_large.sent);
    });
}

#[test]
fn events_happen_at_their_times() {
    let text = r#"
        name = "eventful"
        [[links]]
        name = "wan0"
        delay = "5 ms"
        [[events]]
        at = "300 ms"
        link = "wan0"
        do = "silence"
        [[events]]
        at = "700 ms"
        link = "wan0"
        do = "return"
        [[events]]
        at = "1 s"
        link = "wan0"
        do = "change"
        delay = "50 ms"
    "#;
    isolated_test("events_happen_at_their_times", || {
        let (lab, scenario) = build(text);
        let player = lab.play(&scenario, now()).unwrap();
        let report = probe(&lab, "wan0", lab.web_addr_v4(), Direction::Up, ms(1500));
        assert_eq!(player.finish().unwrap(), 3);
        let gap = report.longest_gap();
        assert!(gap >= ms(350), "silent for 400 ms, and the longest gap is {gap:?}");
        let late = report.between(ms(1300), ms(1500));
        assert!(late.delay(0.0).unwrap() >= ms(50), "{late:?}");
        let early = report.between(ms(0), ms(200));
        assert!(early.delay(0.0).unwrap() < ms(50), "{early:?}");
    });
}

#[test]
fn a_process_runs_on_its_node() {
    isolated_test("a_process_runs_on_its_node", || {
        let (lab, _) = build(TWO_LINKS);
        let mut list = Command::new("ls");
        list.arg("/sys/class/net").stdout(Stdio::piped());
        let output = lab.client().spawn(list).unwrap().wait_with_output().unwrap();
        let names = String::from_utf8(output.stdout).unwrap();
        assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["lo", "wan0", "wan1"]);
        assert!(matches!(lab.silence("wan7"), Err(LabError::UnknownLink { .. })));
    });
}

fn carrier(lab: &Lab, link: &str) -> String {
    let path = format!("/sys/class/net/{link}/carrier");
    lab.client().run(move || std::fs::read_to_string(path)).unwrap().trim().to_owned()
}

fn udp_at(lab: &Lab) -> UdpSocket {
    let address = SocketAddr::new(lab.web_addr_v4().into(), 0);
    let socket = lab.web().run(move || UdpSocket::bind(address)).unwrap();
    socket.set_read_timeout(Some(ms(10_000))).unwrap();
    socket
}

fn udp_over(lab: &Lab, link: &str) -> UdpSocket {
    let link = link.to_owned();
    lab.client().run(move || {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket2::SockRef::from(&socket).bind_device(Some(link.as_bytes())).unwrap();
        socket.set_read_timeout(Some(ms(10_000))).unwrap();
        socket
    })
}

/// The address that a packet over `link` seems to come from.
fn seen_from(lab: &Lab, link: &str) -> SocketAddr {
    let web = udp_at(lab);
    udp_over(lab, link).send_to(b"hello", web.local_addr().unwrap()).unwrap();
    web.recv_from(&mut [0; 16]).unwrap().1
}
