//! Priorities and limits of links, as the two ends agree on them.

#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    dead_code,
    missing_docs,
    missing_debug_implementations,
    reason = "test harness"
)]
mod net;

use bondwire_bond::*;
use bondwire_units::{Bitrate, LinkId};
use core::time::Duration;
use net::{Net, Side};

const BACKUP: LinkRules = LinkRules { priority: LinkPriority::Backup, limit_up: None, limit_down: None };

/// The server's view of the path over a link: its address tells which.
fn at_server(net: &mut Net, link: u32) -> PathStatus {
    let now = net.now;
    let paths = net.server.status(now).sessions.remove(0).paths;
    let of = |path: &PathStatus| matches!(path.remote.ip(), core::net::IpAddr::V4(ip) if u32::from(ip.octets()[3]) == link);
    paths.into_iter().find(of).expect("a path")
}

fn at_client(net: &mut Net, link: u32) -> PathStatus {
    net.client_status().paths.into_iter().find(|path| path.link == LinkId(link)).expect("a path")
}

#[test]
fn the_server_knows_from_the_first_packet_on() {
    let mut net = Net::new(2);
    net.client.set_link_rules(LinkId(1), BACKUP, net.now);
    net.run(Duration::from_millis(500));
    assert!(at_server(&mut net, 1).standby && at_client(&mut net, 1).standby);
    assert!(!at_server(&mut net, 2).standby && !at_client(&mut net, 2).standby);
    let before = [at_client(&mut net, 1), at_server(&mut net, 1)].map(|path| path.bytes_tx.get());
    for i in 0..500 {
        net.send_tcp(Side::Client, i);
        net.send_tcp(Side::Server, i);
        net.run(Duration::from_millis(2));
    }
    net.run(Duration::from_millis(300));
    let after = [at_client(&mut net, 1), at_server(&mut net, 1)].map(|path| path.bytes_tx.get());
    assert!(after[0] - before[0] < 300 && after[1] - before[1] < 300, "{before:?} {after:?}");
    assert_eq!(net.delivered(Side::Server).len() + net.delivered(Side::Client).len(), 1_000);
}

#[test]
fn a_change_arrives_although_packets_are_lost() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    net.send_tcp(Side::Client, 0);
    net.run(Duration::from_millis(100));
    // Lost with all that is sent within the next 40 ms.
    net.links.iter_mut().for_each(|link| link.up = false);
    let rules = LinkRules { limit_down: Some(Bitrate::from_mbps(3.0)), ..BACKUP };
    net.client.set_link_rules(LinkId(1), rules, net.now);
    net.run(Duration::from_millis(40));
    net.links.iter_mut().for_each(|link| link.up = true);
    for i in 1..300 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_millis(300));
    assert_eq!(at_server(&mut net, 1).priority, LinkPriority::Backup);
    assert_eq!(net.delivered(Side::Server), (0..300).collect::<Vec<_>>());
    net.client.set_link_rules(LinkId(1), LinkRules::default(), net.now);
    net.run(Duration::from_secs(1));
    assert_eq!(at_server(&mut net, 1).priority, LinkPriority::Always);
}

#[test]
fn a_new_session_keeps_the_rules() {
    let mut net = Net::new(2);
    net.client.set_link_rules(LinkId(2), BACKUP, net.now);
    net.run(Duration::from_millis(500));
    net.restart_server();
    for i in 0..100 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(100));
    }
    assert!(net.client_events.iter().filter(|e| matches!(e, ClientEvent::Established(_))).count() >= 2);
    assert!(at_server(&mut net, 2).standby && at_client(&mut net, 2).standby);
}

#[test]
fn a_path_over_a_link_that_comes_later_has_them_too() {
    let mut net = Net::new(2);
    net.client.handle_link_down(LinkId(2), net.now);
    net.client.remove_link(LinkId(2), net.now);
    net.client.set_link_rules(LinkId(2), BACKUP, net.now);
    net.run(Duration::from_millis(500));
    net.client.handle_link_up(LinkUp { id: LinkId(2), mtu: 1_500, v4: true, v6: false }, net.now);
    net.run(Duration::from_millis(500));
    assert!(at_server(&mut net, 2).standby && at_client(&mut net, 2).standby);
}

/// A backup carries what is to be repaired at once when the last other path dies.
#[test]
fn a_backup_rescues_what_was_under_way() {
    let mut net = Net::new(2);
    net.client.set_link_rules(LinkId(2), BACKUP, net.now);
    net.run(Duration::from_millis(500));
    for i in 0..400 {
        if i == 150 {
            net.links[0].up = false;
        }
        if i == 300 {
            net.links[0].up = true;
        }
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(2));
    }
    net.run(Duration::from_secs(5));
    assert_eq!(net.delivered(Side::Server), (0..400).collect::<Vec<_>>());
    assert!(at_client(&mut net, 2).standby, "it stands by again");
}
