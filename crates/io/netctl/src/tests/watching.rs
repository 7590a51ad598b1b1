use std::os::fd::{AsFd, AsRawFd};

use super::lab::{in_namespace, run, two_links};
use crate::{LinkEvent, LinkKind, Netlink, Watcher};

/// Waits for events that `wanted` accepts, at most five seconds.
#[allow(unsafe_code, reason = "waiting for a descriptor has no safe form in std")]
fn wait_for(watcher: &mut Watcher, what: &str, wanted: impl Fn(&LinkEvent) -> bool) {
    for _ in 0..50 {
        let mut poll = libc::pollfd { fd: watcher.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one initialised pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, 5_000) };
        assert_eq!(ready, 1, "nothing was told: {what}");
        if watcher.poll().unwrap().iter().any(&wanted) {
            return;
        }
    }
    panic!("not told: {what}");
}

#[test]
fn links_are_listed() {
    in_namespace("tests::watching::links_are_listed", || {
        let _router = two_links();
        let mut netlink = Netlink::open().unwrap();
        let link = netlink.link("wan1").unwrap();
        assert_eq!(link.v4().unwrap().to_string(), "10.1.1.2");
        assert_eq!(link.v6().unwrap().to_string(), "2001:db8:1::2");
        let gateway = link.gateway4.unwrap();
        assert_eq!((gateway.via.unwrap().to_string().as_str(), gateway.metric), ("10.1.1.1", 101));
        assert_eq!(link.gateway6.unwrap().via.unwrap().to_string(), "2001:db8:1::1");
        assert_eq!(
            (link.mtu, link.kind, link.is_up, link.has_carrier),
            (1_500, LinkKind::Ethernet, true, true)
        );
        assert_eq!(link.index, netlink.index_of("wan1").unwrap());
        let candidates: Vec<String> =
            netlink.links().unwrap().into_iter().filter(|link| link.is_candidate()).map(|l| l.name).collect();
        assert_eq!(candidates, ["wan0", "wan1"]);
    });
}

#[test]
fn events_are_told() {
    in_namespace("tests::watching::events_are_told", || {
        let mut watcher = Watcher::open().unwrap();
        assert_eq!(watcher.poll().unwrap(), []);
        assert!(watcher.links().any(|link| link.is_loopback));
        assert!(!watcher.take_noticed());
        run("ip link add wan5 type veth peer name isp5");
        wait_for(&mut watcher, "appeared", |e| matches!(e, LinkEvent::Added(link) if link.name == "wan5"));
        run("ip link set isp5 up");
        run("ip link set wan5 up");
        wait_for(
            &mut watcher,
            "carrier",
            |e| matches!(e, LinkEvent::Changed { now, .. } if now.name == "wan5" && now.has_carrier),
        );
        run("ip address add 10.5.0.2/24 dev wan5");
        wait_for(
            &mut watcher,
            "address",
            |e| matches!(e, LinkEvent::Changed { before, now } if before.v4().is_none() && now.v4().is_some()),
        );
        run("ip route add default via 10.5.0.1 dev wan5");
        wait_for(
            &mut watcher,
            "gateway",
            |e| matches!(e, LinkEvent::Changed { now, .. } if now.gateway4.is_some() && now.is_candidate()),
        );
        run("ip link set isp5 down");
        wait_for(
            &mut watcher,
            "carrier lost",
            |e| matches!(e, LinkEvent::Changed { now, .. } if now.name == "wan5" && !now.has_carrier),
        );
        run("ip link del wan5");
        wait_for(&mut watcher, "gone", |e| matches!(e, LinkEvent::Removed(link) if link.name == "wan5"));
    });
}

/// A VPN's route to a network changes no link, and decides what is led there all the same.
#[test]
fn a_route_that_belongs_to_no_link_is_noticed() {
    in_namespace("tests::watching::a_route_that_belongs_to_no_link_is_noticed", || {
        let _router = two_links();
        let mut watcher = Watcher::open().unwrap();
        watcher.poll().unwrap();
        watcher.take_noticed();
        run("ip route add 198.51.100.0/24 via 10.1.0.1 dev wan0");
        assert_eq!(watcher.poll().unwrap(), []);
        assert!(watcher.take_noticed() && !watcher.take_noticed());
        let routes = watcher.routes().unwrap();
        assert!(routes.iter().any(|route| route.to.to_string() == "198.51.100.0/24"));
    });
}
