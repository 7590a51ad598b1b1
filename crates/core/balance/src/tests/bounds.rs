//! Nothing grows without bound, and nothing panics.

use bondwire_units::{LinkId, Timestamp};
use proptest::prelude::*;

use super::world::{Dice, host, link, ms, secs};
use crate::{
    Balancer, Config, ConnectFailure, LinkConfig, MAX_LINKS, ProbeId, SocketId, Stage, Stickiness, TcpSample,
    Transport, WEIGHTS,
};

fn two_links(config: Config) -> Balancer {
    let mut balancer = Balancer::new(config, 1);
    for line in 0..2 {
        balancer.set_link(LinkConfig::new(link(line), &format!("wan{line}")), Timestamp::ZERO);
    }
    balancer
}

#[test]
fn a_flood_of_sockets_stays_within_the_tables() {
    let stickiness = Stickiness { max_sites: 1_000, ..Stickiness::default() };
    let mut balancer = two_links(Config { max_sockets: 10_000, stickiness, ..Config::default() });
    let mut now = Timestamp::ZERO;
    for n in 0..100_000 {
        now += core::time::Duration::from_micros(20);
        balancer.open(&host(n, 443), now).unwrap();
        if n % 1_000 == 0 {
            balancer.handle_timeout(now);
            let snapshot = balancer.snapshot(now);
            assert!(snapshot.sockets <= 10_000 && snapshot.sites <= 1_000, "{snapshot:?}");
        }
    }
    let snapshot = balancer.snapshot(now);
    assert_eq!(snapshot.forgotten, 90_000);
    let on_links: u32 = snapshot.links.iter().map(|link| link.sockets).sum();
    assert_eq!(on_links as usize, snapshot.sockets);
    assert_eq!(balancer.sockets(now).count(), 10_000);
    now += secs(8_000);
    balancer.handle_timeout(now);
    balancer.handle_timeout(now + secs(8_000));
    assert_eq!(balancer.snapshot(now).sockets, 0, "and all age");
}

#[test]
fn udp_flows_age_by_themselves() {
    let mut balancer = two_links(Config::default());
    let mut request = host(1, 9_999);
    request.transport = Transport::Udp;
    let socket = balancer.open(&request, Timestamp::ZERO).unwrap().socket;
    let stage = |balancer: &Balancer, now| balancer.socket(socket, now).map(|socket| socket.stage);
    let mut now = Timestamp::ZERO;
    for n in 1..60 {
        now += secs(1);
        balancer.handle_bytes(socket, n * 100, n * 100, now);
        balancer.handle_timeout(now);
        assert_eq!(stage(&balancer, now), Some(Stage::Active));
    }
    now += secs(40);
    balancer.handle_timeout(now);
    assert_eq!(stage(&balancer, now), Some(Stage::Idle));
    now += secs(180);
    balancer.handle_timeout(now);
    assert_eq!(stage(&balancer, now), None);
}

/// The kernel counts no bytes of a connected UDP socket; that it is open, and that it sends, is known otherwise.
#[test]
fn a_udp_flow_whose_socket_is_open_is_not_forgotten() {
    let mut balancer = two_links(Config::default());
    let mut request = host(1, 9_999);
    request.transport = Transport::Udp;
    let socket = balancer.adopt(&request, Some(link(0)), Timestamp::ZERO);
    let mut now = Timestamp::ZERO;
    for n in 0..120 {
        now += secs(10);
        let moves = n < 60;
        balancer.handle_alive(socket, moves, now);
        balancer.handle_timeout(now);
        let stage = balancer.socket(socket, now).map(|socket| socket.stage);
        let expected = if n < 62 { Stage::Active } else { Stage::Idle };
        assert_eq!(stage, Some(expected), "after {now:?}");
    }
    assert_eq!(balancer.snapshot(now).links[0].sockets, 1);
    balancer.handle_timeout(now + secs(180));
    assert!(balancer.socket(socket, now).is_none(), "nobody speaks of it any more");
}

/// What answers a repeated SYN measures nothing, and is an answer all the same.
#[test]
fn an_answer_without_a_round_trip_is_an_answer() {
    let mut balancer = two_links(Config::default());
    let at = Timestamp::from_millis;
    let patience = balancer.snapshot(at(0)).links[0].patience;
    let socket = balancer.adopt(&host(1, 80), Some(link(0)), at(0));
    balancer.handle_connected(socket, link(0), core::time::Duration::ZERO, at(400));
    let status = balancer.socket(socket, at(400)).unwrap();
    assert_eq!((status.stage, status.connect_rtt), (Stage::Established, None));
    let link = &balancer.snapshot(at(400)).links[0];
    assert_eq!((link.patience, link.rtt), (patience, None));
}

#[test]
fn a_tcp_socket_goes_through_its_life() {
    let mut balancer = two_links(Config::default());
    let at = Timestamp::from_millis;
    let placement = balancer.open(&host(1, 80), at(0)).unwrap();
    let (socket, link) = (placement.socket, placement.link.unwrap());
    let stage = |balancer: &Balancer| balancer.socket(socket, at(100)).map(|socket| socket.stage);
    assert_eq!(stage(&balancer), Some(Stage::Bound));
    balancer.handle_connecting(socket, link, at(1));
    assert_eq!(stage(&balancer), Some(Stage::Connecting));
    balancer.handle_connected(socket, link, ms(20), at(21));
    assert_eq!(stage(&balancer), Some(Stage::Established));
    balancer.handle_bytes(socket, 100, 2_000_000, at(400));
    assert_eq!(stage(&balancer), Some(Stage::Transferring));
    balancer.handle_closing(socket, at(500));
    assert_eq!(stage(&balancer), Some(Stage::Closing));
    balancer.handle_closed(socket, at(600));
    assert_eq!(stage(&balancer), None);
    let again = balancer.open(&host(1, 80), at(700)).unwrap().socket;
    assert_ne!(again, socket, "numbers are not reused");
    balancer.handle_closed(socket, at(701));
    assert!(balancer.socket(again, at(702)).is_some());
}

#[test]
fn links_are_bounded_and_the_longest_gone_gives_way() {
    let mut balancer = Balancer::new(Config::default(), 1);
    let at = Timestamp::from_millis;
    for n in 0..MAX_LINKS as u32 {
        assert!(balancer.set_link(LinkConfig::new(LinkId(n), &format!("l{n}")), at(0)));
    }
    assert!(!balancer.set_link(LinkConfig::new(LinkId(99), "more"), at(1)));
    balancer.remove_link(LinkId(5), at(2));
    assert!(balancer.set_link(LinkConfig::new(LinkId(99), "more"), at(3)));
    assert_eq!(balancer.snapshot(at(3)).links.len(), MAX_LINKS);
    // A name under another's number takes it over.
    assert!(balancer.set_link(LinkConfig::new(LinkId(7), "more"), at(4)));
    assert_eq!(balancer.snapshot(at(4)).links.len(), MAX_LINKS - 1);
    for n in 0..10_000 {
        balancer.set_link(LinkConfig::new(LinkId(7), &format!("many{n}")), at(5 + n));
        let _ = balancer.open(&host(n as u32, 80), at(5 + n));
    }
    assert!(balancer.snapshot(at(20_000)).links.len() < MAX_LINKS);
    let mut events = 0;
    while balancer.poll_event().is_some() {
        events += 1;
    }
    assert!(events <= 1_000);
}

/// What anyone may do to it, in any order.
fn disturb(balancer: &mut Balancer, sockets: &mut Vec<SocketId>, dice: &mut Dice, now: Timestamp) {
    let id = LinkId(dice.below(5) as u32);
    let socket = match sockets.len() as u64 {
        0 => {
            return sockets.extend(
                balancer.open(&host(dice.next() as u32, 80), now).ok().map(|placement| placement.socket),
            );
        }
        len => sockets[dice.below(len) as usize],
    };
    let udp = |n: u64| crate::Request { transport: Transport::Udp, ..host(n as u32 % 50, 443) };
    match dice.below(18) {
        0 => drop(balancer.set_link(LinkConfig::new(id, &format!("wan{}", dice.below(6))), now)),
        1 if dice.below(4) == 0 => balancer.remove_link(id, now),
        2..=4 => {
            sockets.extend(balancer.open(&host(dice.next() as u32 % 100, 443), now).ok().map(|p| p.socket))
        }
        5 => sockets.extend(balancer.open(&udp(dice.next()), now).ok().map(|placement| placement.socket)),
        6 => sockets.push(balancer.adopt(&host(3, 80), Some(id), now)),
        7 => drop(balancer.next_link(socket, now)),
        8 => balancer.handle_connected(socket, id, ms(dice.below(3_000)), now),
        9 => balancer.handle_connect_failed(socket, id, ConnectFailure::NoAnswer, now),
        10 => balancer.handle_connect_failed(socket, id, ConnectFailure::Local, now),
        11 => balancer.handle_bytes(socket, dice.next(), dice.below(1 << 40), now),
        12 => balancer.handle_reset(socket, now),
        13 => balancer.handle_closed(socket, now),
        14 => balancer.handle_link_counters(id, dice.below(1 << 40), dice.below(1 << 40), now),
        15 => {
            let sample = TcpSample { rtt: Some(ms(dice.below(500))), stalled: 1, ..TcpSample::default() };
            balancer.handle_tcp_sample(id, sample, now);
        }
        16 => {
            while let Some(probe) = balancer.poll_probe(now) {
                match dice.below(3) {
                    0 => balancer.handle_probe_answer(probe.id, ms(dice.below(100)), now),
                    1 => balancer.handle_probe_failed(probe.id, ConnectFailure::Unreachable, now),
                    _ => balancer.handle_probe_answer(ProbeId(dice.next()), ms(1), now),
                }
            }
        }
        _ => balancer.handle_syn_repeated(socket, now),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever happens: plans sum up, counts agree, time stands still nowhere.
    #[test]
    fn survives_anything(seed in any::<u64>()) {
        let mut balancer = two_links(Config { max_sockets: 200, ..Config::default() });
        let (mut dice, mut sockets, mut now) = (Dice::new(seed), Vec::new(), Timestamp::ZERO);
        for _ in 0..2_000 {
            disturb(&mut balancer, &mut sockets, &mut dice, now);
            sockets.truncate(500);
            if dice.below(3) == 0 {
                now += ms(dice.below(400));
                balancer.handle_timeout(now);
                let next = balancer.poll_timeout();
                let is_probe = next.is_some_and(|deadline| deadline.why == "a probe is due");
                prop_assert!(is_probe || next.is_none_or(|deadline| deadline.at > now), "{next:?} at {now}");
            }
            let plan = balancer.plan(now);
            for weights in [&plan.bulk, &plan.interactive] {
                let sum: u16 = weights.iter().map(|&(_, weight)| weight).sum();
                prop_assert!(weights.is_empty() || sum == WEIGHTS, "{weights:?}");
            }
            let snapshot = balancer.snapshot(now);
            prop_assert!(snapshot.sockets <= 200);
            let listed: Vec<_> = balancer.sockets(now).collect();
            prop_assert_eq!(listed.len(), snapshot.sockets);
            for link in &snapshot.links {
                let here = listed.iter().filter(|socket| socket.link == Some(link.link)).count();
                prop_assert_eq!(here, link.sockets as usize);
            }
            if dice.below(4) == 0 {
                while balancer.poll_event().is_some() {}
            }
        }
    }
}
