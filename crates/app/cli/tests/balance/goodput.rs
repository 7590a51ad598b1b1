//! Eight downloads at a time, in the transparent way: how much of the links' sum they get.

use std::net::SocketAddr;
use std::time::Duration;

use bondwire_netns::traffic::{Bulk, BulkOptions, BulkServer};
use bondwire_scenario::Scenario;
use bondwire_units::Bitrate;

use crate::support::{in_lab, ms, seconds};
use crate::world::World;

const DOWNLOADS: usize = 8;
const LENGTH: Duration = seconds(9);

/// BBR at the web host where this kernel has it: CUBIC cannot fill links that lose packets, with or without bondwire.
fn congestion() -> &'static str {
    let known = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    if known.is_ok_and(|known| known.contains("bbr")) { "bbr" } else { "cubic" }
}

fn share_of_the_sum(profile: &str) {
    let scenario = Scenario::builtin(profile).expect("a profile");
    let mut world = World::of(&scenario);
    let address = SocketAddr::from((world.lab.web_addr_v4(), 8080));
    let web = BulkServer::start(world.lab.web(), address).expect("a web host");
    world.balance(&["--transparent"]);
    let congestion = congestion();
    let options = BulkOptions {
        limit: LENGTH,
        verify: false,
        congestion: Some(congestion.to_owned()),
        ..BulkOptions::default()
    };
    let downloads: Vec<Bulk> = (0..DOWNLOADS)
        .map(|_| Bulk::start(world.lab.client(), &web, options.clone()).expect("a download"))
        .collect();
    let rates = downloads.into_iter().map(|download| {
        let timeline = download.finish().expect("a download").timeline;
        timeline.goodput(ms(3_000), LENGTH).as_bps()
    });
    let rates: Vec<u64> = rates.collect();
    let sum: u64 = scenario.links.iter().filter_map(|link| link.down).map(Bitrate::as_bps).sum();
    let share = rates.iter().sum::<u64>() as f64 / sum as f64;
    println!("{profile}, {congestion}: {share:.3} of the sum; {rates:?}");
    let late = world.lab.emulator().report().expect("the emulator runs");
    let least = if late.kept_up() { 0.70 } else { 0.35 };
    assert!(share >= least, "{profile}: {share:.2}");
}

#[test]
fn eight_downloads_get_most_of_home() {
    in_lab("goodput::eight_downloads_get_most_of_home", || share_of_the_sum("home"));
}

#[test]
fn eight_downloads_get_most_of_road() {
    in_lab("goodput::eight_downloads_get_most_of_road", || share_of_the_sum("road"));
}
