//! The longest gaps of one TCP flow and one UDP flow (200 a second) while the best link is silent for four seconds, over several seeds.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example failover -- [--seeds N] [PROFILE ...]
//! ```
use core::time::Duration;

use bondwire_scenario::{Action, Event, PUBLIC_PROFILES, Scenario};
use bondwire_sim::report::{self, MEMORY};
use bondwire_sim::traffic::{Direction, FlowConfig};
use bondwire_wire::Mode;

fn main() {
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    let mut seeds = 8;
    if let Some(place) = names.iter().position(|name| name == "--seeds") {
        seeds = names[place + 1].parse().expect("a number");
        names.drain(place..place + 2);
    }
    if names.is_empty() {
        names = PUBLIC_PROFILES.map(str::to_owned).to_vec();
    }
    println!("{:8} {:5} {:>8}  TCP ms                                    UDP ms", "profile", "", "target");
    for name in &names {
        for direction in Direction::BOTH {
            run(name, direction, seeds);
        }
    }
}

fn run(name: &str, direction: Direction, seeds: u64) {
    let (mut tcp, mut udp, mut targets) = (Vec::new(), Vec::new(), Vec::new());
    for seed in 0..seeds {
        let mut scenario = Scenario::find(name).expect("a profile");
        scenario.seed = seed + 1;
        let best = (0..scenario.links.len())
            .max_by_key(|&i| (report::link_rate(&scenario.links[i], direction), core::cmp::Reverse(scenario.links[i].delay)))
            .expect("a link");
        let event = |at, action| Event { at: Duration::from_millis(at), link: best, action };
        scenario.events = vec![event(6_000, Action::Silence), event(10_000, Action::Return)];
        let mut world = report::connected(&scenario, Mode::Speed, MEMORY, scenario.seed).expect("connects");
        world.run_until(bondwire_units::Timestamp::from_millis(2_000));
        let mtu = world.network.mtu(world.now()).unwrap_or(1280);
        let bulk = world.add_flow(FlowConfig::tcp(direction, mtu));
        let call = world.add_flow(FlowConfig::udp(direction, 200, 200));
        world.run_until(bondwire_units::Timestamp::from_millis(std::env::var("FROM").ok().and_then(|s| s.parse::<u64>().ok()).unwrap_or(5_990)));
        let now = world.now();
        let paths = if direction == Direction::Up {
            world.network.client_status(now).paths
        } else {
            world.network.server_status(now).map(|s| s.paths).unwrap_or_default()
        };
        let dead = &paths[best];
        let other = (0..scenario.links.len()).filter(|i| *i != best).map(|i| scenario.links[i].delay).min().expect("two links");
        let target = (dead.rtt.unwrap_or_default() + dead.rtt_variation * 4) * 3 + other;
        targets.push(target.as_millis());
        let wanted = std::env::var("TRACE").ok().and_then(|s| s.parse::<u64>().ok());
        if wanted == Some(seed) {
            for step in 0..150 {
                world.run_until(bondwire_units::Timestamp::from_millis(std::env::var("FROM").ok().and_then(|s| s.parse::<u64>().ok()).unwrap_or(5_900) + 20 * step));
                let t = world.now();
                let (paths, c, rc) = if direction == Direction::Up {
                    let s = world.network.client_status(t);
                    let r = world.network.server_status(t).map(|s| s.counters);
                    (s.paths, s.counters, r)
                } else {
                    let r = world.network.client_status(t).counters;
                    let s = world.network.server_status(t).expect("a session");
                    (s.paths, s.counters, Some(r))
                };
                let f = world.flow(bulk);
                print!("{:6} got {:9} q {:7} kept {:8} rep {:5} resc {:5} drop {:3} dup {:4} held {:7}", t.as_micros() / 1000, f.progress.bytes, c.queued_bytes, c.kept_bytes, c.repaired, c.rescued, c.ingress.dropped_delay, c.ingress.repeated, rc.map(|r| r.held_bytes).unwrap_or(0));
                print!(" rtx {:5} to {} cwnd {:6.0}", f.sender.retransmitted, f.sender.timeouts, f.window.map(|w| w.0).unwrap_or(0.0));
                for p in &paths {
                    print!(" | {:?} cap {:5.1} tx {:5.1} fl {:6} rtt {:4}", p.state, p.capacity_tx.as_mbps(), p.tx.as_mbps(), p.in_flight.get(), p.rtt.unwrap_or_default().as_millis());
                }
                println!();
            }
        }
        world.run_until(bondwire_units::Timestamp::from_millis(12_000));
        if wanted == Some(seed) {
            println!("{:?}", world.flow(bulk));
        }
        tcp.push(world.flow(bulk).progress.longest_gap.as_millis());
        udp.push(world.flow(call).progress.longest_gap.as_millis());
    }
    for list in [&mut tcp, &mut udp, &mut targets] {
        list.sort_unstable();
    }
    println!("{name:8} {direction:?}  {:>6}  {tcp:?}  {udp:?}", targets[targets.len() / 2]);
}
