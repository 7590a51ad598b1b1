//! The kernel's plan follows the same policy.

use bondwire_units::{LinkId, Timestamp};

use super::world::{Line, Sender, World, host, link, ms, secs};
use crate::{Action, Balancer, Config, KernelAction, KernelPlan, LinkConfig, LinkState, Match, Rule};

fn home() -> Vec<Line> {
    vec![Line::new(50.0, 10.0, 10.0), Line::new(40.0, 20.0, 25.0).lossy(0.001, 5.0)]
}

/// Keeps eight downloads going whose links the kernel takes from the plan, in sequence.
#[test]
fn downloads_by_plan_reach_the_sum() {
    let skew = vec![Line::new(300.0, 100.0, 5.0), Line::new(30.0, 10.0, 40.0).lossy(0.003, 10.0)];
    let road = vec![Line::new(100.0, 30.0, 20.0), Line::new(120.0, 15.0, 25.0)];
    for (name, lines) in [("home", home()), ("road", road), ("skew", skew)] {
        let mut world = World::new(lines, Config::default(), 1);
        world.run(secs(3));
        world.keep_by_plan(8, 40.0, Sender::Bbr, secs(10));
        let share = world.keep_by_plan(8, 40.0, Sender::Bbr, secs(50)) / world.sum();
        println!("{name}: {share:.3} {:?}", world.placed);
        assert!(share > 0.93, "{name}: {share}");
    }
}

#[test]
fn a_sequence_has_the_right_shares_at_once() {
    let sequence = KernelPlan::sequence(&[(link(0), 556), (link(1), 444)], 64);
    let first = |length: usize| sequence[..length].iter().filter(|&&id| id == link(0)).count();
    assert_eq!((first(2), first(8), first(64)), (1, 4, 36));
    assert!(KernelPlan::sequence(&[], 64).is_empty());
}

#[test]
fn a_dead_link_has_no_weight_and_a_fallback() {
    let mut world = World::new(home(), Config::default(), 2);
    world.run(secs(5));
    let plan = world.balancer.plan(world.now);
    assert_eq!(plan.interactive, [(link(0), 1000)], "the quicker one");
    assert!(plan.links.iter().all(|link| link.keeps_sites && link.fallback.is_none()));
    world.set_alive(0, false);
    world.run(secs(4));
    let plan = world.balancer.plan(world.now);
    assert_eq!((&plan.bulk[..], &plan.interactive[..]), (&[(link(1), 1000)][..], &[(link(1), 1000)][..]));
    let dead = plan.links.iter().find(|entry| entry.link == link(0)).unwrap();
    assert_eq!((dead.state, dead.fallback, dead.keeps_sites), (LinkState::Failed, Some(link(1)), false));
    world.balancer.remove_link(link(1), world.now);
    let plan = world.balancer.plan(world.now);
    assert_eq!(plan.bulk, [(link(0), 1000)], "the last hope");
}

fn links(count: usize) -> Balancer {
    let mut balancer = Balancer::new(Config::default(), 1);
    for line in 0..count {
        assert!(balancer.set_link(LinkConfig::new(link(line), &format!("wan{line}")), Timestamp::ZERO));
    }
    balancer
}

/// A link's state, and where its mark is to lead.
fn led(balancer: &mut Balancer, line: usize, now: Timestamp) -> (LinkState, Option<LinkId>) {
    let plan = balancer.plan(now);
    let entry = plan.links.iter().find(|entry| entry.link == link(line)).unwrap();
    (entry.state, entry.fallback)
}

/// Two silent probes are a doubt, and most doubts are false: what was moved for one would have another address for good.
#[test]
fn a_false_alarm_moves_nothing() {
    let (mut balancer, mut now) = (links(2), Timestamp::ZERO);
    let mut seen = Vec::new();
    let mut unanswered = Vec::new();
    while now < Timestamp::from_millis(40_000) {
        now += ms(10);
        let (state, fallback) = led(&mut balancer, 0, now);
        if seen.last() != Some(&(state, fallback)) {
            seen.push((state, fallback));
        }
        // First it is slow to answer, then dead for a while.
        let is_alarm =
            now > Timestamp::from_millis(10_000) && !seen.iter().any(|seen| seen.0 == LinkState::Failing);
        let is_dead = now > Timestamp::from_millis(20_000) && now < Timestamp::from_millis(30_000);
        while let Some(probe) = balancer.poll_probe(now) {
            if probe.link == link(0) && (is_alarm || is_dead) {
                unanswered.push((probe.id, now));
            } else {
                balancer.handle_probe_answer(probe.id, ms(20), now);
            }
        }
        if !is_alarm && !is_dead {
            for (id, sent) in unanswered.drain(..) {
                balancer.handle_probe_answer(id, now.since(sent), now);
            }
        }
        balancer.handle_timeout(now);
    }
    let other = Some(link(1));
    assert_eq!(
        seen,
        [
            (LinkState::Stable, None),
            (LinkState::Failing, None),
            (LinkState::Stable, None),
            (LinkState::Failing, None),
            (LinkState::Failed, other),
            (LinkState::Returning, other),
            (LinkState::Stable, None),
        ]
    );
}

/// What is led away from a link goes on from its stand-in's address: it stays there while that works, and finds another when it dies.
#[test]
fn the_stand_in_of_a_lost_link_stays_until_it_is_lost_too() {
    let (mut balancer, mut now) = (links(3), Timestamp::from_millis(1_000));
    balancer.remove_link(link(0), now);
    let first = led(&mut balancer, 0, now).1.unwrap();
    let other = if first == link(1) { link(2) } else { link(1) };
    for n in 0..200 {
        // The other one is seen to carry more and more.
        now += ms(100);
        balancer.handle_link_counters(other, n * n * 10_000, 1_000 * n, now);
        balancer.handle_link_counters(first, n * 1_000, 1_000 * n, now);
        balancer.handle_timeout(now);
        assert_eq!(led(&mut balancer, 0, now).1, Some(first));
    }
    let capacity =
        |id| balancer.snapshot(now).links.iter().find(|link| link.link == id).unwrap().capacity_down;
    assert!(capacity(other) > capacity(first), "the other one would be chosen now");
    balancer.remove_link(first, now);
    assert_eq!(led(&mut balancer, 0, now).1, Some(other));
}

#[test]
fn rules_by_name_hold_for_their_addresses() {
    let rule = |name: &str, then| Rule { when: Match { name: Some(name.into()), ..Match::default() }, then };
    let strict = |name: &str| Action::Link { name: name.into(), strict: true };
    let rules = vec![rule("example.org", strict("wan1")), rule("example.com", strict("wan9"))];
    let mut world = World::new(home(), Config { rules, ..Config::default() }, 2);
    assert!(world.balancer.plan(world.now).rules.is_empty());
    world.balancer.handle_name("www.example.org", [192, 0, 2, 1].into(), world.now);
    world.balancer.handle_name("example.com", [192, 0, 2, 2].into(), world.now);
    world.balancer.handle_name("example.net", [192, 0, 2, 3].into(), world.now);
    let rules = world.balancer.plan(world.now).rules;
    let actions: Vec<_> = rules.iter().map(|rule| rule.then).collect();
    assert_eq!(actions, [KernelAction::Link(link(1)), KernelAction::Refuse]);
    assert_eq!(rules[0].prefix.unwrap().address, core::net::IpAddr::from([192, 0, 2, 1]));
}

/// Load alone makes 33 plans a second at most, and a machine at rest none.
#[test]
fn plans_are_few() {
    let mut world = World::new(home(), Config::default(), 2);
    world.run(secs(3));
    let plans = |world: &World, from: usize| {
        world.events[from..].iter().filter(|(_, event)| *event == crate::Event::PlanChanged).count()
    };
    let from = world.events.len();
    for n in 0..1_000 {
        world.download(&host(n, 80), 0.3, Sender::Bbr).unwrap();
        world.run(ms(10));
    }
    println!("{}", plans(&world, from));
    assert!(plans(&world, from) <= 340, "{}", plans(&world, from));
    world.run(secs(20));
    let from = world.events.len();
    world.run(secs(60));
    // One, when the presumption of a capacity ends.
    assert!(plans(&world, from) <= 1);
    let next = world.balancer.poll_timeout().map_or(Timestamp::ZERO, |deadline| deadline.at);
    assert!(next > world.now);
}
