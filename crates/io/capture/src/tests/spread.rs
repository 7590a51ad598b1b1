//! Which link sockets leave by, in the eBPF way.

use std::net::{TcpStream, UdpSocket};
use std::thread;

use super::lab::{
    HOST, HOST6, PATIENCE, address, capture, config, plan, run, share, tcp, udp_connected, udp_sent,
    udp_socket, unjournaled, with_ebpf,
};
use bondwire_netctl::Family;

use crate::{Action, Capture, Config, Event, LinkName, LinkPlan, Plan, Protocol, Reason, Rule, Way};

#[test]
fn sockets_are_spread_by_weight_each_with_its_links_address() {
    with_ebpf("tests::spread::sockets_are_spread_by_weight_each_with_its_links_address", |_| {
        let mut capture = capture(Way::Ebpf);
        assert_eq!(share(4, || tcp(HOST, 80)), 4, "nothing is captured before the first plan");
        capture.apply(&plan([700, 300])).unwrap();
        for host in [HOST, HOST6] {
            assert_eq!(share(40, || tcp(host, 80)), 28);
            assert_eq!(share(40, || udp_connected(host, 80)), 28);
            assert_eq!(share(40, || udp_sent(&udp_socket(host), host, 80)), 28);
        }
        // The sum of two links as each second socket: no run of the same.
        capture.apply(&plan([500, 500])).unwrap();
        for _ in 0..4 {
            assert_eq!(share(2, || tcp(HOST, 80)), 1);
        }
        capture.detach().unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
    });
}

#[test]
fn shares_are_exact_while_many_connect_and_plans_change() {
    with_ebpf("tests::spread::shares_are_exact_while_many_connect_and_plans_change", |_| {
        let mut capture = capture(Way::Ebpf);
        let first = plan([700, 300]);
        capture.apply(&first).unwrap();
        let threads: Vec<_> =
            (0..4).map(|_| thread::spawn(|| share(250, || udp_connected(HOST, 80)))).collect();
        let mut changes = 0;
        while !threads.iter().all(thread::JoinHandle::is_finished) {
            changes += 1;
            let rules = vec![Rule::to("192.0.2.0/24".parse().unwrap(), Action::Bypass); changes % 3];
            capture
                .apply(&Plan {
                    rules,
                    sticky_ports: vec![443, 1_000 + (changes % 100) as u16],
                    ..first.clone()
                })
                .unwrap();
            while capture.poll_event().is_some() {}
            thread::yield_now();
        }
        let by_wan0: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        // Four sockets may be on their way to a link while the next ones choose.
        assert!(by_wan0.abs_diff(700) <= 4, "{by_wan0} of 1,000 by the link of weight 700");
        assert!(changes > 0);
    });
}

#[test]
fn a_socket_that_only_sends_keeps_its_link() {
    with_ebpf("tests::spread::a_socket_that_only_sends_keeps_its_link", |_| {
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([500, 500])).unwrap();
        for _ in 0..4 {
            let socket = udp_socket(HOST);
            let first = udp_sent(&socket, HOST, 80);
            for site in 1..=10 {
                assert_eq!(udp_sent(&socket, &format!("203.0.113.{site}"), 80), first);
            }
        }
    });
}

#[test]
fn a_socket_that_is_older_stays_where_it_is() {
    with_ebpf("tests::spread::a_socket_that_is_older_stays_where_it_is", |_| {
        let older = udp_socket(HOST);
        assert_eq!(udp_sent(&older, HOST, 80), "10.1.0.2");
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([0, 1_000])).unwrap();
        assert_eq!(udp_sent(&older, HOST, 80), "10.1.0.2");
        assert_eq!(udp_sent(&udp_socket(HOST), HOST, 80), "10.1.1.2");
        // Receiving first makes a server only of what never sent, be it to a neighbour.
        let talker = udp_socket(HOST);
        assert_eq!(udp_sent(&talker, "10.1.0.1", 80), "10.1.0.2");
        assert_eq!(udp_sent(&talker, HOST, 80), "10.1.1.2");
    });
}

#[test]
fn port_443_sticks_to_one_link_for_each_address() {
    with_ebpf("tests::spread::port_443_sticks_to_one_link_for_each_address", |_| {
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([500, 500])).unwrap();
        let sites: Vec<String> = (1..=20).map(|site| format!("203.0.113.{site}")).collect();
        let first: Vec<String> = sites.iter().map(|site| tcp(site, 443)).collect();
        let by_wan0 = first.iter().filter(|seen| *seen == "10.1.0.2").count();
        assert_eq!(by_wan0, 10);
        for (site, first) in sites.iter().zip(&first) {
            assert_eq!(tcp(site, 443), *first);
            assert_eq!(udp_connected(site, 443), *first);
        }
        // A full link lets its sites go, and they stay where they went.
        let mut full = plan([500, 500]);
        full.links[0].open = false;
        full.links[0].keeps_sites = false;
        capture.apply(&full).unwrap();
        assert_eq!(share(4, || tcp(&sites[0], 443)), 0);
        capture.apply(&plan([500, 500])).unwrap();
        assert_eq!(share(4, || tcp(&sites[0], 443)), 0);
    });
}

#[test]
fn a_site_that_sticks_owes_the_others_a_few_turns_and_no_more() {
    with_ebpf("tests::spread::a_site_that_sticks_owes_the_others_a_few_turns_and_no_more", |_| {
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([500, 500])).unwrap();
        let stuck = share(60, || tcp(HOST, 443));
        assert!([0, 60].contains(&stuck));
        let after = share(40, || tcp(HOST, 80));
        let (few, many) = (8, 19);
        let on_the_same = if stuck == 60 { after } else { 40 - after };
        assert!((few..=many).contains(&on_the_same), "{on_the_same} of 40 on the site's link");
        assert_eq!(share(40, || tcp(HOST, 80)), 20);
    });
}

#[test]
fn rules_come_before_weights_and_the_first_one_decides() {
    with_ebpf("tests::spread::rules_come_before_weights_and_the_first_one_decides", |_| {
        let mut capture = capture(Way::Ebpf);
        let any =
            Rule { to: None, ports: None, protocol: None, uid: None, command: None, action: Action::Bypass };
        let mut rules = vec![
            Rule {
                ports: Some(443..=443),
                protocol: Some(Protocol::Tcp),
                action: Action::Only(1),
                ..any.clone()
            },
            Rule::to("203.0.113.0/30".parse().unwrap(), Action::Bypass),
            Rule::to("203.0.113.4/32".parse().unwrap(), Action::Use(1)),
            Rule {
                to: Some("203.0.113.5/32".parse().unwrap()),
                protocol: Some(Protocol::Udp),
                ..any.clone()
            },
            Rule {
                uid: Some(0),
                to: Some("203.0.113.6/32".parse().unwrap()),
                action: Action::Avoid(0),
                ..any.clone()
            },
        ];
        let me = std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim().to_owned();
        let mine = Rule { command: Some(me), action: Action::Use(1), ..any.clone() };
        let others = Rule { command: Some("others".to_owned()), ..mine.clone() };
        let with = |address: &str, rule: &Rule| Rule { to: Some(address.parse().unwrap()), ..rule.clone() };
        let refused = Rule { action: Action::Refuse, ..any.clone() };
        let plain = Rule { action: Action::Choose, ports: Some(80..=80), ..any };
        rules.extend([
            with("203.0.113.7/32", &mine),
            with("203.0.113.8/32", &others),
            with("203.0.113.9/32", &refused),
            with("203.0.113.10/32", &plain),
            Rule::to("203.0.113.10/32".parse().unwrap(), Action::Only(1)),
        ]);
        capture.apply(&Plan { rules, ..plan([500, 500]) }).unwrap();
        assert_eq!(share(4, || tcp("203.0.113.7", 80)), 0);
        assert_eq!(share(4, || tcp("203.0.113.8", 80)), 2);
        let error = TcpStream::connect(address("203.0.113.9", 80)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied);
        assert!(udp_socket(HOST).send_to(b"who", address("203.0.113.9", 80)).is_err());
        assert_eq!(share(4, || tcp("203.0.113.10", 80)), 2);
        assert_eq!(share(4, || udp_sent(&udp_socket(HOST), "203.0.113.10", 443)), 0);
        assert_eq!(share(4, || tcp("203.0.113.1", 443)), 0);
        assert_eq!(share(4, || tcp("203.0.113.1", 80)), 4);
        assert_eq!(share(4, || tcp("203.0.113.4", 80)), 0);
        assert_eq!(share(4, || udp_sent(&udp_socket(HOST), "203.0.113.5", 80)), 4);
        assert_eq!(share(4, || tcp("203.0.113.5", 80)), 2);
        assert_eq!(share(4, || tcp("203.0.113.6", 80)), 0);
    });
}

#[test]
fn what_is_not_ours_is_left_alone() {
    with_ebpf("tests::spread::what_is_not_ours_is_left_alone", |lab| {
        run("ip route add 203.0.113.9/32 via 10.1.0.1 dev wan0");
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([0, 1_000])).unwrap();
        assert_eq!(share(2, || tcp(HOST, 80)), 0);
        assert_eq!(share(2, || tcp("203.0.113.9", 80)), 2, "a route of its own");
        run("ip route add 203.0.113.10/32 via 10.1.0.1 dev wan0");
        assert_eq!(share(2, || tcp("203.0.113.10", 80)), 2, "even before anyone looked");
        capture.refresh().unwrap();
        assert_eq!(share(2, || tcp("203.0.113.10", 80)), 2);
        let bound = UdpSocket::bind("10.1.0.2:0").unwrap();
        bound.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(udp_sent(&bound, HOST, 80), "10.1.0.2", "a source that was chosen");
        // A server answers whoever asks it, wherever that comes from.
        let server = UdpSocket::bind("0.0.0.0:7").unwrap();
        let asking = lab.router.run(|| UdpSocket::bind("203.0.113.3:0").unwrap());
        asking.set_read_timeout(Some(PATIENCE)).unwrap();
        asking.send_to(b"ask", address("10.1.0.2", 7)).unwrap();
        let (_, from) = server.recv_from(&mut [0; 8]).unwrap();
        server.send_to(b"answer", from).unwrap();
        assert_eq!(asking.recv_from(&mut [0; 8]).unwrap().1, address("10.1.0.2", 7));
        // The other namespace's own sockets, here the router's, with the same cgroup.
        while capture.poll_event().is_some() {}
        let stream = lab
            .router
            .run(|| thread::spawn(|| TcpStream::connect(("203.0.113.1", 80)).unwrap()).join().unwrap());
        drop(stream);
        assert_eq!(capture.poll_event(), None);
    });
}

#[test]
fn the_capturing_process_itself_is_spared() {
    with_ebpf("tests::spread::the_capturing_process_itself_is_spared", |_| {
        let mut capture =
            Capture::attach(Config { spare_self: true, ..config(Way::Ebpf) }, unjournaled()).unwrap();
        capture.apply(&plan([0, 1_000])).unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
        assert_eq!(share(4, || udp_sent(&udp_socket(HOST), HOST, 80)), 4);
    });
}

#[test]
fn events_tell_of_each_socket() {
    with_ebpf("tests::spread::events_tell_of_each_socket", |_| {
        let mut capture = capture(Way::Ebpf);
        capture.apply(&Plan { links: vec![LinkPlan::healthy(1, 1_000)], ..plan([0, 0]) }).unwrap();
        assert_eq!(tcp(HOST, 80), "10.1.1.2");
        let mut events = Vec::new();
        let deadline = std::time::Instant::now() + PATIENCE;
        while !matches!(events.last(), Some(Event::Closed { .. })) {
            assert!(std::time::Instant::now() < deadline, "{events:?}");
            events.extend(capture.poll_event());
        }
        let [
            Event::Opened { socket, .. },
            Event::Connected { cookie, slot, local, remote, rtt, .. },
            Event::Closed { cookie: closed, bytes_down, connecting, .. },
        ] = events.as_slice()
        else {
            panic!("{events:?}")
        };
        assert_eq!((socket.cookie, socket.slot, socket.reason), (*cookie, 1, Reason::Weight));
        assert_eq!((socket.protocol, socket.remote, socket.uid), (Protocol::Tcp, address(HOST, 80), 0));
        assert!(socket.pid > 0 && !socket.command.is_empty());
        assert_eq!((*slot, local.ip(), *remote), (1, address("10.1.1.2", 0).ip(), address(HOST, 80)));
        assert!(rtt.as_micros() > 0 && rtt.as_secs() < 1);
        assert_eq!((*closed, *bytes_down >= 9, *connecting), (*cookie, true, false));
        assert_eq!(capture.lost_events(), 0);
    });
}

/// Links without IPv6, beside one that has it and may not be used.
#[test]
fn a_family_that_no_link_has_is_refused_where_the_plan_says_so() {
    with_ebpf("tests::spread::a_family_that_no_link_has_is_refused_where_the_plan_says_so", |_| {
        let links = vec![LinkName { slot: 1, name: "wan1".to_owned() }];
        run("ip -6 route del default dev wan1");
        run("ip -6 route add 2001:db8:e::/64 via 2001:db8::1 dev wan0");
        let config = Config { links, ..config(Way::Ebpf) };
        let mut capture = Capture::attach(config, unjournaled()).unwrap();
        let open = Plan { links: vec![LinkPlan::healthy(1, 1_000)], ..Plan::default() };
        capture.apply(&open).unwrap();
        assert_eq!(tcp(HOST6, 80), "2001:db8::2", "left alone");
        capture.apply(&Plan { refuse: vec![Family::V6], ..open.clone() }).unwrap();
        let refused = |result: std::io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
        };
        refused(TcpStream::connect(address(HOST6, 80)).map(drop));
        refused(udp_socket(HOST6).connect(address(HOST6, 80)));
        refused(udp_socket(HOST6).send_to(b"who", address(HOST6, 80)).map(drop));
        assert_eq!(tcp(HOST, 80), "10.1.1.2", "the other family goes on");
        // What has a route of its own leaves by that one, and what a rule lets pass by its default.
        udp_socket(HOST6).send_to(b"who", address("2001:db8:e::1", 80)).unwrap();
        let rules = vec![Rule::to(format!("{HOST6}/128").parse().unwrap(), Action::Bypass)];
        capture.apply(&Plan { rules, refuse: vec![Family::V6], ..open.clone() }).unwrap();
        assert_eq!(tcp(HOST6, 80), "2001:db8::2");
        // A link has it again.
        run("ip -6 route add default via 2001:db8:1::1 dev wan1 metric 101");
        capture.refresh().unwrap();
        capture.apply(&Plan { refuse: vec![Family::V6], ..open }).unwrap();
        assert_eq!(tcp(HOST6, 80), "2001:db8:1::2");
    });
}

/// Nobody but the program sees what a socket sends that does not connect.
#[test]
fn a_socket_that_goes_on_sending_is_told() {
    with_ebpf("tests::spread::a_socket_that_goes_on_sending_is_told", |_| {
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([1_000, 0])).unwrap();
        let socket = udp_socket(HOST);
        assert_eq!(udp_sent(&socket, HOST, 80), "10.1.0.2");
        let Some(Event::Opened { socket: opened, .. }) = capture.poll_event() else { panic!("not told") };
        assert_eq!(capture.poll_event(), None);
        let deadline = std::time::Instant::now() + 3 * PATIENCE;
        loop {
            // Each waits for its answer.
            udp_sent(&socket, HOST, 80);
            match capture.poll_event() {
                Some(Event::Active { cookie, .. }) => {
                    assert_eq!(cookie, opened.cookie);
                    break;
                }
                Some(other) => panic!("{other:?}"),
                None => assert!(std::time::Instant::now() < deadline, "it is not told"),
            }
        }
    });
}
