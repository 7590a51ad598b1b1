//! Questions to resolvers that go to a forwarder of our own, unseen; and those that do not.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::thread;

use super::lab::{
    HOST, HOST6, PATIENCE, address, ask, config, plan, run, share, udp_sent, udp_socket, unjournaled,
    with_ebpf,
};
use crate::{Action, Capture, Config, DnsRedirect, Plan, Rule, Way};

/// A forwarder on each family's loopback that answers anything with its own name, and a capture that redirects questions to these resolvers.
fn redirected(resolvers: &[&str]) -> Capture {
    let forwarders = ["127.0.0.1:0", "[::1]:0"].map(|local| UdpSocket::bind(local).unwrap());
    let places = forwarders.each_ref().map(|socket| socket.local_addr().unwrap());
    for socket in forwarders {
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(b"forwarder", from);
            }
        });
    }
    let [SocketAddr::V4(v4), SocketAddr::V6(v6)] = places else { unreachable!("one of each was bound") };
    let dns = Some(DnsRedirect { v4: Some(v4), v6: Some(v6) });
    let mut capture = Capture::attach(Config { dns, ..config(Way::Ebpf) }, unjournaled()).unwrap();
    let resolvers: Vec<IpAddr> = resolvers.iter().map(|text| text.parse().unwrap()).collect();
    capture.set_resolvers(&resolvers).unwrap();
    capture.apply(&plan([500, 500])).unwrap();
    capture
}

/// Who answers a question, by a socket that only sends and by one that connects: the same one.
fn answered(resolver: &str) -> String {
    let sent = udp_sent(&udp_socket(resolver), resolver, 53);
    let connected = udp_socket(resolver);
    connected.connect(address(resolver, 53)).unwrap();
    assert_eq!(ask(&connected), sent);
    sent
}

#[test]
fn questions_reach_the_forwarder_and_seem_answered_by_the_resolver() {
    with_ebpf("tests::dns::questions_reach_the_forwarder_and_seem_answered_by_the_resolver", |_| {
        let _capture = redirected(&[HOST, HOST6, "10.1.0.1"]);
        // The last one is a link's own router.
        for resolver in [HOST, HOST6, "10.1.0.1"] {
            let mut buffer = [0; 64];
            let loose = udp_socket(resolver);
            loose.send_to(b"name?", address(resolver, 53)).unwrap();
            let (length, from) = loose.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"forwarder"[..], address(resolver, 53)));

            let connected = udp_socket(resolver);
            connected.connect(address(resolver, 53)).unwrap();
            connected.send(b"name?").unwrap();
            let (length, from) = connected.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"forwarder"[..], address(resolver, 53)));
            assert_eq!(connected.peer_addr().unwrap(), address(resolver, 53));
        }
        // An IPv6 socket that asks an IPv4 resolver.
        let both = UdpSocket::bind("[::]:0").unwrap();
        both.set_read_timeout(Some(PATIENCE)).unwrap();
        both.send_to(b"name?", address("::ffff:203.0.113.1", 53)).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = both.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"forwarder"[..], address("::ffff:203.0.113.1", 53)));
    });
}

/// `dig @authoritative`, a recursive resolver on this machine: whom they ask is nobody's resolver.
#[test]
fn questions_to_others_than_the_systems_resolvers_go_where_they_are_sent() {
    with_ebpf("tests::dns::questions_to_others_than_the_systems_resolvers_go_where_they_are_sent", |_| {
        let mut capture = redirected(&["203.0.113.2"]);
        assert_eq!(answered("203.0.113.2"), "forwarder");
        // They are sockets like any other, and spread.
        assert_eq!(share(4, || udp_sent(&udp_socket(HOST), "203.0.113.3", 53)), 2);
        // Resolvers change.
        capture.set_resolvers(&["203.0.113.3".parse().unwrap()]).unwrap();
        assert_eq!(share(4, || udp_sent(&udp_socket(HOST), "203.0.113.2", 53)), 2);
        assert_eq!(answered("203.0.113.3"), "forwarder");
    });
}

#[test]
fn routes_and_rules_come_before_the_redirect() {
    with_ebpf("tests::dns::routes_and_rules_come_before_the_redirect", |_| {
        let resolvers: Vec<String> = (2..=7).map(|site| format!("203.0.113.{site}")).collect();
        let resolvers: Vec<&str> = resolvers.iter().map(String::as_str).collect();
        let mut capture = redirected(&[&resolvers[..], &["10.1.0.1"]].concat());
        assert!(resolvers.iter().all(|resolver| answered(resolver) == "forwarder"));
        // A VPN's resolver, in what is not a link's own network.
        run("ip route add 203.0.113.2/32 via 10.1.1.1 dev wan1");
        // A single neighbour of a link's is reached another way: its network is not what leads there.
        run("ip route add 10.1.0.1/32 via 10.1.1.1 dev wan1");
        capture.refresh().unwrap();
        assert_eq!(answered("203.0.113.2"), "10.1.1.2");
        assert_eq!(answered("10.1.0.1"), "10.1.1.2");
        run("ip route del 10.1.0.1/32 via 10.1.1.1 dev wan1");
        capture.refresh().unwrap();
        assert_eq!(answered("10.1.0.1"), "forwarder");
        let rule = |resolver: &str, action| Rule::to(format!("{resolver}/32").parse().unwrap(), action);
        let ports = Rule { ports: Some(53..=53), ..rule(resolvers[5], Action::Bypass) };
        let rules = vec![
            rule(resolvers[1], Action::Bypass),
            rule(resolvers[2], Action::Only(1)),
            rule(resolvers[3], Action::Refuse),
            rule(resolvers[4], Action::Choose),
            ports,
        ];
        capture.apply(&Plan { rules, ..plan([500, 500]) }).unwrap();
        assert_eq!(answered(resolvers[1]), "10.1.0.2", "where the main table leads");
        assert_eq!(answered(resolvers[2]), "10.1.1.2");
        assert!(udp_socket(HOST).send_to(b"name?", address(resolvers[3], 53)).is_err());
        assert_eq!(answered(resolvers[4]), "forwarder", "a rule that changes nothing");
        assert_eq!(answered(resolvers[5]), "10.1.0.2");
    });
}
