//! The nftables way: for this machine where programs are not allowed, and for a LAN behind it.

use std::net::TcpStream;

use bondwire_netctl::Family;
use bondwire_netns::Node;

use super::lab::{
    HOST, HOST6, Lab, PATIENCE, address, ask, capture, config, dead_plan, first_line, plan, run, share, tcp,
    udp_connected, udp_socket, unjournaled, with_lab,
};
use crate::{Action, Capture, Config, LinkName, LinkPlan, Plan, Protocol, Rule, Way};

#[test]
fn local_sockets_are_spread_by_nftables() {
    with_lab("tests::table::local_sockets_are_spread_by_nftables", |_| {
        let mut capture = capture(Way::Nftables);
        capture.apply(&plan([750, 250])).unwrap();
        for host in [HOST, HOST6] {
            assert_eq!(share(40, || tcp(host, 80)), 30);
        }
        // Turns go on where they were when weights change, and nothing else does.
        capture.apply(&plan([500, 500])).unwrap();
        assert_eq!(share(10, || udp_connected(HOST, 80)), 5);
        let turns = || run("nft list map inet bondwire_balance bulk4");
        let before = turns();
        capture.apply(&plan([510, 490])).unwrap();
        assert_eq!(turns(), before, "a little is not worth a run of nft");
        capture.apply(&plan([600, 400])).unwrap();
        assert_ne!(turns(), before);
        capture.apply(&plan([500, 500])).unwrap();
        let first = tcp("203.0.113.7", 443);
        assert_eq!(share(4, || tcp("203.0.113.7", 443)), if first == "10.1.0.2" { 4 } else { 0 });
        capture.apply(&dead_plan()).unwrap();
        assert_eq!(share(4, || tcp("203.0.113.7", 443)), 0);
        assert_eq!(share(4, || tcp(HOST, 80)), 0);
        capture.detach().unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}

#[test]
fn rules_hold_in_nftables_too() {
    with_lab("tests::table::rules_hold_in_nftables_too", |_| {
        let mut capture = capture(Way::Nftables);
        let any =
            Rule { to: None, ports: None, protocol: None, uid: None, command: None, action: Action::Bypass };
        let rules = vec![
            Rule {
                ports: Some(443..=443),
                protocol: Some(Protocol::Tcp),
                action: Action::Only(1),
                ..any.clone()
            },
            Rule::to("203.0.113.0/30".parse().unwrap(), Action::Bypass),
            Rule::to("203.0.113.4/32".parse().unwrap(), Action::Use(1)),
            Rule::to("203.0.113.6/32".parse().unwrap(), Action::Avoid(0)),
            Rule { to: Some("203.0.113.10/32".parse().unwrap()), action: Action::Choose, ..any.clone() },
            Rule { uid: Some(0), action: Action::Use(1), ..any.clone() },
            Rule { command: Some("never".to_owned()), action: Action::Refuse, ..any },
        ];
        capture.apply(&Plan { rules, ..plan([500, 500]) }).unwrap();
        assert_eq!(share(4, || tcp("203.0.113.1", 443)), 0);
        assert_eq!(share(4, || tcp("203.0.113.1", 80)), 4);
        assert_eq!(share(4, || tcp("203.0.113.4", 80)), 0);
        assert_eq!(share(4, || tcp("203.0.113.6", 80)), 0);
        assert_eq!(share(4, || tcp("203.0.113.9", 80)), 0);
        assert_eq!(share(4, || tcp("203.0.113.10", 80)), 2);
    });
}

#[test]
fn a_family_that_no_link_has_is_refused_by_nftables_too() {
    with_lab("tests::table::a_family_that_no_link_has_is_refused_by_nftables_too", |_| {
        let links = vec![LinkName { slot: 1, name: "wan1".to_owned() }];
        run("ip -6 route del default dev wan1");
        let config = Config { links, ..config(Way::Nftables) };
        let mut capture = Capture::attach(config, unjournaled()).unwrap();
        let open = Plan { links: vec![LinkPlan::healthy(1, 1_000)], ..Plan::default() };
        capture.apply(&open).unwrap();
        assert_eq!(tcp(HOST6, 80), "2001:db8::2", "left alone");
        capture.apply(&Plan { refuse: vec![Family::V6], ..open.clone() }).unwrap();
        for port in [80, 443] {
            assert!(TcpStream::connect(address(HOST6, port)).is_err());
        }
        assert_eq!(tcp(HOST, 80), "10.1.1.2", "the other family goes on");
        run("ip -6 route add 2001:db8:f::/64 via 2001:db8::1 dev wan0");
        capture.refresh().unwrap();
        assert_eq!(tcp(HOST6, 80), "2001:db8::2", "a route of its own");
        run("ip -6 route del 2001:db8:f::/64 via 2001:db8::1 dev wan0");
        let rules = vec![Rule::to(format!("{HOST6}/128").parse().unwrap(), Action::Bypass)];
        capture.apply(&Plan { rules, refuse: vec![Family::V6], ..open }).unwrap();
        assert_eq!(tcp(HOST6, 80), "2001:db8::2", "a rule lets it pass");
        capture.detach().unwrap();
        assert_eq!(run("nft list ruleset"), "");
    });
}

/// A machine behind `lan0`, 192.168.7.2.
fn guest(lab: &Lab) -> Node {
    let guest = Node::new("guest").unwrap();
    let thread = guest.run(|| std::fs::read_link("/proc/thread-self").unwrap());
    let thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
    run(&format!("ip link add lan0 type veth peer name eth0 netns {thread}"));
    run("ip address add 192.168.7.1/24 dev lan0");
    run("ip link set lan0 up");
    guest.run(|| {
        run("ip address add 192.168.7.2/24 dev eth0");
        run("ip link set eth0 up");
        run("ip route add default via 192.168.7.1")
    });
    lab.at_router("ip route");
    guest
}

#[test]
fn a_lans_flows_are_spread_and_move() {
    with_lab("tests::table::a_lans_flows_are_spread_and_move", |lab| {
        let guest = guest(lab);
        for name in ["all", "wan0", "wan1"] {
            run(&format!("sysctl -qw net.ipv4.conf.{name}.rp_filter=1"));
        }
        let config = Config { lan: vec!["lan0".to_owned()], local: false, ..config(Way::Nftables) };
        let mut capture = Capture::attach(config, unjournaled()).unwrap();
        capture.apply(&plan([500, 500])).unwrap();
        let from_guest = |times, port| guest.run(move || share(times, || tcp(HOST, port)));
        assert_eq!(from_guest(10, 80), 5);
        assert!([0, 4].contains(&from_guest(4, 443)));
        assert_eq!(guest.run(|| share(10, || udp_connected(HOST, 80))), 5);
        assert_eq!(share(4, || tcp(HOST, 80)), 4, "this machine's own sockets were not asked for");

        capture.apply(&plan([1_000, 0])).unwrap();
        let flow = guest.run(|| {
            let socket = udp_socket(HOST);
            socket.connect(address(HOST, 80)).unwrap();
            assert_eq!(ask(&socket), "10.1.0.2");
            socket
        });
        lab.silence(0);
        capture.apply(&dead_plan()).unwrap();
        capture.move_link(0, 1).unwrap();
        assert_eq!(ask(&flow), "10.1.1.2");
        assert_eq!(from_guest(4, 443), 0);
        let mut stream = guest.run(|| TcpStream::connect(address(HOST, 80)).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(first_line(&mut stream), "10.1.1.2");
        capture.detach().unwrap();
        assert_eq!(run("sysctl -n net.ipv4.ip_forward"), "0\n");
    });
}
