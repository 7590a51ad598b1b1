use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use bondwire_packet::Batch;
use bondwire_udp::{Datagram, LinkConfig, LinkSocket, ServerConfig, ServerSocket};

use super::lab::{assert_same, in_namespace, is_inside, picture, run, tunnel_stand_in, two_links};
use crate::{Change, Changes, Forwarding, Ipv6Policy, NetError, foreign_firewalls};

const ECHO_PORT: u16 = 4_000;

/// Not a test by itself: the other side of `bound_sockets_use_their_link`.
#[test]
fn echo() {
    if !is_inside("tests::plans::echo") {
        return;
    }
    let mut socket = ServerSocket::bind(&ServerConfig::all_addresses(ECHO_PORT)).unwrap();
    println!("ready");
    while is_readable(&socket, 20_000) {
        let (mut questions, mut answers) = (Batch::default(), Batch::default());
        socket.recv_batch(&mut questions, |from, _| from).unwrap();
        for (_, from) in questions.iter() {
            answers.push(from.remote.ip().to_string().as_bytes(), *from);
        }
        socket.send_batch(&answers, 0..answers.len(), |to| *to);
    }
}

/// Sends over a link's socket to the echo, and gives the source address that the echo saw.
fn ask(link: &str, local: IpAddr, remote: IpAddr) -> String {
    let mut socket = LinkSocket::open(&LinkConfig::new(link, local)).unwrap();
    let to = Datagram { remote: SocketAddr::new(remote, ECHO_PORT), local: None };
    let mut batch = Batch::default();
    batch.push(b"where do I come from?", to);
    let mut answer = Batch::default();
    // The first packets may be lost to neighbour discovery.
    for _ in 0..50 {
        let outcome = socket.send_batch(&batch, 0..1, |to| *to);
        assert!(outcome.errors.is_empty(), "{link}: {outcome:?}");
        if is_readable(&socket, 100) {
            socket.recv_batch(&mut answer, |from, _| from).unwrap();
            let (bytes, from) = answer.get(0).unwrap();
            assert_eq!(from.remote, to.remote);
            return String::from_utf8(bytes.to_vec()).unwrap();
        }
    }
    panic!("no answer over {link} from {local}");
}

#[allow(unsafe_code, reason = "waiting for a descriptor has no safe form in std")]
fn is_readable(socket: &impl AsFd, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: socket.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised pollfd.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) == 1 }
}

#[test]
fn bound_sockets_use_their_link() {
    in_namespace("tests::plans::bound_sockets_use_their_link", || {
        let router = two_links();
        tunnel_stand_in();
        for conf in ["all", "wan0", "wan1", "bwtun"] {
            run(&format!("sysctl -qw net.ipv4.conf.{conf}.rp_filter=1"));
        }
        // Another VPN, as its tools set it up: everything without its mark goes into its table, where nothing passes.
        for ip in ["ip", "ip -6"] {
            run(&format!("{ip} route add unreachable default table 51820"));
            run(&format!("{ip} rule add not fwmark 51820 table 51820 priority 32764"));
        }
        let mut echo = router.start_self("tests::plans::echo");
        let mut changes = Changes::unjournaled().unwrap();
        changes.route_link("wan0").unwrap();
        changes.route_link("wan1").unwrap();
        changes.default_through("bwtun", Ipv6Policy::Through).unwrap();
        for link in 0..2 {
            let name = format!("wan{link}");
            for (local, remote) in [
                (format!("10.1.{link}.2"), "203.0.113.1"),
                (format!("2001:db8:{link}::2"), "2001:db8:f::1"),
                (format!("10.1.{link}.2"), &format!("10.1.{link}.1")),
            ] {
                let local: IpAddr = local.parse().unwrap();
                let seen = ask(&name, local, remote.parse().unwrap());
                assert_eq!(seen, local.to_string(), "over {name} to {remote}");
            }
        }
        assert!(run("ip route get 198.51.100.7").contains("dev bwtun"));
        assert!(run("ip route get 2001:db8:77::7").contains("dev bwtun"));
        assert!(run("ip route get 10.1.1.1").contains("dev wan1"), "specific routes stay in force");
        assert!(run("ip route get 198.51.100.7 from 10.1.1.2").contains("via 10.1.1.1 dev wan1"));
        assert!(changes.rule_conflicts().unwrap().is_empty());
        echo.kill().unwrap();
        echo.wait().unwrap();
    });
}

#[test]
fn undo_leaves_all_as_it_was() {
    in_namespace("tests::plans::undo_leaves_all_as_it_was", || {
        let _router = two_links();
        tunnel_stand_in();
        run("ip rule add from 192.0.2.0/24 lookup 200 priority 5200");
        let state = tempfile::tempdir().unwrap();
        let before = picture();
        let (mut changes, _) = Changes::open(state.path()).unwrap();
        changes.route_link("wan0").unwrap();
        changes.route_link("wan1").unwrap();
        changes.default_through("bwtun", Ipv6Policy::Refuse).unwrap();
        let networks = vec!["10.99.0.0/24".parse().unwrap(), "fd99::/64".parse().unwrap()];
        let forwarding = Forwarding { tunnel: "bwtun".to_owned(), networks, nat: true };
        changes.forwarding_and_nat(&forwarding).unwrap();
        let during = picture();
        for expected in ["oif wan0", "unreachable default", "table inet bondwire", "masquerade"] {
            assert!(during.contains(expected), "{expected} is missing in\n{during}");
        }
        assert!(run("ip route get 198.51.100.7").contains("dev bwtun"));
        assert_eq!(changes.undo().len(), 0);
        assert_same(&before, &picture());
        assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "a journal is left");
    });
}

#[test]
fn the_same_again_changes_nothing() {
    in_namespace("tests::plans::the_same_again_changes_nothing", || {
        let _router = two_links();
        tunnel_stand_in();
        let mut changes = Changes::unjournaled().unwrap();
        let networks = vec!["10.99.0.0/24".parse().unwrap()];
        let forwarding = Forwarding { tunnel: "bwtun".to_owned(), networks, nat: true };
        let all = |changes: &mut Changes| {
            changes.route_link("wan0").unwrap();
            changes.default_through("bwtun", Ipv6Policy::Through).unwrap();
            changes.forwarding_and_nat(&forwarding).unwrap();
            picture()
        };
        let once = all(&mut changes);
        assert_same(&once, &all(&mut changes));
        let rules = changes.netlink().own_rules().unwrap();

        // With the link the kernel takes its routes away; they have to come back with it.
        run("ip link set wan0 down");
        changes.route_link("wan0").unwrap();
        run("ip link set wan0 up");
        run("ip address add 2001:db8:0::2/64 dev wan0 nodad");
        run("ip route add default via 10.1.0.1 dev wan0 metric 100");
        run("ip -6 route add default via 2001:db8:0::1 dev wan0 metric 100");
        changes.route_link("wan0").unwrap();
        assert!(run("ip route get 198.51.100.7 from 10.1.0.2").contains("via 10.1.0.1 dev wan0"));
        assert_eq!(rules, changes.netlink().own_rules().unwrap());
    });
}

#[test]
fn a_new_address_replaces_the_old_ones_rules() {
    in_namespace("tests::plans::a_new_address_replaces_the_old_ones_rules", || {
        let _router = two_links();
        let mut changes = Changes::unjournaled().unwrap();
        let table = changes.route_link("wan1").unwrap();
        run("ip address del 10.1.1.2/24 dev wan1");
        run("ip address add 10.1.1.77/24 dev wan1");
        run("ip route add default via 10.1.1.1 dev wan1 metric 101");
        assert_eq!(changes.route_link("wan1").unwrap(), table);
        let rules = run("ip rule");
        assert!(rules.contains("from 10.1.1.77 ") && !rules.contains("from 10.1.1.2 "), "{rules}");
        changes.unroute_link("wan1").unwrap();
        assert_eq!(changes.netlink().own_rules().unwrap(), 0);
    });
}

#[test]
fn what_was_there_before_stays() {
    in_namespace("tests::plans::what_was_there_before_stays", || {
        let _router = two_links();
        let mut netlink = crate::Netlink::open().unwrap();
        let rule = crate::Rule::lookup(crate::Family::V4, 5_000, 254);
        netlink.add_rule(&rule).unwrap();
        let before = picture();
        let mut changes = Changes::unjournaled().unwrap();
        changes.sync("test", &[Change::Rule(rule)]).unwrap();
        drop(changes);
        assert_same(&before, &picture());
    });
}

#[test]
fn a_rule_before_ours_is_reported() {
    in_namespace("tests::plans::a_rule_before_ours_is_reported", || {
        run("ip rule add lookup 200 priority 100");
        run("ip rule add not fwmark 7 lookup 200 priority 101");
        let conflicts = Changes::unjournaled().unwrap().rule_conflicts().unwrap();
        assert_eq!(conflicts.len(), 1, "{conflicts:?}");
        assert!(conflicts[0].contains("ip rule del priority 100"), "{conflicts:?}");
    });
}

#[test]
fn a_firewall_that_drops_is_named() {
    in_namespace("tests::plans::a_firewall_that_drops_is_named", || {
        run("nft add table ip filter");
        run("nft add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }");
        let warnings = foreign_firewalls("bwtun");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert_eq!((warnings[0].table.as_str(), warnings[0].chain.as_str()), ("ip filter", "FORWARD"));
        for command in &warnings[0].remedy {
            run(command);
        }
        assert_eq!(foreign_firewalls("bwtun"), []);
    });
}

#[test]
fn an_unknown_link_is_named() {
    in_namespace("tests::plans::an_unknown_link_is_named", || {
        let mut changes = Changes::unjournaled().unwrap();
        for name in ["wan9", "a-name-that-is-too-long-for-a-link"] {
            let error = changes.route_link(name).unwrap_err();
            assert!(matches!(&error, NetError::NoSuchLink { name: n } if n == name), "{error:?}");
            let error = changes.default_through(name, Ipv6Policy::Leave).unwrap_err();
            assert!(matches!(error, NetError::NoSuchLink { .. }), "{error:?}");
        }
        assert_eq!(changes.netlink().own_rules().unwrap(), 0);
    });
}
