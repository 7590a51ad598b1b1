//! Long transfers, and what is learnt from them: the sum of the links is reached, whatever was known before.

use super::world::{Dice, Line, Sender, World, host, ms, secs, web};
use crate::{Config, Transport};

fn home() -> Vec<Line> {
    vec![Line::new(50.0, 10.0, 10.0), Line::new(40.0, 20.0, 25.0).lossy(0.001, 5.0)]
}

fn road() -> Vec<Line> {
    vec![Line::new(100.0, 30.0, 20.0).lossy(0.002, 8.0), Line::new(120.0, 15.0, 25.0).lossy(0.004, 10.0)]
}

fn skew() -> Vec<Line> {
    vec![Line::new(300.0, 100.0, 5.0), Line::new(30.0, 10.0, 40.0).lossy(0.003, 10.0)]
}

/// Eight downloads at a time from port 80 of one host, each as long as 40 MB take.
#[test]
fn eight_downloads_reach_the_sum_of_unequal_links() {
    for (name, lines) in [("home", home()), ("road", road()), ("skew", skew())] {
        for seed in 0..5 {
            let mut world = World::new(lines.clone(), Config::default(), seed);
            world.run(secs(3));
            world.keep(8, 40.0, Sender::Bbr, secs(4));
            let goodput = world.keep(8, 40.0, Sender::Bbr, secs(60)) / world.sum();
            println!("{name} seed {seed}: {goodput:.3} placed {:?}", world.placed);
            assert!(goodput > 0.95, "{name}, seed {seed}: {goodput}");
        }
    }
}

/// Eight that were all opened at once, and last.
#[test]
fn eight_at_once_reach_it_too() {
    for (name, lines) in [("home", home()), ("road", road()), ("skew", skew())] {
        let mut world = World::new(lines, Config::default(), 1);
        world.run(secs(3));
        world.keep(8, 1e6, Sender::Bbr, secs(2));
        let goodput = world.keep(8, 1e6, Sender::Bbr, secs(10)) / world.sum();
        println!("{name}: {goodput:.3} placed {:?}", world.placed);
        assert!(goodput > 0.97, "{name}: {goodput}");
    }
}

/// CUBIC is slowed by loss, so the way it is spread matters. By hand: half and half, as long as each lasts.
#[test]
fn cubic_gets_what_it_would_by_hand() {
    for (name, lines) in [("home", home()), ("road", road()), ("skew", skew())] {
        let mut world = World::new(lines, Config::default(), 1);
        world.run(secs(3));
        let policy = world.keep(8, 20.0, Sender::Cubic, secs(60));
        let mut by_hand = World::new(world.lines.clone(), Config::default(), 1);
        by_hand.run(secs(3));
        let mut hand = 0.0;
        let mut next = 0;
        for _ in 0..6_000 {
            while by_hand.downloads.len() < 8 {
                let line = usize::from(by_hand.downloads.iter().filter(|d| d.line == 0).count() >= 4);
                by_hand.download_by_kernel(&web(80), line, 20.0, Sender::Cubic);
                next += 1;
            }
            let before = by_hand.goodput;
            by_hand.step();
            hand += by_hand.goodput - before;
        }
        let hand = hand / 60.0;
        println!(
            "{name}: policy {:.1} by hand {:.1} Mbit/s ({next}), {:?}",
            policy / 1e6,
            hand / 1e6,
            world.placed
        );
        assert!(policy > hand * 0.95, "{name}: {policy} {hand}");
    }
}

/// A link of a tenth is taken for equal until it was full, and has its right share soon after.
#[test]
fn a_thin_link_that_nobody_knows_is_tried_and_known_soon() {
    let mut world =
        World::new(vec![Line::new(100.0, 20.0, 15.0), Line::new(10.0, 5.0, 25.0)], Config::default(), 1);
    world.run(secs(3));
    let shares = |world: &World| {
        let snapshot = world.balancer.snapshot(world.now);
        snapshot.links.iter().map(|link| link.share).collect::<Vec<_>>()
    };
    assert!((shares(&world)[0] - 0.5).abs() < 0.02, "unknown links are equal: {:?}", shares(&world));
    world.keep(8, 30.0, Sender::Bbr, secs(20));
    world.downloads.clear();
    world.run(secs(10));
    let share = shares(&world)[1];
    assert!((0.07..0.13).contains(&share), "{:?}", world.balancer.snapshot(world.now));
    world.run(secs(600));
    assert!((shares(&world)[1] - share).abs() < 0.005, "remembered while idle");
}

/// Nothing ever filled the second link; what little it carried is no capacity.
#[test]
fn a_link_that_was_never_full_is_not_taken_for_thin() {
    let mut world =
        World::new(vec![Line::new(50.0, 10.0, 10.0), Line::new(50.0, 10.0, 12.0)], Config::default(), 1);
    world.run(secs(3));
    // The first gets all that is big, by chance of its opening; the second small things.
    world.download_by_kernel(&web(80), 0, 200.0, Sender::Bbr);
    world.download_by_kernel(&web(80), 0, 200.0, Sender::Bbr);
    for _ in 0..20 {
        world.download_by_kernel(&web(80), 1, 0.05, Sender::Bbr);
        world.run(secs(1));
    }
    world.downloads.clear();
    let sockets: Vec<_> = world.balancer.sockets(world.now).map(|socket| socket.socket).collect();
    for socket in sockets {
        world.balancer.handle_closed(socket, world.now);
    }
    world.run(secs(5));
    let snapshot = world.balancer.snapshot(world.now);
    assert!(snapshot.links[0].is_capacity_known && !snapshot.links[1].is_capacity_known);
    assert!(snapshot.links[1].share > 0.4, "{snapshot:?}");
}

/// A rate that drops to a quarter is followed within seconds, and so is its return.
#[test]
fn a_rate_that_changes_is_followed() {
    let mut world =
        World::new(vec![Line::new(80.0, 20.0, 15.0), Line::new(80.0, 20.0, 20.0)], Config::default(), 1);
    world.run(secs(3));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    world.lines[1].down = 20e6;
    world.keep(8, 20.0, Sender::Bbr, secs(5));
    let capacity = world.balancer.snapshot(world.now).links[1].capacity_down.unwrap().as_mbps();
    assert!(capacity < 26.0, "{:#?} {:?}", world.balancer.snapshot(world.now), world.downloads.len());
    world.lines[1].down = 80e6;
    world.keep(8, 20.0, Sender::Bbr, secs(3));
    let capacity = world.balancer.snapshot(world.now).links[1].capacity_down.unwrap().as_mbps();
    assert!(capacity > 70.0, "{capacity}");
}

/// One download fills the first link. What else is opened finds its way, and most of it past the full link.
#[test]
fn a_big_download_starves_nobody() {
    for seed in 0..5 {
        let mut world = World::new(home(), Config::default(), seed);
        world.run(secs(3));
        world.keep(8, 10.0, Sender::Bbr, secs(8));
        world.downloads.clear();
        world.run(secs(8));
        world.download_by_kernel(&web(80), 0, 1e6, Sender::Bbr);
        world.run(secs(3));
        let before = (world.placed.clone(), world.finished);
        for n in 0..300 {
            world.download(&host(n, 80), 0.1, Sender::Bbr).unwrap();
            world.run(ms(100));
        }
        let placed: Vec<_> = world.placed.iter().zip(&before.0).map(|(now, before)| now - before).collect();
        println!("seed {seed}: {placed:?}");
        assert!(placed[1] > placed[0], "seed {seed}: {placed:?}");
        assert!(world.finished - before.1 >= 298);
        let big = &world.downloads[0];
        assert!(big.received / 33.0 > 0.7 * 50e6, "and the download keeps most of its link");
    }
}

/// Slow streams are many sockets and few bytes: bytes decide.
#[test]
fn load_is_bytes_and_not_only_sockets() {
    let lines = vec![Line::new(100.0, 20.0, 10.0), Line::new(100.0, 20.0, 10.0)];
    let mut world = World::new(lines, Config::default(), 1);
    world.run(secs(3));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    world.downloads.clear();
    let sockets: Vec<_> = world.balancer.sockets(world.now).map(|socket| socket.socket).collect();
    for socket in sockets {
        world.balancer.handle_closed(socket, world.now);
    }
    world.run(secs(5));
    // Twelve streams of 2 Mbit/s on the first link, four transfers that fill the second.
    for _ in 0..12 {
        world.download_by_kernel(&web(80), 0, 1e6, Sender::Limited(2e6));
    }
    for _ in 0..4 {
        world.download_by_kernel(&web(80), 1, 1e6, Sender::Bbr);
    }
    world.run(secs(5));
    let placement = world.download(&web(80), 1e6, Sender::Bbr).unwrap();
    assert_eq!(placement.link, Some(super::world::link(0)));
}

/// Thousands of small sockets a minute: shares follow capacity, and nothing is lost.
#[test]
fn small_sockets_are_spread_by_capacity() {
    let mut world = World::new(home(), Config::default(), 3);
    world.run(secs(3));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    world.downloads.clear();
    world.run(secs(8));
    let before = (world.placed.clone(), world.finished);
    for n in 0..3_000 {
        world.download(&host(n, 80), 0.02, Sender::Bbr).unwrap();
        world.run(ms(20));
    }
    world.run(secs(3));
    let placed: Vec<_> = world.placed.iter().zip(&before.0).map(|(now, before)| now - before).collect();
    let share = placed[0] as f64 / 3_000.0;
    println!("{placed:?}");
    assert!((0.45..0.68).contains(&share), "{placed:?}");
    assert_eq!(world.finished - before.1, 3_000);
}

/// A UDP flow that is busy counts as a transfer like any other.
#[test]
fn datagrams_are_load_too() {
    let mut world =
        World::new(vec![Line::new(50.0, 10.0, 10.0), Line::new(50.0, 10.0, 10.0)], Config::default(), 1);
    world.run(secs(3));
    let mut request = web(5000);
    request.transport = Transport::Udp;
    let first = world.download(&request, 1e6, Sender::Limited(45e6)).unwrap();
    world.run(secs(4));
    let snapshot = world.balancer.snapshot(world.now);
    let on = snapshot.links.iter().find(|link| Some(link.link) == first.link).unwrap();
    assert!(on.share < 0.45, "{snapshot:?}");
}

/// Bytes of which no socket is known, such as a LAN's, are load as well.
#[test]
fn what_nobody_reports_is_load_too() {
    let mut world =
        World::new(vec![Line::new(50.0, 10.0, 10.0), Line::new(50.0, 10.0, 10.0)], Config::default(), 1);
    world.run(secs(3));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    world.downloads.clear();
    let sockets: Vec<_> = world.balancer.sockets(world.now).map(|socket| socket.socket).collect();
    for socket in sockets {
        world.balancer.handle_closed(socket, world.now);
    }
    world.run(secs(5));
    let even = world.balancer.snapshot(world.now).links[0].share;
    assert!((0.45..0.55).contains(&even), "{even}");
    for _ in 0..300 {
        world.lines[0].received += 62_000;
        world.step();
    }
    let share = world.balancer.snapshot(world.now).links[0].share;
    assert!(share < 0.1, "{share}");
}

/// An upload that nobody reports makes the queue; the stream that comes down meanwhile is no measure of the link.
#[test]
fn a_queue_upwards_says_nothing_of_the_way_down() {
    let mut world =
        World::new(vec![Line::new(50.0, 10.0, 10.0), Line::new(50.0, 10.0, 10.0)], Config::default(), 1);
    world.run(secs(3));
    world.keep(8, 20.0, Sender::Bbr, secs(10));
    world.downloads.clear();
    world.run(secs(8));
    let capacity = |world: &World| world.balancer.snapshot(world.now).links[0].capacity_down.unwrap();
    let before = capacity(&world);
    world.download_by_kernel(&web(80), 0, 1e6, Sender::Limited(5e6));
    world.lines[0].delay += 0.04;
    for _ in 0..1_000 {
        world.lines[0].sent += 12_000;
        world.step();
    }
    assert_eq!(capacity(&world), before);
}

/// Random links of which nothing is known, and eight downloads at a time, by either way.
#[test]
fn random_links_are_used_to_the_sum() {
    let mut dice = Dice::new(77);
    let (mut by_proxy, mut by_plan) = (Vec::new(), Vec::new());
    for seed in 0..60 {
        let count = 2 + dice.below(3);
        let mut line = |_| {
            let rate = 5.0 * 40.0_f64.powf(dice.unit());
            Line::new(rate, rate / 4.0, 3.0 + dice.unit() * 60.0)
                .lossy(0.003 * dice.unit(), dice.unit() * 10.0)
        };
        let lines: Vec<_> = (0..count).map(&mut line).collect();
        for (reached, keep) in [(&mut by_proxy, World::keep as Keep), (&mut by_plan, World::keep_by_plan)] {
            let mut world = World::new(lines.clone(), Config::default(), seed);
            world.run(secs(3));
            keep(&mut world, 8, 80.0, Sender::Bbr, secs(30));
            let share = keep(&mut world, 8, 80.0, Sender::Bbr, secs(60)) / world.sum();
            let rates: Vec<_> = lines.iter().map(|line| line.down / 1e6).collect();
            assert!(share > 0.85, "seed {seed}: {share:.3} of {rates:.0?}, placed {:?}", world.placed);
            reached.push(share);
        }
    }
    for (reached, least) in [(&mut by_proxy, 0.95), (&mut by_plan, 0.9)] {
        reached.sort_by(f64::total_cmp);
        println!("worst {:.3}, tenth {:.3}, median {:.3}", reached[0], reached[6], reached[30]);
        assert!(reached[6] > least, "{reached:?}");
    }
}

type Keep = fn(&mut World, usize, f64, Sender, core::time::Duration) -> f64;
