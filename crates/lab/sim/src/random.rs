//! Scenarios made up from a seed: one to five links of all kinds, and accidents.

use core::time::Duration;

use bondwire_netem::{Burst, Rng};
use bondwire_scenario::{Action, Change, Event, Link, LinkKind, Scenario};
use bondwire_units::Bitrate;

/// Links up to 30 Mbit/s, delays to 600 ms, loss to 30 %, deaths and returns, rebinding, changes of address and rate,
/// all within `span`. Any link may be dead at the end, but for the first one: it is alive whenever the others are not,
/// unless the scenario kills all of them, which it says ([`all_die`]).
pub fn scenario(seed: u64, span: Duration) -> Scenario {
    let mut rng = Rng::new(seed);
    let count = rng.between(1, 5) as usize;
    let links: Vec<Link> = (0..count).map(|number| link(&mut rng, number)).collect();
    let mut events = Vec::new();
    if rng.chance(0.25) {
        kill_all(&mut rng, count, span, &mut events);
    } else {
        for _ in 0..rng.below(6) {
            accident(&mut rng, &links, span, &mut events);
        }
    }
    events.sort_by_key(|event| event.at);
    Scenario { name: format!("random {seed}"), about: String::new(), seed, links, events }
}

/// When all links of a scenario of [`scenario`] are dead at once: from, until.
pub fn all_die(scenario: &Scenario) -> Option<(Duration, Duration)> {
    let dies = |link: usize| {
        let mut of_link = scenario.events.iter().filter(|event| event.link == link);
        let death = of_link.find(|event| matches!(event.action, Action::Silence | Action::CarrierLoss))?;
        let rebirth = of_link.find(|event| event.action == Action::Return)?;
        Some((death.at, rebirth.at))
    };
    let spans: Option<Vec<_>> = (0..scenario.links.len()).map(dies).collect();
    let spans = spans?;
    let from = spans.iter().map(|span| span.0).max()?;
    let until = spans.iter().map(|span| span.1).min()?;
    (from < until).then_some((from, until))
}

fn millis(rng: &mut Rng, low: u64, high: u64) -> Duration {
    Duration::from_millis(rng.between(low, high))
}

fn link(rng: &mut Rng, number: usize) -> Link {
    let rate = |rng: &mut Rng| Some(Bitrate::from_mbps(0.5 * 60_f64.powf(rng.unit())));
    let delay = if rng.chance(0.15) { millis(rng, 150, 600) } else { millis(rng, 1, 80) };
    let jitter = if rng.chance(0.4) { delay.mul_f64(rng.unit() * 0.5) } else { Duration::ZERO };
    let loss = match rng.below(10) {
        0 => rng.unit() * 0.3,
        1..=3 => rng.unit() * 0.03,
        _ => 0.0,
    };
    let burst = rng.chance(0.15).then(|| Burst { p: rng.unit() * 0.005, r: 0.1 + rng.unit() * 0.5 });
    let rare = |rng: &mut Rng| if rng.chance(0.1) { rng.unit() * 0.05 } else { 0.0 };
    Link {
        name: format!("link{number}"),
        kind: LinkKind::Unknown,
        up: rate(rng),
        down: rate(rng),
        delay,
        jitter,
        jitter_reorders: rng.chance(0.05),
        loss,
        burst,
        queue: None,
        reorder: rare(rng),
        duplicate: rare(rng),
        trace_up: None,
        trace_down: None,
        policer_up: None,
        policer_down: None,
        grants: Duration::ZERO,
        nat: rng.chance(0.5),
        v4: true,
        v6: rng.chance(0.3),
        mtu: if rng.chance(0.1) { rng.between(1300, 1492) as u16 } else { 1500 },
    }
}

fn kill_all(rng: &mut Rng, count: usize, span: Duration, events: &mut Vec<Event>) {
    let from = span.mul_f64(0.2 + rng.unit() * 0.2);
    let until = from + span.mul_f64(0.1 + rng.unit() * 0.2);
    for link in 0..count {
        let death = if rng.chance(0.5) { Action::Silence } else { Action::CarrierLoss };
        let at = from + millis(rng, 0, 50);
        events.push(Event { at, link, action: death });
        if rng.chance(0.2) {
            events.push(Event { at: until - Duration::from_millis(60), link, action: Action::AddressChange });
        }
        events.push(Event { at: until + millis(rng, 0, 300), link, action: Action::Return });
    }
}

fn accident(rng: &mut Rng, links: &[Link], span: Duration, events: &mut Vec<Event>) {
    let link = rng.below(links.len() as u64) as usize;
    let at = span.mul_f64(0.1 + rng.unit() * 0.6);
    let mut push = |at, action| events.push(Event { at, link, action });
    match rng.below(8) {
        0..=2 if link > 0 => {
            push(at, if rng.chance(0.5) { Action::Silence } else { Action::CarrierLoss });
            if rng.chance(0.7) {
                push(at + span.mul_f64(0.05 + rng.unit() * 0.25), Action::Return);
            }
        }
        3 => push(at, Action::AddressChange),
        4 if links[link].nat => push(at, Action::NatRebind),
        5 | 6 => {
            let factor = 0.3 + rng.unit() * 2.0;
            let change = Change {
                up: links[link].up.map(|rate| rate * factor),
                down: links[link].down.map(|rate| rate * factor),
                ..Change::default()
            };
            push(at, Action::Change(Box::new(change)));
        }
        _ => {
            let change = Change { delay: Some(millis(rng, 1, 200)), ..Change::default() };
            push(at, Action::Change(Box::new(change)));
        }
    }
}
