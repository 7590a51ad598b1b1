//! Shares, stickiness, delay, priority, rules.

use core::time::Duration;

use bondwire_units::{Bitrate, Timestamp};

use super::world::{Dice, Line, Sender, World, host, link, ms, secs, web};
use crate::{
    Action, Balancer, Config, LinkConfig, LinkKind, LinkState, Match, Prefix, Priority, Reason, Refusal,
    Request, Rule, Transport,
};

fn balancer(config: Config, links: &[LinkConfig]) -> Balancer {
    let mut balancer = Balancer::new(config, 7);
    for link in links {
        assert!(balancer.set_link(link.clone(), Timestamp::ZERO));
    }
    balancer
}

fn weighted(weights: &[u32]) -> Vec<LinkConfig> {
    let config = |(line, &weight): (usize, &u32)| {
        let mut config = LinkConfig::new(link(line), &format!("wan{line}"));
        config.weight = Some(weight);
        config
    };
    weights.iter().enumerate().map(config).collect()
}

/// How 1,000 sockets are opened and closed.
#[derive(Clone, Copy, Debug)]
enum Manner {
    /// All at once, and they stay.
    AllStay,
    /// One after the other, closed at once.
    OneByOne,
    /// Some seconds apart, each closed before the next.
    Rarely,
    /// At random times, for random spans.
    Randomly,
}

#[test]
fn shares_are_within_a_tenth_of_the_weights_over_1000_sockets() {
    let manners = [Manner::AllStay, Manner::OneByOne, Manner::Rarely, Manner::Randomly];
    for weights in [&[1, 1][..], &[50, 40], &[100, 120], &[10, 1], &[5, 3, 2], &[300, 30, 30, 5]] {
        for manner in manners {
            let config = Config { prefer_delay: false, ..Config::default() };
            let mut balancer = balancer(config, &weighted(weights));
            let (mut now, mut dice, mut open) = (Timestamp::ZERO, Dice::new(9), Vec::new());
            let mut counts = vec![0_u32; weights.len()];
            for n in 0..1_000 {
                let placement = balancer.open(&host(n, 80), now).unwrap();
                counts[super::world::index(placement.link.unwrap())] += 1;
                match manner {
                    Manner::AllStay => {}
                    Manner::OneByOne => balancer.handle_closed(placement.socket, now),
                    Manner::Rarely => {
                        now += secs(4);
                        balancer.handle_closed(placement.socket, now);
                    }
                    Manner::Randomly => {
                        now += ms(dice.below(200));
                        open.push((now + ms(dice.below(5_000)), placement.socket));
                        while let Some(at) = open.iter().position(|&(until, _)| until <= now) {
                            balancer.handle_closed(open.swap_remove(at).1, now);
                        }
                    }
                }
                balancer.handle_timeout(now);
            }
            let sum: u32 = weights.iter().sum();
            for (count, &weight) in counts.iter().zip(weights) {
                let (share, wanted) = (f64::from(*count) / 1e3, f64::from(weight) / f64::from(sum));
                let error = (share - wanted).abs();
                // A tenth of the weight, or the half socket that counting cannot avoid.
                assert!(error <= (wanted * 0.1).max(0.0021), "{weights:?} {manner:?}: {counts:?}");
            }
        }
    }
}

#[test]
fn a_site_keeps_its_link_for_ten_minutes_after_its_last_socket() {
    let mut balancer = balancer(Config::default(), &weighted(&[1, 1, 1]));
    let mut now = Timestamp::ZERO;
    for transport in [Transport::Tcp, Transport::Udp] {
        for site in 0..30 {
            let name = format!("site{site}.example.org");
            let request = |n: u32| Request { transport, ..host(n, 443).with_name("x") };
            let open = |balancer: &mut Balancer, n, now| {
                balancer.open(&Request { name: Some(&name), ..request(n) }, now).unwrap()
            };
            let first = open(&mut balancer, site, now);
            for n in 0..20 {
                now += secs(25);
                balancer.handle_timeout(now);
                let next = open(&mut balancer, 100 + n, now);
                assert_eq!((next.link, next.reason), (first.link, Reason::Sticky), "whatever its address");
            }
        }
    }
    // By address if there is no name; and port 80 is spread.
    let links = |balancer: &mut Balancer, request: Request<'_>| {
        let open = |_| balancer.open(&request, now).unwrap().link;
        (0..90).map(open).collect::<std::collections::BTreeSet<_>>().len()
    };
    assert_eq!(links(&mut balancer, host(5, 80)), 3);
    assert_eq!(links(&mut balancer, host(5, 443)), 1);
}

#[test]
fn sites_are_spread_over_the_links() {
    let mut balancer = balancer(Config::default(), &weighted(&[3, 1]));
    let on_first = |balancer: &mut Balancer, n| {
        u32::from(balancer.open(&host(n, 443), Timestamp::ZERO).unwrap().link == Some(link(0)))
    };
    let first: u32 = (0..400).map(|n| on_first(&mut balancer, n)).sum();
    assert!((290..=310).contains(&first), "{first}");
}

#[test]
fn a_site_leaves_a_link_that_is_full_or_failing() {
    let mut world =
        World::new(vec![Line::new(20.0, 5.0, 10.0), Line::new(20.0, 5.0, 10.0)], Config::default(), 1);
    world.run(secs(2));
    let site = web(443);
    let first = world.download(&site, 1e6, Sender::Bbr).unwrap().link.unwrap();
    let line = super::world::index(first);
    for _ in 0..3 {
        world.download_by_kernel(&web(80), line, 1e6, Sender::Bbr);
    }
    world.run(secs(12));
    let second = world.download(&site, 0.1, Sender::Bbr).unwrap();
    assert_ne!(second.link, Some(first), "{:#?}", world.balancer.snapshot(world.now));
    world.run(secs(1));
    let third = world.download(&site, 0.1, Sender::Bbr).unwrap();
    assert_eq!((third.link, third.reason), (second.link, Reason::Sticky), "it stays where it went");
    let line = super::world::index(second.link.unwrap());
    world.set_alive(line, false);
    world.run(secs(4));
    assert_eq!(world.state(line), LinkState::Failed);
    assert_eq!(world.download(&site, 0.1, Sender::Bbr).unwrap().link, Some(first));
}

#[test]
fn interactive_sockets_take_the_least_delay() {
    let lines = vec![Line::new(300.0, 50.0, 40.0), Line::new(20.0, 10.0, 8.0)];
    let mut world = World::new(lines, Config::default(), 1);
    world.run(secs(8));
    for port in [22, 53] {
        for n in 0..20 {
            let placement = world.download(&host(n, port), 0.01, Sender::Bbr).unwrap();
            assert_eq!((placement.link, placement.reason), (Some(link(1)), Reason::Delay));
        }
    }
    // When the quick one is full it is not quick.
    for _ in 0..4 {
        world.download_by_kernel(&web(80), 1, 1e6, Sender::Cubic);
    }
    world.run(secs(6));
    let placement = world.download(&host(1, 22), 0.01, Sender::Bbr).unwrap();
    assert_eq!(placement.link, Some(link(0)), "{:#?}", world.balancer.snapshot(world.now));
}

fn by_priority(priorities: &[Priority]) -> World {
    let links = priorities.iter().enumerate().map(|(line, &priority)| {
        let mut config = LinkConfig::new(link(line), &format!("wan{line}"));
        config.priority = priority;
        config
    });
    let links: Vec<_> = links.collect();
    let lines = (0..links.len()).map(|_| Line::new(20.0, 10.0, 10.0)).collect();
    World::with(balancer(Config::default(), &links), lines, 3)
}

#[test]
fn links_spill_over_in_order() {
    use Priority::{Always, Backup, Never, Secondary};
    let mut world = by_priority(&[Always, Always, Secondary, Backup, Never]);
    world.run(secs(2));
    for n in 0..100 {
        world.download(&host(n, 80), 0.001, Sender::Bbr).unwrap();
        world.run(ms(20));
    }
    assert_eq!(world.placed[2..], [0, 0, 0], "room on the first two");
    for line in [0, 0, 0, 1, 1, 1] {
        world.download_by_kernel(&web(80), line, 1e6, Sender::Bbr);
    }
    world.run(secs(6));
    let placement = world.download(&web(80), 0.001, Sender::Bbr).unwrap();
    let why = || world.balancer.snapshot(world.now);
    assert_eq!((placement.link, placement.reason), (Some(link(2)), Reason::SpillOver), "{:#?}", why());
    for _ in 0..3 {
        world.download_by_kernel(&web(80), 2, 1e6, Sender::Bbr);
    }
    world.run(secs(6));
    let placed = world.placed.clone();
    for n in 0..50 {
        world.download(&host(n, 80), 0.001, Sender::Bbr).unwrap();
        world.run(ms(20));
    }
    assert_eq!(world.placed[3..], placed[3..], "a backup is not for spilling");
    for line in 0..2 {
        world.set_alive(line, false);
    }
    world.run(secs(4));
    let placement = world.download(&web(80), 0.001, Sender::Bbr).unwrap();
    assert_eq!((placement.link, placement.reason), (Some(link(2)), Reason::Fallback));
    world.set_alive(2, false);
    world.run(secs(4));
    let placement = world.download(&web(80), 0.001, Sender::Bbr).unwrap();
    assert_eq!((placement.link, placement.reason), (Some(link(3)), Reason::Fallback));
    world.set_alive(3, false);
    world.run(secs(4));
    let placement = world.download(&web(80), 0.001, Sender::Bbr).unwrap();
    assert_eq!(placement.reason, Reason::LastHope);
    assert_ne!(placement.link, Some(link(4)), "never is never");
    assert_eq!(world.placed[4], 0);
    world.set_alive(0, true);
    world.run(secs(5));
    assert_eq!(world.download(&web(80), 0.001, Sender::Bbr).unwrap().link, Some(link(0)));
}

#[test]
fn a_site_does_not_stay_on_a_backup() {
    use Priority::{Always, Backup};
    let mut world = by_priority(&[Always, Backup]);
    world.run(secs(2));
    world.set_alive(0, false);
    world.run(secs(4));
    assert_eq!(world.download(&web(443), 0.01, Sender::Bbr).unwrap().link, Some(link(1)));
    world.set_alive(0, true);
    world.run(secs(5));
    assert_eq!(world.download(&web(443), 0.01, Sender::Bbr).unwrap().link, Some(link(0)));
}

#[test]
fn a_slow_site_is_no_reason_to_use_a_backup() {
    use Priority::{Always, Backup};
    let links: Vec<_> = [Always, Backup]
        .iter()
        .enumerate()
        .map(|(line, &priority)| LinkConfig {
            priority,
            ..LinkConfig::new(link(line), &format!("wan{line}"))
        })
        .collect();
    let mut balancer = balancer(Config::default(), &links);
    let at = Timestamp::from_millis;
    let slow = balancer.open(&host(1, 80), at(0)).unwrap();
    let other = balancer.open(&host(2, 80), at(50)).unwrap();
    balancer.handle_connected(other.socket, link(0), ms(30), at(80));
    assert_eq!(balancer.next_link(slow.socket, at(300)), None);
    let silent = balancer.open(&host(3, 80), at(400)).unwrap();
    assert_eq!(balancer.next_link(silent.socket, at(700)).unwrap().link, Some(link(1)));
}

#[test]
fn cellular_links_are_secondary_by_themselves() {
    assert_eq!(Priority::Automatic.resolve(LinkKind::Cellular), Priority::Secondary);
    assert_eq!(Priority::Automatic.resolve(LinkKind::Satellite), Priority::Always);
    assert_eq!(Priority::Always.resolve(LinkKind::Cellular), Priority::Always);
}

#[test]
fn a_users_limit_is_a_ceiling() {
    let mut world = by_priority(&[Priority::Always, Priority::Always]);
    let mut limited = LinkConfig::new(link(0), "wan0");
    limited.limit_down = Some(Bitrate::from_mbps(2.0));
    world.balancer.set_link(limited, Timestamp::ZERO);
    world.run(secs(2));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    assert!(world.balancer.snapshot(world.now).links[0].is_full);
}

fn rule(when: Match, then: Action) -> Rule {
    Rule { when, then }
}

#[test]
fn rules_come_first() {
    let named = |name: &str, strict| Action::Link { name: name.into(), strict };
    let ports = |port| Match { ports: Some(port..=port), ..Match::default() };
    let prefix = Some(Prefix { address: [10, 0, 0, 0].into(), length: 8 });
    let rules = vec![
        rule(ports(25), named("wan1", true)),
        rule(ports(26), named("wan1", false)),
        rule(ports(27), Action::Avoid { name: "wan1".into() }),
        rule(Match { prefix, ..Match::default() }, Action::Bypass),
        rule(Match { process: Some("curl".into()), ..Match::default() }, named("wan0", false)),
        rule(Match { name: Some("example.org".into()), ..Match::default() }, named("wan1", false)),
    ];
    let mut balancer = balancer(Config { rules, ..Config::default() }, &weighted(&[1, 1]));
    let at = Timestamp::from_millis;
    for n in 0..20 {
        let mut link_of = |request: Request<'_>| balancer.open(&request, at(n)).unwrap().link;
        assert_eq!(link_of(web(25)), Some(link(1)));
        assert_eq!(link_of(web(26)), Some(link(1)));
        assert_eq!(link_of(web(27)), Some(link(0)));
        assert_eq!(link_of(host(n as u32, 80)), None);
        assert_eq!(link_of(web(80).with_process("curl")), Some(link(0)));
        assert_eq!(link_of(web(443).with_name("www.Example.org")), Some(link(1)));
    }
    balancer.remove_link(link(1), at(100));
    assert_eq!(balancer.open(&web(25), at(101)), Err(Refusal::RuleLinkDown));
    assert_eq!(balancer.open(&web(26), at(101)).unwrap().link, Some(link(0)));
    balancer.remove_link(link(0), at(102));
    assert_eq!(balancer.open(&web(80), at(103)), Err(Refusal::NoLink));
    balancer.set_link(LinkConfig::new(link(1), "wan1"), at(200));
    assert_eq!(
        balancer.open(&web(27), at(201)).unwrap().link,
        Some(link(1)),
        "avoided only while others work"
    );
}

#[test]
fn patience_is_measured() {
    let mut balancer = balancer(Config::default(), &weighted(&[1]));
    let at = Timestamp::from_millis;
    assert_eq!(balancer.open(&web(80), at(0)).unwrap().patience, ms(300));
    for n in 1..50 {
        let placement = balancer.open(&web(80), at(n * 100)).unwrap();
        balancer.handle_connected(placement.socket, link(0), ms(100), at(n * 100 + 100));
    }
    let patience = balancer.open(&web(80), at(6_000)).unwrap().patience;
    assert!((ms(290)..=ms(320)).contains(&patience), "{patience:?}");
    assert!(patience < Duration::from_secs(1));
}
