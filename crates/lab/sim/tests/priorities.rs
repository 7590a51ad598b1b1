//! Priorities and limits of links, in both directions, in virtual time.
#![allow(missing_docs, reason = "tests")]

use core::time::Duration;

use bondwire_bond::{LinkPriority, LinkRules, PathState};
use bondwire_scenario::{Action, Event, Scenario};
use bondwire_sim::bonded::Bonded;
use bondwire_sim::report::MEMORY;
use bondwire_sim::traffic::{Direction, FlowConfig};
use bondwire_sim::world::{FlowId, World};
use bondwire_units::{Bitrate, Timestamp};
use bondwire_wire::Mode;

const SECOND: Duration = Duration::from_secs(1);
const SECONDARY: LinkRules =
    LinkRules { priority: LinkPriority::Secondary, limit_up: None, limit_down: None };
const BACKUP: LinkRules = LinkRules { priority: LinkPriority::Backup, limit_up: None, limit_down: None };

/// A cable of 40 Mbit/s, another of 40, and a modem of 30; of these the first `count`, the last one always being the modem.
fn links(cables: usize, events: &[(u64, usize, Action)]) -> Scenario {
    let mut text = "name = \"links\"\n".to_owned();
    let cable = |number| (format!("cable{number}"), 40, 10 + 5 * number);
    for (name, rate, delay) in (0..cables).map(cable).chain([("modem".to_owned(), 30, 25)]) {
        text.push_str(&format!(
            "[[links]]\nname = \"{name}\"\nup = \"{rate} Mbit/s\"\ndown = \"{rate} Mbit/s\"\ndelay = \"{delay} ms\"\n"
        ));
    }
    let event = |(at, link, action): &(u64, usize, Action)| Event {
        at: Duration::from_millis(*at),
        link: *link,
        action: action.clone(),
    };
    let mut events: Vec<_> = events.iter().map(event).collect();
    events.sort_by_key(|event| event.at);
    Scenario { events, ..Scenario::parse(&text).expect("a scenario") }
}

/// A connected bond whose links have these rules, half a second after.
fn bond(scenario: &Scenario, rules: &[LinkRules]) -> World<Bonded> {
    let mut world =
        World::new(Bonded::new(scenario, Mode::Speed, MEMORY, scenario.seed), scenario.events.clone());
    for (link, rules) in rules.iter().enumerate() {
        world.network.set_link_rules(link, *rules, Timestamp::ZERO);
    }
    while !world.network.is_connected(world.now()) {
        assert!(world.now() < Timestamp::from_millis(10_000), "connects");
        world.run_for(SECOND / 20);
    }
    world.run_for(SECOND / 2);
    world
}

fn add_tcp(world: &mut World<Bonded>, direction: Direction) -> FlowId {
    let mtu = world.network.mtu(world.now()).expect("connected");
    world.add_flow(FlowConfig::tcp(direction, mtu))
}

/// Packets of 1,250 bytes at `mbps`.
fn add_udp(world: &mut World<Bonded>, direction: Direction, mbps: u32) -> FlowId {
    world.add_flow(FlowConfig::udp(direction, 1_250, mbps * 100))
}

/// Bytes that each link was given so far, in one direction.
fn carried(world: &World<Bonded>, direction: Direction) -> Vec<u64> {
    let of = |(_, up, down, _)| match direction {
        Direction::Up => up,
        Direction::Down => down,
    };
    let bytes = |link| -> u64 {
        let stats: bondwire_netem::PipeStats = of(link);
        stats.bytes_in.get()
    };
    world.network.links().map(bytes).collect()
}

/// What each link was given within a span to come, in Mbit/s.
fn rates(world: &mut World<Bonded>, direction: Direction, span: Duration) -> Vec<f64> {
    let before = carried(world, direction);
    world.run_for(span);
    let rate = |(after, before): (u64, u64)| (after - before) as f64 * 8e-6 / span.as_secs_f64();
    carried(world, direction).into_iter().zip(before).map(rate).collect()
}

/// Whether the last link stands by, for what `direction`'s sender sends.
fn stands_by(world: &mut World<Bonded>, direction: Direction) -> bool {
    let now = world.now();
    let paths = match direction {
        Direction::Up => world.network.client_status(now).paths,
        Direction::Down => world.network.server_status(now).expect("a session").paths,
    };
    let last = paths.last().expect("paths");
    assert_eq!(last.state, PathState::Active);
    last.standby
}

fn assert_unharmed(world: &World<Bonded>) {
    assert_eq!(world.violations(), []);
    assert_eq!(world.network.sessions(), 1, "{:?}", world.network.log());
}

#[test]
fn a_secondary_is_left_alone_while_the_others_suffice() {
    for direction in Direction::BOTH {
        let mut world = bond(&links(1, &[]), &[LinkRules::default(), SECONDARY]);
        let flow = add_udp(&mut world, direction, 28);
        world.run_for(SECOND * 10);
        for way in Direction::BOTH {
            let bytes = carried(&world, way);
            let total: u64 = carried(&world, direction).iter().sum();
            println!("{direction:?}, {way:?}: {bytes:?}");
            assert!(bytes[1] * 50 < total, "{direction:?}: the secondary has carried {bytes:?} {way:?}");
        }
        assert!(stands_by(&mut world, direction));
        let totals = world.ledger().totals(world.flow(flow).data);
        assert!(totals.delivered + 200 > totals.sent, "{totals:?}");
        assert_unharmed(&world);
    }
}

#[test]
fn a_secondary_joins_a_full_link_and_leaves_again() {
    for direction in Direction::BOTH {
        let mut world = bond(&links(1, &[]), &[LinkRules::default(), SECONDARY]);
        let flow = add_tcp(&mut world, direction);
        world.run_for(SECOND * 4);
        let earlier = world.flow(flow);
        world.run_for(SECOND * 8);
        let share = world.flow(flow).rate_since(&earlier, SECOND * 8).as_mbps() / 70.0;
        println!("{direction:?}: {share:.3} of the sum");
        assert!(share >= 0.85, "{direction:?}: {share}");
        assert!(!stands_by(&mut world, direction));
        world.stop_flows();
        world.run_for(SECOND / 2);
        add_udp(&mut world, direction, 20);
        let start = world.now();
        while !stands_by(&mut world, direction) {
            assert!(world.now() < start + SECOND * 2, "{direction:?}: it has not left within two seconds");
            world.run_for(SECOND / 10);
        }
        println!("{direction:?}: left after {:?}", world.now().since(start));
        let after = rates(&mut world, direction, SECOND * 2);
        println!("{direction:?}: afterwards {after:?} Mbit/s");
        assert!(after[1] < 0.1, "{direction:?}: {after:?}");
        assert_unharmed(&world);
    }
}

/// The modem is slower to answer than the cable, and loses a little: the inner sender must not have given up growing before it joins.
#[test]
fn a_modem_beside_a_cable_at_home_joins_in_time() {
    for direction in Direction::BOTH {
        let scenario = Scenario::builtin("home").expect("a profile");
        let mut world = bond(&scenario, &[LinkRules::default(), SECONDARY]);
        let flow = add_tcp(&mut world, direction);
        world.run_for(SECOND * 4);
        let earlier = world.flow(flow);
        world.run_for(SECOND * 8);
        let rate = world.flow(flow).rate_since(&earlier, SECOND * 8).as_mbps();
        let sum = if direction == Direction::Down { 90.0 } else { 30.0 };
        println!("{direction:?}: {rate} of {sum} Mbit/s");
        assert!(rate >= 0.85 * sum, "{direction:?}: {rate}");
        assert_unharmed(&world);
    }
}

#[test]
fn what_overflows_is_little_where_little_is_missing() {
    for direction in Direction::BOTH {
        let mut world = bond(&links(1, &[]), &[LinkRules::default(), SECONDARY]);
        let flow = add_udp(&mut world, direction, 45);
        world.run_for(SECOND * 4);
        let earlier = world.flow(flow);
        let used = rates(&mut world, direction, SECOND * 6);
        let got = world.flow(flow).rate_since(&earlier, SECOND * 6).as_mbps();
        println!("{direction:?}: {used:?} Mbit/s for {got} of 45");
        // 45 Mbit/s and their headers need 47 or so; the first link carries 40.
        assert!(got >= 43.5 && used[0] >= 33.0 && used[1] <= 14.0, "{direction:?}: {used:?}, {got}");
        assert_unharmed(&world);
    }
}

#[test]
fn a_bond_of_secondaries_only_uses_them_all() {
    let mut world = bond(&links(1, &[]), &[SECONDARY; 2]);
    let flow = add_tcp(&mut world, Direction::Down);
    world.run_for(SECOND * 4);
    let earlier = world.flow(flow);
    world.run_for(SECOND * 8);
    let share = world.flow(flow).rate_since(&earlier, SECOND * 8).as_mbps() / 70.0;
    assert!(share >= 0.85, "{share}");
}

#[test]
fn a_backup_takes_over_and_is_left_again() {
    for direction in Direction::BOTH {
        let events: Vec<_> = (0..2)
            .flat_map(|link| [(6_000, link, Action::Silence), (12_000, link, Action::Return)])
            .collect();
        let mut world = bond(&links(2, &events), &[LinkRules::default(), LinkRules::default(), BACKUP]);
        let tcp = add_tcp(&mut world, direction);
        let udp = world.add_flow(FlowConfig::udp(direction, 200, 200));
        let before = rates(&mut world, direction, SECOND * 4);
        world.run_until(Timestamp::from_millis(9_000));
        let during = rates(&mut world, direction, SECOND * 3);
        world.run_until(Timestamp::from_millis(15_000));
        let after = rates(&mut world, direction, SECOND * 3);
        let gaps = [tcp, udp].map(|flow| world.flow(flow).progress.longest_gap);
        println!("{direction:?}: {before:?}, {during:?}, {after:?}, gaps {gaps:?}");
        assert!(before[2] < 0.2 && after[2] < 0.2, "{direction:?}: {before:?}, {after:?}");
        assert!(during[2] > 20.0, "{direction:?}: {during:?}");
        assert!(after[0] + after[1] > 60.0, "{direction:?}: {after:?}");
        assert!(gaps.iter().all(|gap| *gap <= SECOND / 2), "{direction:?}: {gaps:?}");
        assert_unharmed(&world);
    }
}

#[test]
fn a_secondary_carries_all_while_the_others_are_dead() {
    for direction in Direction::BOTH {
        let events = [(5_000, 0, Action::Silence), (10_000, 0, Action::Return)];
        let mut world = bond(&links(1, &events), &[LinkRules::default(), SECONDARY]);
        let flow = add_udp(&mut world, direction, 20);
        world.run_until(Timestamp::from_millis(7_000));
        let during = rates(&mut world, direction, SECOND * 2);
        world.run_until(Timestamp::from_millis(14_000));
        let after = rates(&mut world, direction, SECOND * 2);
        let gap = world.flow(flow).progress.longest_gap;
        println!("{direction:?}: {during:?}, {after:?}, gap {gap:?}");
        assert!(during[1] > 20.0 && during[0] < 0.1, "{direction:?}: {during:?}");
        assert!(after[0] > 20.0 && after[1] < 0.1, "{direction:?}: {after:?}");
        assert!(gap <= SECOND / 4, "{direction:?}: {gap:?}");
        assert_unharmed(&world);
    }
}

#[test]
fn a_backup_in_waiting_costs_next_to_nothing() {
    let mut world = bond(&links(1, &[]), &[LinkRules::default(), BACKUP]);
    let flows = Direction::BOTH.map(|direction| add_tcp(&mut world, direction));
    world.run_for(SECOND * 15);
    let before = Direction::BOTH.map(|way| carried(&world, way)[1]);
    world.run_for(SECOND * 60);
    let after = Direction::BOTH.map(|way| carried(&world, way)[1]);
    println!("the backup has carried {before:?} bytes, {after:?} a minute later");
    for (after, before) in after.into_iter().zip(before) {
        assert!(after - before < 10_000, "{before} bytes, {after} a minute later");
    }
    assert!(flows.iter().all(|flow| world.flow(*flow).progress.bytes > 100_000_000));
}

#[test]
fn a_limit_holds_in_both_directions() {
    let limit = |mbps| Some(Bitrate::from_mbps(mbps));
    let rules = LinkRules { limit_up: limit(5.0), limit_down: limit(8.0), ..LinkRules::default() };
    for (direction, most) in [(Direction::Up, 5.0), (Direction::Down, 8.0)] {
        let mut world = bond(&links(1, &[]), &[rules, LinkRules::default()]);
        let tcp = add_tcp(&mut world, direction);
        world.run_for(SECOND * 4);
        for _ in 0..4 {
            let used = rates(&mut world, direction, SECOND * 2);
            println!("{direction:?}: {used:?} Mbit/s of {most}");
            assert!((most * 0.9..=most * 1.05).contains(&used[0]), "{direction:?}: {used:?}");
        }
        let earlier = world.flow(tcp);
        let free = LinkRules::default();
        world.network.set_link_rules(0, free, world.now());
        world.run_for(SECOND * 4);
        let later = rates(&mut world, direction, SECOND * 2);
        assert!(later[0] > 30.0, "{direction:?}: the limit was lifted: {later:?}");
        assert!(world.flow(tcp).progress.bytes > earlier.progress.bytes);
        assert_unharmed(&world);
    }
}

#[test]
fn acknowledgements_of_a_download_keep_to_the_limit_too() {
    let rules = LinkRules { limit_up: Some(Bitrate::from_mbps(0.5)), ..LinkRules::default() };
    let mut world = bond(&links(1, &[]), &[rules, rules]);
    let flows: Vec<_> = (0..8).map(|_| add_tcp(&mut world, Direction::Down)).collect();
    world.run_for(SECOND * 4);
    let used = rates(&mut world, Direction::Up, SECOND * 4);
    let got: u64 = flows.iter().map(|flow| world.flow(*flow).progress.bytes).sum();
    println!("{used:?} Mbit/s of 0.5 each; {got} bytes");
    assert!(got > 5_000_000, "{got}");
    assert!(used.iter().all(|rate| *rate <= 0.5 * 1.05), "{used:?}");
}

#[test]
fn priorities_change_in_mid_transfer() {
    for direction in Direction::BOTH {
        let mut world = bond(&links(1, &[]), &[LinkRules::default(); 2]);
        let flow = add_tcp(&mut world, direction);
        world.run_for(SECOND * 4);
        world.network.set_link_rules(1, BACKUP, world.now());
        world.run_for(SECOND);
        let alone = rates(&mut world, direction, SECOND * 2);
        assert!(alone[1] < 0.2 && alone[0] > 34.0, "{direction:?}: {alone:?}");
        world.network.set_link_rules(1, LinkRules::default(), world.now());
        world.run_for(SECOND * 6);
        let both = rates(&mut world, direction, SECOND * 2);
        println!("{direction:?}: {both:?}");
        assert!(both[1] > 12.0, "{direction:?}: {both:?}");
        assert!(world.flow(flow).progress.longest_gap < SECOND / 2);
        assert_unharmed(&world);
    }
}

/// Whatever the links do and whatever is wished for in the meantime, each promise is kept, and a bond that has a living link carries.
#[test]
fn changing_wishes_break_nothing() {
    for seed in 0..24_u64 {
        let span = SECOND * 6;
        let scenario = bondwire_sim::random::scenario(seed, span);
        let mut world = bond(&scenario, &[]);
        let tcp = Direction::BOTH.map(|direction| add_tcp(&mut world, direction));
        world.add_flow(FlowConfig::udp(Direction::Down, 300, 200));
        let mut rng = bondwire_netem::Rng::new(seed);
        while world.now() < Timestamp::ZERO + span {
            let limit =
                |number: u64| number.is_multiple_of(3).then(|| Bitrate::from_bps(200_000 << (number % 8)));
            let rules = LinkRules {
                priority: LinkPriority::ALL[rng.next_u64() as usize % 3],
                limit_up: limit(rng.next_u64()),
                limit_down: limit(rng.next_u64()),
            };
            let link = rng.next_u64() as usize % scenario.links.len();
            world.network.set_link_rules(link, rules, world.now());
            world.run_for(SECOND / 5);
        }
        for link in 0..scenario.links.len() {
            world.network.set_link_rules(link, LinkRules::default(), world.now());
        }
        world.run_for(SECOND * 6);
        let before = tcp.map(|flow| world.flow(flow).progress.bytes);
        world.run_for(SECOND * 6);
        assert_eq!(world.violations(), [], "seed {seed}");
        for (flow, before) in tcp.into_iter().zip(before) {
            assert!(world.flow(flow).progress.bytes > before, "seed {seed}: nothing flows any more");
        }
    }
}
