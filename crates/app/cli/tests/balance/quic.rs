//! QUIC downloads, by quinn, whose link dies under them: in the transparent way, and through the proxy (SOCKS5's UDP ASSOCIATE).

use std::net::SocketAddr;
use std::time::Instant;

use crate::support::{MEGABYTE, Quic, QuicOptions, in_lab, seconds, until};
use crate::world::{PROXY, World};

fn survives(args: &[&str], proxy: Option<SocketAddr>) {
    let mut world = World::twin();
    world.balance(args);
    let carried = |world: &World| ["line0", "line1"].map(|link| world.side.carried(link).0);
    let before = carried(&world);
    let to = SocketAddr::from((world.lab.web_addr_v4(), 4443));
    let options =
        QuicOptions { bytes: Some(40 * MEGABYTE), limit: seconds(60), proxy, ..QuicOptions::default() };
    let download = Quic::start(world.lab.client(), world.lab.web(), to, options).expect("a download");
    until("it runs", seconds(15), || download.received() > 5 * MEGABYTE);
    until("the counters show it", seconds(2), || {
        carried(&world).iter().sum::<u64>() > before.iter().sum::<u64>() + MEGABYTE
    });
    let now = carried(&world);
    let link = if now[0] - before[0] > now[1] - before[1] { "line0" } else { "line1" };
    world.lab.silence(link).expect("a link");
    let died = Instant::now();
    let least = download.received() + 2 * MEGABYTE;
    until("it goes on over the other link", seconds(15), || download.received() > least);
    println!("2 MB more {:?} after the silent death of {link}", died.elapsed());
    let report = download.finish().expect("it ends");
    assert!(report.complete && report.intact, "all of it arrives");
}

#[test]
fn a_quic_download_survives_the_silent_death_of_its_link() {
    in_lab("quic::a_quic_download_survives_the_silent_death_of_its_link", || {
        survives(&["--transparent"], None);
    });
}

#[test]
fn a_quic_download_through_the_proxy_survives_the_silent_death_of_its_link() {
    in_lab("quic::a_quic_download_through_the_proxy_survives_the_silent_death_of_its_link", || {
        survives(&["--proxy", PROXY], Some(PROXY.parse().expect("an address")));
    });
}
