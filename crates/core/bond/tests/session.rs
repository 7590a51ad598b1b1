//! Client and server over a network of fixed delays in memory: the protocol's rules, one by one. Links as they are in the
//! world are the business of the simulation.

#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    reason = "test harness"
)]
mod net;

use bondwire_bond::*;
use bondwire_wire::{Mode, RejectReason};
use core::time::Duration;
use net::{Net, Side};

#[test]
fn a_session_stands_and_carries_packets_both_ways() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    assert!(net.established(), "{:?}", net.client_events);
    for i in 0..100 {
        net.send_tcp(Side::Client, i);
        net.send_tcp(Side::Server, i);
        net.run(Duration::from_millis(2));
    }
    net.run(Duration::from_millis(500));
    assert_eq!(net.delivered(Side::Server), (0..100).collect::<Vec<_>>());
    assert_eq!(net.delivered(Side::Client), (0..100).collect::<Vec<_>>());
    let status = net.client_status();
    assert_eq!(status.paths.iter().filter(|p| p.state == PathState::Active).count(), 2);
    assert!(status.parameters.is_some_and(|p| p.v4.is_some() && p.mtu == 1_440));
}

/// A stream survives the silent death of a link in mid-transfer, whole and in order.
#[test]
fn a_link_dies_and_nothing_of_a_stream_is_lost() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    for i in 0..400 {
        if i == 150 {
            net.links[0].up = false;
        }
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(2));
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(Side::Server), (0..400).collect::<Vec<_>>());
    let suspect =
        net.client_status().paths.iter().any(|p| matches!(p.state, PathState::Suspect | PathState::Down));
    assert!(suspect);
    net.links[0].up = true;
    net.run(Duration::from_secs(4));
    assert!(net.client_status().paths.iter().all(|p| p.state == PathState::Active));
}

/// Once a path is known to lose packets, what it loses is found from parities, without a round trip.
#[test]
fn what_a_lossy_path_loses_is_found_from_parities() {
    let mut net = Net::new(1);
    net.links[0].delay = Duration::from_millis(100);
    net.run(Duration::from_secs(2));
    net.links[0].lose = 50;
    for i in 0..5_000 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(1));
    }
    net.run(Duration::from_secs(2));
    assert_eq!(net.delivered(Side::Server), (0..5_000).collect::<Vec<_>>());
    let sender = net.client_status().counters;
    let recovered = net.server.status(net.now).sessions.iter().map(|s| s.counters.recovered).sum::<u64>();
    assert!(sender.parities > 50 && sender.parities < 500, "{sender:?}");
    assert!(recovered > 2 * sender.repaired, "{recovered} recovered, {} sent again", sender.repaired);
    // Without loss the parities end.
    net.links[0].lose = 0;
    for round in 0..2 {
        let before = net.client_status().counters.parities;
        for i in 0..15_000 {
            net.send_tcp(Side::Client, i);
            net.run(Duration::from_millis(1));
        }
        let sent = net.client_status().counters.parities - before;
        assert!(round == 0 || sent == 0, "{sent} parities on a path that loses nothing");
    }
}

/// What parities take is counted, at both ends; where there is no memory for them, what is lost is sent again.
#[test]
fn parities_are_part_of_the_memory() {
    for mib in [2_u64, 16] {
        let mut net = Net::with_memory(1, mib);
        net.run(Duration::from_secs(2));
        net.links[0].lose = 50;
        for i in 0..3_000 {
            net.send_tcp(Side::Client, i);
            net.run(Duration::from_millis(1));
        }
        let (sender, receiver) = (net.client_status().counters, net.server.status(net.now));
        let receiver = receiver.sessions[0].counters;
        println!("{mib} MiB: {} bytes at the sender, {receiver:?}", sender.parity_bytes);
        assert!(sender.parity_bytes > 0 && sender.parity_bytes < 100_000);
        let (solved, remembered) = (receiver.recovered > 0, receiver.parity_bytes > 16_000);
        assert_eq!((solved, remembered), (mib == 16, mib == 16));
        let all = receiver.kept_bytes + receiver.held_bytes + receiver.queued_bytes + receiver.parity_bytes;
        assert!(all <= mib << 20, "{all} bytes");
        net.run(Duration::from_secs(2));
        assert_eq!(net.delivered(Side::Server), (0..3_000).collect::<Vec<_>>());
    }
}

/// With all links dead the client seeks a new session, and goes on when they return.
#[test]
fn all_links_die_and_return() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    net.links.iter_mut().for_each(|link| link.up = false);
    for i in 0..50 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(100));
    }
    net.links.iter_mut().for_each(|link| link.up = true);
    net.run(Duration::from_secs(6));
    net.clear_delivered();
    for i in 0..50 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_secs(2));
    assert_eq!(net.delivered(Side::Server), (0..50).collect::<Vec<_>>());
}

/// A server that has lost all state: the client is back within five seconds.
#[test]
fn the_server_restarts() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    net.send_tcp(Side::Client, 0);
    net.run(Duration::from_millis(100));
    net.restart_server();
    let mut back = None;
    for i in 0..500 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(10));
        if back.is_none() && net.delivered(Side::Server).len() > 1 {
            back = Some(i * 10);
        }
    }
    assert!(back.is_some_and(|ms| ms <= 5_000), "{back:?}");
}

/// docs/protocol.md, PATH-4 and PATH-5: data follows a changed address only after that has proven itself.
#[test]
fn a_nat_gives_the_client_another_port() {
    let mut net = Net::new(1);
    net.run(Duration::from_millis(500));
    for i in 0..200 {
        if i == 50 {
            net.links[0].port += 1;
        }
        net.send_tcp(Side::Client, i);
        net.send_tcp(Side::Server, i);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_secs(2));
    assert_eq!(net.delivered(Side::Client), (0..200).collect::<Vec<_>>());
    assert_eq!(net.delivered(Side::Server), (0..200).collect::<Vec<_>>());
    assert!(net.client_status().state == ClientState::Connected);
}

/// docs/protocol.md, PATH-4: an address that repeats a client's packets from elsewhere gets at most three times what it sent, and no data.
#[test]
fn a_copied_packet_from_elsewhere_attracts_no_data() {
    let mut net = Net::new(1);
    net.run(Duration::from_millis(500));
    net.mirror = true;
    for i in 0..200 {
        net.send_tcp(Side::Server, i);
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_secs(3));
    assert_eq!(net.delivered(Side::Client), (0..200).collect::<Vec<_>>());
    assert!(
        net.mirror_sent > 0 && net.mirror_got <= net.mirror_sent * 3,
        "{} for {}",
        net.mirror_got,
        net.mirror_sent
    );
}

/// docs/protocol.md, DATA-6.
#[test]
fn foreign_sources_and_destinations_are_dropped() {
    let mut net = Net::new(1);
    net.run(Duration::from_millis(500));
    net.send_raw(Side::Client, &net::packet([10, 99, 0, 77], [10, 99, 0, 1], 1));
    net.send_raw(Side::Client, &net::packet([10, 99, 0, 2], [10, 99, 0, 3], 2));
    net.send_raw(Side::Server, &net::packet([10, 99, 0, 1], [10, 99, 0, 77], 3));
    net.run(Duration::from_millis(500));
    assert!(net.delivered(Side::Server).is_empty() && net.delivered(Side::Client).is_empty());
    let status = net.server.status(net.now);
    let drops = status.sessions[0].counters.drops;
    assert_eq!(drops.get(DropReason::ForeignSource), 1);
    assert_eq!(drops.get(DropReason::ForeignDestination), 1);
    assert_eq!(status.drops.get(DropReason::ForeignDestination), 1);
}

/// docs/protocol.md, HS-6: used, expired, revoked, unknown.
#[test]
fn the_server_says_why_it_refuses() {
    for (reason, change) in [
        (RejectReason::UnknownKey, (|r: &mut ClientRecord| r.invite_id = [9; 8]) as fn(&mut ClientRecord)),
        (RejectReason::Revoked, |r| r.revoked = true),
        (RejectReason::InviteExpired, |r| r.invite_expires = 1),
        (RejectReason::InviteUsed, |r| r.public_key = Some(net::secret(77).public())),
    ] {
        let mut net = Net::with_record(1, change);
        net.run(Duration::from_secs(1));
        let refused = net.client_events.iter().find_map(|event| match event {
            ClientEvent::Refused { reason, .. } => Some(*reason),
            _ => None,
        });
        assert_eq!(refused, Some(reason));
        assert_eq!(net.client_status().state, ClientState::Refused);
        let before = net.datagrams;
        net.run(Duration::from_secs(20));
        assert_eq!(net.datagrams, before, "nothing more is tried");
    }
}

/// docs/protocol.md, HS-5: a client whose clock is behind its past goes on from what the server remembers.
#[test]
fn a_clock_that_fell_back_locks_nobody_out() {
    let mut net = Net::with_record(1, |record| record.last_timestamp = u64::MAX / 4);
    net.run(Duration::from_secs(2));
    assert!(net.established());
}

/// docs/protocol.md, HS-7: the second client with the same key takes the session over, and the first one stops and says so.
#[test]
fn two_clients_with_one_key() {
    let mut net = Net::new(1);
    net.run(Duration::from_millis(500));
    let first = net.replace_client();
    net.run(Duration::from_secs(1));
    assert!(net.established());
    let events = net.run_other(first, Duration::from_secs(1));
    assert!(events.iter().any(|event| matches!(event, ClientEvent::Replaced)), "{events:?}");
}

#[test]
fn a_revoked_client_is_told_at_once() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    let mut record = net.record.clone();
    record.revoked = true;
    net.server.set_directory(vec![record], net.now);
    net.run(Duration::from_millis(200));
    assert_eq!(net.client_status().state, ClientState::Refused);
    assert!(net.server.status(net.now).sessions.is_empty());
}

/// In mode `redundant` the death of a link costs nothing, not even for datagrams.
#[test]
fn redundant_loses_nothing_when_a_link_dies() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    net.client.set_mode(Mode::Redundant, net.now);
    net.run(Duration::from_millis(300));
    for i in 0..300 {
        if i == 100 {
            net.links[0].up = false;
        }
        net.send_udp(Side::Client, i);
        net.send_udp(Side::Server, i);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_millis(500));
    assert_eq!(net.delivered(Side::Server), (0..300).collect::<Vec<_>>());
    assert_eq!(net.delivered(Side::Client), (0..300).collect::<Vec<_>>());
}

/// docs/protocol.md, DATA-5: a path with a small MTU takes full inner packets in fragments.
#[test]
fn full_packets_pass_a_small_link() {
    let mut net = Net::new(1);
    net.links[0].mtu = 1_280;
    net.run(Duration::from_millis(500));
    for i in 0..50 {
        net.send_sized(Side::Client, i, 1_440);
        net.send_sized(Side::Server, i, 1_440);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(Side::Server), (0..50).collect::<Vec<_>>());
    assert_eq!(net.delivered(Side::Client), (0..50).collect::<Vec<_>>());
    assert!(net.largest <= 1_280, "{}", net.largest);
}

/// docs/protocol.md, KEY-3: keys change under traffic without a gap.
#[test]
fn keys_change_without_a_gap() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    for i in 0..2_600 {
        net.send_udp(Side::Client, i);
        net.send_udp(Side::Server, i);
        net.run(Duration::from_millis(100));
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(Side::Server).len(), 2_600);
    assert_eq!(net.delivered(Side::Client).len(), 2_600);
    assert_eq!(net.client_status().counters.drops.get(DropReason::NotAuthentic), 0);
}

/// Rubbish, cut and mutated datagrams at both ends: no panic, no answer that is longer than the question, and the session lives.
#[test]
fn hostile_datagrams_change_nothing() {
    let mut net = Net::new(1);
    net.run(Duration::from_millis(500));
    net.attack(20_000);
    for i in 0..50 {
        net.send_tcp(Side::Client, i);
        net.run(Duration::from_millis(5));
    }
    net.run(Duration::from_secs(1));
    assert_eq!(net.delivered(Side::Server), (0..50).collect::<Vec<_>>());
}

/// An idle session sends next to nothing.
#[test]
fn an_idle_session_is_quiet() {
    let mut net = Net::new(2);
    net.run(Duration::from_secs(60));
    let before = net.datagrams;
    net.run(Duration::from_secs(200));
    let sent = net.datagrams - before;
    println!("{sent} datagrams");
    assert!(sent < 200, "{sent} datagrams in 200 s");
    assert_eq!(net.client_status().state, ClientState::Connected);
}

/// docs/protocol.md, FLOW-1.
#[test]
fn the_server_follows_the_client_s_rules() {
    let mut net = Net::new(2);
    net.run(Duration::from_millis(500));
    net.client.set_mode(Mode::Streaming, net.now);
    let class = RuleClass::RealTime;
    let rule = Rule { remote: None, ports: Some(7..=7), protocol: None, dscp: None, class };
    for (rules, listed) in [(vec![rule], 1), (Vec::new(), 0)] {
        net.client.set_rules(Rules::new(rules), net.now);
        net.send_udp(Side::Client, 1);
        net.run(Duration::from_millis(300));
        net.send_udp(Side::Server, 2);
        net.run(Duration::from_millis(300));
        let client = net.client_status().streams;
        let server = net.server.status(net.now).sessions.remove(0).streams;
        let reasons = |streams: &[StreamStatus]| streams.iter().map(|s| s.reason).collect::<Vec<_>>();
        assert_eq!(reasons(&client), vec![StreamReason::Rule; listed]);
        assert_eq!(reasons(&server), vec![StreamReason::Peer; listed]);
    }
    assert_eq!(net.delivered(Side::Server), [1, 1]);
    assert_eq!(net.delivered(Side::Client), [2, 2]);
}
