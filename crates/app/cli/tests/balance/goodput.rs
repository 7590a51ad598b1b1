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

/// The sum of what eight downloads get, in bits per second; each is bound to the link that `link` names for it.
fn download(
    world: &World,
    web: &BulkServer,
    congestion: &str,
    link: impl Fn(usize) -> Option<String>,
) -> u64 {
    let downloads: Vec<Bulk> = (0..DOWNLOADS)
        .map(|at| {
            let options = BulkOptions {
                limit: LENGTH,
                verify: false,
                congestion: Some(congestion.to_owned()),
                interface: link(at),
                ..BulkOptions::default()
            };
            Bulk::start(world.lab.client(), web, options).expect("a download")
        })
        .collect();
    let rates = downloads.into_iter().map(|download| {
        let timeline = download.finish().expect("a download").timeline;
        timeline.goodput(ms(3_000), LENGTH).as_bps()
    });
    rates.sum()
}

/// Starts a web host with one address and one port.
fn host(world: &World) -> BulkServer {
    let address = SocketAddr::from((world.lab.web_addr_v4(), 8080));
    BulkServer::start(world.lab.web(), address).expect("a web host")
}

/// What counts as enough: these figures stand in a report, and machines may be slow.
fn assert_share(world: &World, what: &str, share: f64, least: f64) {
    println!("{what}: {share:.3}");
    let late = world.lab.emulator().report().expect("the emulator runs");
    let least = if late.kept_up() { least } else { least / 2.0 };
    assert!(share >= least, "{what}: {share:.2}");
}

fn share_of_the_sum(profile: &str) {
    let scenario = Scenario::builtin(profile).expect("a profile");
    let mut world = World::of(&scenario);
    let web = host(&world);
    world.balance(&["--transparent"]);
    let congestion = congestion();
    let rate = download(&world, &web, congestion, |_| None);
    let sum: u64 = scenario.links.iter().filter_map(|link| link.down).map(Bitrate::as_bps).sum();
    assert_share(&world, &format!("{profile}, {congestion}, of the sum"), rate as f64 / sum as f64, 0.70);
}

/// CUBIC fills no link that loses packets: the measure is the same downloads, half of them bound to each link.
fn share_of_by_hand(profile: &str) {
    let scenario = Scenario::builtin(profile).expect("a profile");
    let mut world = World::of(&scenario);
    let web = host(&world);
    let links = &scenario.links;
    let by_hand = download(&world, &web, "cubic", |at| Some(links[at % links.len()].name.clone()));
    world.balance(&["--transparent"]);
    let balanced = download(&world, &web, "cubic", |_| None);
    assert_share(&world, &format!("{profile}, cubic, of by hand"), balanced as f64 / by_hand as f64, 0.70);
}

#[test]
fn eight_downloads_get_most_of_home() {
    in_lab("goodput::eight_downloads_get_most_of_home", || share_of_the_sum("home"));
}

#[test]
fn eight_downloads_get_most_of_road() {
    in_lab("goodput::eight_downloads_get_most_of_road", || share_of_the_sum("road"));
}

#[test]
fn eight_cubic_downloads_get_what_they_get_by_hand() {
    in_lab("goodput::eight_cubic_downloads_get_what_they_get_by_hand", || share_of_by_hand("home"));
}
