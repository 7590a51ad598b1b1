//! What a call's delay is made of beside one TCP flow: the quantiles of its delay, and of each link's queue.
//!
//! ```text
//! cargo run --release -p bondwire-sim --example call -- PROFILE [up|down] [--trace]
//! ```
use core::time::Duration;

use bondwire_scenario::Scenario;
use bondwire_sim::report::{self, MEMORY};
use bondwire_sim::traffic::{Direction, FlowConfig};
use bondwire_wire::Mode;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut scenario = Scenario::find(&args[0]).expect("a profile");
    if let Ok(seed) = std::env::var("SEED") {
        scenario.seed = seed.parse().unwrap();
    }
    let direction = if args[1] == "up" { Direction::Up } else { Direction::Down };
    let trace = args.get(2).is_some();
    let mut world = report::connected(&scenario, Mode::Speed, MEMORY, scenario.seed).expect("connects");
    let mtu = world.network.mtu(world.now()).unwrap_or(1280);
    world.run_for(Duration::from_millis(500));
    let call = world.add_flow(FlowConfig::udp(direction, 200, 200));
    world.run_for(Duration::from_secs(2));
    let tcp = world.add_flow(FlowConfig::tcp(direction, mtu));
    world.run_for(Duration::from_secs(4));
    let (from, earlier) = (world.now(), world.flow(tcp));
    let mut queues: Vec<Vec<f64>> = vec![Vec::new(); scenario.links.len()];
    for step in 0..1600 {
        world.run_for(Duration::from_millis(5));
        let now: Vec<f64> = world
            .network
            .queues()
            .map(|q| q[usize::from(direction == Direction::Down)].as_secs_f64() * 1e3)
            .collect();
        for (all, q) in queues.iter_mut().zip(&now) {
            all.push(*q);
        }
        if trace {
            let t = world.now();
            let paths = if direction == Direction::Up {
                world.network.client_status(t).paths
            } else {
                world.network.server_status(t).map(|s| s.paths).unwrap_or_default()
            };
            let last = world.ledger().delays(world.flow(call).data).last().copied();
            print!("{:7.1}", step as f64 * 5.0);
            for (q, p) in now.iter().zip(&paths) {
                print!("  q {q:5.1} cap {:6.2} tx {:6.2} fl {:5}", p.capacity_tx.as_mbps(), p.tx.as_mbps(), p.in_flight.get() / 1000);
            }
            println!("  call {:?}", last.map(|(_, d)| d.as_secs_f64() * 1e3));
        }
    }
    let rate = world.flow(tcp).rate_since(&earlier, Duration::from_secs(8));
    let data = world.flow(call).data;
    let mut delays: Vec<f64> =
        world.ledger().delays(data).iter().filter(|(at, _)| *at >= from).map(|(_, d)| d.as_secs_f64() * 1e3).collect();
    let quantiles = |values: &mut Vec<f64>| {
        values.sort_by(f64::total_cmp);
        [0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99].map(|q| values[((values.len() - 1) as f64 * q) as usize].round())
    };
    println!("{} {:?} tcp {:.1} call {:?}", scenario.name, direction, rate.as_mbps(), quantiles(&mut delays));
    for (link, all) in scenario.links.iter().zip(&mut queues) {
        println!("   {} queue {:?}", link.name, quantiles(all));
    }
}
