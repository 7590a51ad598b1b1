//! What bondwire promises, on the public profiles, in virtual time. The thresholds are those of the first release, not
//! the targets: `cargo run --release -p bondwire-sim --example profiles` shows where things stand.

use core::time::Duration;

use bondwire_scenario::{Action, Event, PUBLIC_PROFILES, Scenario};
use bondwire_sim::bonded::Bonded;
use bondwire_sim::report::{self, MEMORY};
use bondwire_sim::traffic::{Direction, FlowConfig};
use bondwire_sim::world::{FlowId, World};
use bondwire_units::Timestamp;
use bondwire_wire::Mode;

const SECOND: Duration = Duration::from_secs(1);

fn profile(name: &str) -> Scenario {
    Scenario::builtin(name).expect("a built-in profile")
}

/// A profile with events: (milliseconds, link, what).
fn with_events(name: &str, events: &[(u64, usize, Action)]) -> Scenario {
    let event = |(at, link, action): &(u64, usize, Action)| Event {
        at: Duration::from_millis(*at),
        link: *link,
        action: action.clone(),
    };
    Scenario { events: events.iter().map(event).collect(), ..profile(name) }
}

fn connected(scenario: &Scenario, mode: Mode) -> World<Bonded> {
    let mut world = report::connected(scenario, mode, MEMORY, scenario.seed).expect("connects");
    world.run_for(SECOND / 2);
    world
}

fn add_tcp(world: &mut World<Bonded>, direction: Direction) -> FlowId {
    let mtu = world.network.mtu(world.now()).expect("connected");
    world.add_flow(FlowConfig::tcp(direction, mtu))
}

/// All promises of the ledger were kept, and the session was never lost.
fn assert_unharmed(world: &World<Bonded>) {
    assert_eq!(world.violations(), []);
    assert_eq!(world.network.sessions(), 1, "{:?}", world.network.log());
}

#[test]
fn one_flow_gets_most_of_twin_and_home() {
    for name in ["twin", "home"] {
        for direction in Direction::BOTH {
            let goodput = report::bonded(&profile(name), direction, Mode::Speed, 12 * SECOND).unwrap();
            assert!(goodput.share() >= 0.85, "{name} {direction:?}: {goodput:?}");
        }
    }
}

#[test]
fn no_profile_is_worse_than_its_best_link() {
    for name in PUBLIC_PROFILES {
        let scenario = profile(name);
        for direction in Direction::BOTH {
            let rates = scenario.links.iter().map(|link| report::link_rate(link, direction));
            let best = rates.max().unwrap();
            let goodput = report::bonded(&scenario, direction, Mode::Speed, 12 * SECOND).unwrap();
            let ratio = goodput.rate.as_mbps() / best.as_mbps();
            assert!(ratio >= 0.8, "{name} {direction:?}: {ratio} of the best link's rate; {goodput:?}");
        }
    }
}

#[test]
fn a_silent_death_costs_less_than_a_second() {
    for name in ["twin", "home"] {
        for direction in Direction::BOTH {
            let events = [(5_000, 0, Action::Silence), (9_000, 0, Action::Return)];
            let mut world = connected(&with_events(name, &events), Mode::Speed);
            let tcp = add_tcp(&mut world, direction);
            let udp = world.add_flow(FlowConfig::udp(direction, 200, 200));
            world.run_until(Timestamp::from_millis(12_000));
            for flow in [tcp, udp] {
                let gap = world.flow(flow).progress.longest_gap;
                assert!(gap <= SECOND, "{name} {direction:?} {flow:?}: {gap:?}");
            }
            assert_unharmed(&world);
        }
    }
}

#[test]
fn carrier_loss_is_quicker_still() {
    let events = [(5_000, 1, Action::CarrierLoss), (9_000, 1, Action::Return)];
    let mut world = connected(&with_events("twin", &events), Mode::Speed);
    let udp = world.add_flow(FlowConfig::udp(Direction::Up, 200, 200));
    let tcp = add_tcp(&mut world, Direction::Up);
    world.run_until(Timestamp::from_millis(12_000));
    let gap = world.flow(udp).progress.longest_gap;
    assert!(gap <= SECOND / 5, "{gap:?}");
    let gap = world.flow(tcp).progress.longest_gap;
    assert!(gap <= SECOND / 2, "{gap:?}");
    assert_unharmed(&world);
}

#[test]
fn redundant_loses_nothing_when_a_link_dies() {
    for direction in Direction::BOTH {
        let mut world = connected(&with_events("twin", &[(5_000, 0, Action::Silence)]), Mode::Redundant);
        let udp = world.add_flow(FlowConfig::udp(direction, 1_000, 200));
        world.run_until(Timestamp::from_millis(10_000));
        world.stop_flows();
        world.run_for(SECOND);
        let report = world.flow(udp);
        let totals = world.ledger().totals(report.data);
        assert_eq!(totals.sent, totals.delivered, "{direction:?}: {totals:?}");
        assert!(report.progress.longest_gap <= Duration::from_millis(25), "{:?}", report.progress);
        assert_unharmed(&world);
    }
}

#[test]
fn redundant_loses_only_what_every_link_loses() {
    let mut scenario = profile("twin");
    scenario.links.iter_mut().for_each(|link| link.loss = 0.05);
    let mut world = connected(&scenario, Mode::Redundant);
    let udp = world.add_flow(FlowConfig::udp(Direction::Down, 300, 500));
    world.run_for(100 * SECOND);
    world.stop_flows();
    world.run_for(SECOND);
    let totals = world.ledger().totals(world.flow(udp).data);
    let lost = (totals.sent - totals.delivered) as f64 / totals.sent as f64;
    assert!(totals.sent >= 50_000 && lost <= 2.0 * 0.05 * 0.05, "{lost} {totals:?}");
    assert_unharmed(&world);
}

#[test]
fn addresses_may_change_at_any_time() {
    let mut scenario = with_events(
        "home",
        &[(4_000, 0, Action::NatRebind), (6_000, 1, Action::AddressChange), (8_000, 1, Action::NatRebind)],
    );
    scenario.links.iter_mut().for_each(|link| link.nat = true);
    let mut world = connected(&scenario, Mode::Speed);
    let flows = Direction::BOTH.map(|direction| add_tcp(&mut world, direction));
    world.run_until(Timestamp::from_millis(12_000));
    for flow in flows {
        let gap = world.flow(flow).progress.longest_gap;
        assert!(gap <= SECOND, "{flow:?}: {gap:?}");
    }
    let before = flows.map(|flow| world.flow(flow));
    world.run_for(4 * SECOND);
    let rate = world.flow(flows[0]).rate_since(&before[0], 4 * SECOND);
    assert!(rate.as_mbps() > 60.0, "both links carry again, not {rate}");
    assert_unharmed(&world);
}

#[test]
fn a_transfer_survives_the_death_of_all_links() {
    let events: Vec<_> = (0..2)
        .flat_map(|link| [(4_000, link, Action::Silence), (9_000 + 100 * link as u64, link, Action::Return)])
        .collect();
    let mut world = connected(&with_events("home", &events), Mode::Speed);
    let tcp = add_tcp(&mut world, Direction::Down);
    world.run_until(Timestamp::from_millis(9_000));
    let stalled = world.flow(tcp).progress.bytes;
    world.run_until(Timestamp::from_millis(14_000));
    assert!(world.flow(tcp).progress.bytes > stalled, "nothing for five seconds after the return");
    world.run_for(10 * SECOND);
    assert!(world.flow(tcp).progress.bytes > stalled + 20_000_000);
    assert_eq!(world.violations(), []);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut scenario = with_events("event", &[(3_000, 0, Action::Silence), (5_000, 0, Action::Return)]);
        scenario.seed = seed;
        let mut world = connected(&scenario, Mode::Speed);
        add_tcp(&mut world, Direction::Down);
        world.run_until(Timestamp::from_millis(7_000));
        world.ledger().iter().collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

/// At most 1 % of the packets that a transfer's sender sends after the first five seconds, over all paths, are sent again needlessly.
fn little_is_sent_again_needlessly(scenario: &Scenario) {
    for direction in Direction::BOTH {
        let mut world = connected(scenario, Mode::Speed);
        add_tcp(&mut world, direction);
        let totals = |world: &mut World<Bonded>| {
            let now = world.now();
            let paths = match direction {
                Direction::Up => world.network.client_status(now).paths,
                Direction::Down => world.network.server_status(now).expect("a session").paths,
            };
            paths.iter().fold((0, 0), |sum, path| (sum.0 + path.packets_tx, sum.1 + path.spurious))
        };
        world.run_until(Timestamp::from_millis(5_000));
        let before = totals(&mut world);
        world.run_until(Timestamp::from_millis(10_000));
        let after = totals(&mut world);
        assert_unharmed(&world);
        println!("{} {direction:?}: {before:?} packets and needless ones, then {after:?}", scenario.name);
        let (sent, spurious) = (after.0 - before.0, after.1 - before.1);
        assert!(sent > 2_000 && spurious * 100 <= sent, "{direction:?}: {spurious} of {sent}");
    }
}

#[test]
fn little_is_sent_again_needlessly_on_road() {
    little_is_sent_again_needlessly(&profile("road"));
}

#[test]
fn little_is_sent_again_needlessly_on_event() {
    little_is_sent_again_needlessly(&profile("event"));
}

#[test]
fn little_is_sent_again_needlessly_beside_a_link_that_reorders() {
    let mut scenario = profile("home");
    scenario.links[0].reorder = 0.03;
    little_is_sent_again_needlessly(&scenario);
}
