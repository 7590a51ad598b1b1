//! Links that die, lie, flap and return.

use bondwire_units::Timestamp;

use super::world::{Dice, Line, Sender, World, host, index, link, ms, secs, web};
use crate::{
    Balancer, Config, ConnectFailure, Event, LinkConfig, LinkState, Priority, ProbeConfig, ProbeMethod,
    Target, Transport,
};

fn two() -> Vec<Line> {
    vec![Line::new(50.0, 10.0, 10.0), Line::new(40.0, 20.0, 25.0).lossy(0.001, 5.0)]
}

/// A silent death under traffic is found within a second, and the share is back within five of the return.
#[test]
fn a_silent_link_is_found_within_a_second_and_back_within_five() {
    for seed in 0..20 {
        let mut world = World::new(two(), Config::default(), seed);
        world.run(secs(3));
        world.keep(8, 1e6, Sender::Bbr, secs(5) + ms(seed * 37));
        let died = world.now;
        world.set_alive(0, false);
        world.keep(8, 1e6, Sender::Bbr, secs(4));
        let found = world.entered(0, LinkState::Failed, died).expect("found").since(died);
        assert!(found <= secs(1), "seed {seed}: {found:?}");
        let back = world.now;
        world.set_alive(0, true);
        world.keep(8, 1e6, Sender::Bbr, secs(5));
        let trusted = world.entered(0, LinkState::Stable, back).expect("back").since(back);
        assert!(trusted <= secs(3), "seed {seed}: {trusted:?}");
        world.downloads.clear();
        world.keep(4, 2.0, Sender::Bbr, secs(5));
        let share = world.balancer.snapshot(world.now).links[0].share;
        assert!(share > 0.2, "seed {seed}: {share}");
        println!("seed {seed}: found {found:?} trusted {trusted:?}");
    }
}

#[test]
fn an_idle_link_that_dies_is_found_within_three_seconds() {
    for seed in 0..40 {
        let mut world = World::new(two(), Config::default(), seed);
        world.run(secs(20) + ms(seed * 53));
        let died = world.now;
        world.set_alive(1, false);
        world.run(secs(4));
        let found = world.entered(1, LinkState::Failed, died).expect("found").since(died);
        assert!(found <= secs(3), "seed {seed}: {found:?}");
        world.set_alive(1, true);
        let back = world.now;
        world.run(secs(5));
        assert!(world.entered(1, LinkState::Stable, back).is_some());
    }
}

/// Connects that hang are answered by the other link, long before a SYN would be repeated.
#[test]
fn a_connect_that_hangs_is_answered_by_another_link() {
    for seed in 0..10 {
        let mut world = World::new(two(), Config::default(), seed);
        world.run(secs(3));
        for n in 0..20 {
            world.download(&host(n, 80), 0.01, Sender::Bbr).unwrap();
            world.run(ms(50));
        }
        world.set_alive(0, false);
        for n in 0..100 {
            world.download(&host(n, 80), 0.01, Sender::Bbr).unwrap();
            world.run(ms(10));
            for download in &world.downloads {
                let waited = download.connected.unwrap_or(world.now).since(download.opened);
                // A SYN that the living link loses is repeated after a second.
                assert!(waited < ms(600) || download.line == 1, "seed {seed}: {download:?}");
            }
        }
    }
}

/// Random outages and sockets: none is opened on a link that failed while another works, and none on one that
/// has been dead for long.
#[test]
fn no_new_socket_on_a_failed_link_while_another_lives() {
    for seed in 0..30 {
        let mut dice = Dice::new(seed + 100);
        let lines = vec![
            Line::new(50.0, 10.0, 5.0 + dice.unit() * 40.0),
            Line::new(10.0 + dice.unit() * 100.0, 10.0, 5.0 + dice.unit() * 60.0)
                .lossy(0.01 * dice.unit(), 5.0),
            Line::new(20.0, 5.0, 30.0).lossy(0.02, 20.0),
        ];
        let mut world = World::new(lines, Config::default(), seed);
        world.run(secs(3));
        for n in 0..1_500 {
            if dice.below(60) == 0 {
                let line = dice.below(3) as usize;
                let others = (0..3).filter(|&other| other != line && world.lines[other].alive).count();
                let alive = world.lines[line].alive;
                if !alive || others > 0 {
                    world.set_alive(line, !alive);
                }
            }
            let states: Vec<_> = (0..3).map(|line| world.state(line)).collect();
            let port = [80, 443, 22][dice.below(3) as usize];
            let placement = world.download(&host(n % 40, port), dice.unit() * 0.5, Sender::Bbr).unwrap();
            let line = index(placement.link.unwrap());
            let works = |&state: &LinkState| state == LinkState::Stable;
            if states.iter().any(works) {
                assert!(works(&states[line]), "seed {seed}: {states:?} {placement:?}");
            }
            let dead = world.now.since(world.lines[line].since);
            let other_lives = (0..3).any(|other| {
                world.lines[other].alive && world.now.since(world.lines[other].since) > secs(70)
            });
            if !world.lines[line].alive && other_lives {
                assert!(dead < secs(3), "seed {seed}: dead for {dead:?} {states:?}");
            }
            world.run(ms(10 + dice.below(200)));
        }
    }
}

#[test]
fn datagram_flows_move_and_streams_are_closed() {
    let mut world = World::new(two(), Config::default(), 1);
    world.run(secs(3));
    let mut request = web(4000);
    request.transport = Transport::Udp;
    let flows: Vec<_> = (0..50).map(|_| world.balancer.open(&request, world.now).unwrap()).collect();
    let on_first: Vec<_> = flows.iter().filter(|flow| flow.link == Some(link(0))).collect();
    world.set_alive(0, false);
    world.run(secs(4));
    let moved = |socket| {
        let matches = |&(_, event): &(Timestamp, Event)| {
            event == Event::SocketMoved { socket, from: link(0), to: link(1) }
        };
        world.events.iter().filter(|event| matches(event)).count()
    };
    assert!(!on_first.is_empty());
    assert!(on_first.iter().all(|flow| moved(flow.socket) == 1));
    let evicted = |event: &&(Timestamp, Event)| event.1 == Event::Evict { link: link(0) };
    assert_eq!(world.events.iter().filter(evicted).count(), 1);
    let snapshot = world.balancer.snapshot(world.now);
    assert_eq!((snapshot.moved, snapshot.links[0].sockets), (on_first.len() as u64, 0));
    for flow in &flows {
        assert_eq!(world.balancer.socket(flow.socket, world.now).unwrap().link, Some(link(1)));
    }
}

#[test]
fn datagram_flows_that_had_nowhere_to_go_move_when_a_link_returns() {
    let mut world = World::new(two(), Config::default(), 1);
    world.run(secs(3));
    let mut request = web(4000);
    request.transport = Transport::Udp;
    let flows: Vec<_> = (0..10).map(|_| world.balancer.open(&request, world.now).unwrap().socket).collect();
    world.set_alive(0, false);
    world.set_alive(1, false);
    world.run(secs(10));
    let moves = |world: &World| {
        world.events.iter().filter(|(_, event)| matches!(event, Event::SocketMoved { .. })).count()
    };
    assert!(moves(&world) <= flows.len(), "none runs to and fro between dead links");
    world.set_alive(1, true);
    world.run(secs(5));
    for flow in flows {
        assert_eq!(world.balancer.socket(flow, world.now).unwrap().link, Some(link(1)));
    }
}

#[test]
fn a_link_has_targets_of_its_own_and_none_that_it_cannot_ask() {
    let own = Target { address: ([10, 0, 0, 1], 53).into(), method: ProbeMethod::Dns };
    let mut balancer = Balancer::new(Config::default(), 1);
    let mut config = LinkConfig::new(link(0), "wan0");
    config.targets = vec![own];
    balancer.set_link(config, Timestamp::ZERO);
    let (mut now, mut asked_own) = (Timestamp::ZERO, 0);
    for _ in 0..2_000 {
        now += ms(10);
        while let Some(probe) = balancer.poll_probe(now) {
            if probe.target == own {
                asked_own += 1;
                balancer.handle_probe_answer(probe.id, ms(20), now);
            } else {
                balancer.handle_probe_failed(probe.id, ConnectFailure::NoAddress, now);
            }
        }
        balancer.handle_timeout(now);
    }
    assert_eq!(balancer.snapshot(now).links[0].state, LinkState::Stable);
    assert!(asked_own >= 8, "{asked_own}");
    // Its own target falls silent.
    while balancer.snapshot(now).links[0].state != LinkState::Failed {
        now += ms(10);
        while balancer.poll_probe(now).is_some() {}
        balancer.handle_timeout(now);
        assert!(now < Timestamp::from_millis(24_000));
    }
}

#[test]
fn a_link_that_vanishes_loses_its_sockets_at_once_and_is_known_again() {
    let mut world = World::new(two(), Config::default(), 1);
    world.run(secs(3));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    let capacity = world.balancer.snapshot(world.now).links[0].capacity_down;
    world.balancer.remove_link(link(0), world.now);
    assert_eq!(world.balancer.poll_event().map(|event| matches!(event, Event::LinkState { .. })), Some(true));
    for n in 0..50 {
        assert_eq!(world.balancer.open(&host(n, 80), world.now).unwrap().link, Some(link(1)));
    }
    assert!(capacity.is_some());
    // Its number is another one now.
    world.balancer.set_link(LinkConfig::new(bondwire_units::LinkId(77), "wan0"), world.now);
    let snapshot = world.balancer.snapshot(world.now);
    assert_eq!(snapshot.links.len(), 2);
    assert_eq!(snapshot.links.iter().find(|link| link.name == "wan0").unwrap().capacity_down, capacity);
}

#[test]
fn a_link_that_becomes_never_is_left() {
    let mut world = World::new(two(), Config::default(), 1);
    world.run(secs(3));
    let mut request = web(4000);
    request.transport = Transport::Udp;
    let flows: Vec<_> = (0..10).map(|_| world.balancer.open(&request, world.now).unwrap().socket).collect();
    let never = LinkConfig { priority: Priority::Never, ..LinkConfig::new(link(0), "wan0") };
    world.balancer.set_link(never, world.now);
    world.run(secs(1));
    assert!(world.events.iter().any(|&(_, event)| event == Event::Evict { link: link(0) }));
    for flow in flows {
        assert_eq!(world.balancer.socket(flow, world.now).unwrap().link, Some(link(1)));
    }
    let sent = world.lines[0].sent;
    world.run(secs(20));
    assert_eq!(world.lines[0].sent, sent, "and not probed");
}

#[test]
fn one_dead_target_or_site_is_no_dead_link() {
    let mut world = World::new(two(), Config::default(), 4);
    world.run(secs(10));
    // 1.1.1.1 falls silent; the other two answer.
    world.dead_targets = 1;
    world.run(secs(120));
    assert!(
        world.events.iter().all(|(_, event)| !matches!(event, Event::LinkState { .. })),
        "{:?}",
        world.events
    );
    // A site that never answers, over and over.
    for n in 0..100 {
        let placement = world.balancer.open(&host(n, 80), world.now).unwrap();
        world.run(ms(300));
        while let Some(next) = world.balancer.next_link(placement.socket, world.now) {
            world.run(next.patience);
        }
        world.balancer.handle_closed(placement.socket, world.now);
    }
    assert!(
        world
            .events
            .iter()
            .all(|(_, event)| !matches!(event, Event::LinkState { to: LinkState::Failed, .. }))
    );
}

#[test]
fn targets_that_never_answered_prove_nothing() {
    let mut world = World::new(two(), Config::default(), 4);
    world.dead_targets = 255;
    world.run(secs(60));
    for line in 0..2 {
        assert_eq!(world.state(line), LinkState::Stable);
    }
    // Then sockets alone have to show it.
    world.set_alive(0, false);
    let died = world.now;
    for n in 0..100 {
        world.download(&host(n, 80), 0.05, Sender::Bbr).unwrap();
        world.run(ms(50));
    }
    let found = world.entered(0, LinkState::Failed, died).expect("found").since(died);
    assert!(found < secs(2), "{found:?}");
    world.set_alive(0, true);
    for n in 0..400 {
        world.download(&host(n, 80), 0.05, Sender::Bbr).unwrap();
        world.run(ms(50));
    }
    assert_eq!(world.state(0), LinkState::Stable);
}

/// A link that dies and returns every two seconds is used for less and less.
#[test]
fn a_flapping_link_is_bounded() {
    for (on, off) in [(2_000, 2_000), (500, 700), (5_000, 1_500), (300, 3_000)] {
        let mut world = World::new(two(), Config::default(), 5);
        world.run(secs(3));
        let start = world.events.len();
        let end = world.now + secs(600);
        while world.now < end {
            world.set_alive(0, false);
            world.keep(4, 0.5, Sender::Bbr, ms(off));
            world.set_alive(0, true);
            world.keep(4, 0.5, Sender::Bbr, ms(on));
        }
        let to = |state| {
            let enters = |(_, event): &&(Timestamp, Event)| matches!(event, Event::LinkState { link: id, to, .. } if *id == link(0) && *to == state);
            world.events[start..].iter().filter(enters).count()
        };
        println!("{on}/{off}: trusted {} failed {}", to(LinkState::Stable), to(LinkState::Failed));
        assert!(to(LinkState::Stable) <= 25, "{on}/{off}: trusted {} times", to(LinkState::Stable));
        let evicts =
            world.events[start..].iter().filter(|(_, event)| matches!(event, Event::Evict { .. })).count();
        assert!(evicts <= 10 * 60, "{evicts}");
    }
}

/// An upload fills a thin link, and a second's worth of queue holds up every probe; acknowledgements come back.
#[test]
fn a_bloated_upload_is_no_dead_link() {
    let mut world = World::new(two(), Config::default(), 6);
    world.run(secs(5));
    world.lines[0].delay = 0.7;
    for _ in 0..3_000 {
        world.lines[0].sent += 1_250;
        world.lines[0].received += 22;
        world.step();
    }
    assert!(
        world.events.iter().all(|(_, event)| !matches!(event, Event::Evict { .. })),
        "{:?}",
        world.events
    );
    world.set_alive(0, false);
    let died = world.now;
    for _ in 0..400 {
        world.lines[0].sent += 1_250;
        world.step();
    }
    assert!(world.entered(0, LinkState::Failed, died).is_some());
}

/// A queue that grows by a second at once is seen, though its probes came late.
#[test]
fn late_answers_are_worth_something() {
    let mut world = World::new(two(), Config::default(), 6);
    world.run(secs(5));
    world.lines[0].delay = 0.5;
    for _ in 0..600 {
        world.lines[0].received += 50_000;
        world.lines[0].sent += 1_000;
        world.step();
    }
    let status = &world.balancer.snapshot(world.now).links[0];
    assert!(status.rtt > Some(ms(200)) && status.is_capacity_known, "{status:?}");
}

/// Lossy links are no dead links.
#[test]
fn loss_alone_condemns_nobody() {
    let lines =
        vec![Line::new(15.0, 15.0, 40.0).lossy(0.01, 10.0), Line::new(8.0, 20.0, 60.0).lossy(0.03, 15.0)];
    let mut world = World::new(lines, Config::default(), 6);
    world.run(secs(3));
    world.keep(6, 1.0, Sender::Cubic, secs(300));
    world.downloads.clear();
    world.run(secs(600));
    let failed =
        |event: &&(Timestamp, Event)| matches!(event.1, Event::LinkState { to: LinkState::Failed, .. });
    assert_eq!(world.events.iter().filter(failed).count(), 0, "{:?}", world.events);
}

#[test]
fn without_targets_there_are_no_probes() {
    let probes = ProbeConfig { targets: Vec::new(), ..ProbeConfig::default() };
    let mut world = World::new(two(), Config { probes, ..Config::default() }, 6);
    world.run(secs(30));
    assert_eq!(world.lines[0].sent, 0);
    world.keep(4, 0.5, Sender::Bbr, secs(5));
    world.set_alive(0, false);
    let died = world.now;
    world.keep(4, 0.5, Sender::Bbr, secs(5));
    assert!(world.entered(0, LinkState::Failed, died).is_some());
}

/// A satellite and a link that loses a quarter of all packets.
#[test]
fn distant_and_poor_links_are_not_condemned_for_nothing() {
    let lines =
        [Line::new(25.0, 3.0, 300.0).lossy(0.001, 5.0), Line::new(20.0, 20.0, 80.0).lossy(0.25, 40.0)];
    for (line, most) in lines.into_iter().zip([0, 5]) {
        let mut world = World::new(vec![Line::new(30.0, 10.0, 30.0), line], Config::default(), 6);
        world.run(secs(300));
        world.keep(6, 2.0, Sender::Bbr, secs(300));
        let failed = |event: &&(Timestamp, Event)| matches!(event.1, Event::LinkState { link: id, to: LinkState::Failed, .. } if id == link(1));
        let failures = world.events.iter().filter(failed).count();
        let status = &world.balancer.snapshot(world.now).links[1];
        assert!(failures <= most, "{failures}");
        assert!(status.opened > 100 && status.capacity_down.is_some(), "it is used: {status:?}");
        world.set_alive(1, false);
        let died = world.now;
        world.keep(6, 2.0, Sender::Bbr, secs(6));
        let found = world.entered(1, LinkState::Failed, died).expect("found").since(died);
        assert!(found < secs(3), "{found:?}");
    }
}

/// A machine that has no files left sends no probes. That is no link's silence.
#[test]
fn probes_that_were_not_sent_say_nothing() {
    let mut balancer = Balancer::new(Config::default(), 1);
    for line in 0..2 {
        balancer.set_link(LinkConfig::new(link(line), &format!("wan{line}")), Timestamp::ZERO);
    }
    let mut now = Timestamp::ZERO;
    while now < Timestamp::from_millis(20_000) {
        now += ms(10);
        let has_files = now < Timestamp::from_millis(5_000);
        while let Some(probe) = balancer.poll_probe(now) {
            match has_files {
                true => balancer.handle_probe_answer(probe.id, ms(20), now),
                false => balancer.handle_probe_failed(probe.id, ConnectFailure::NotSent, now),
            }
        }
        if !has_files {
            let socket = balancer.open(&web(1), now).unwrap();
            balancer.handle_connect_failed(socket.socket, socket.link.unwrap(), ConnectFailure::NotSent, now);
            balancer.handle_closed(socket.socket, now);
        }
        balancer.handle_timeout(now);
        assert!(balancer.snapshot(now).links.iter().all(|link| link.state == LinkState::Stable), "{now:?}");
    }
}
