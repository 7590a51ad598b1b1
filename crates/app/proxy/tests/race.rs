//! Links that do not answer, and those that do in their place.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::Read;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bondwire_proxy::Failure;
use bondwire_units::LinkId;
use common::*;

const SOON: Duration = Duration::from_millis(100);

#[test]
fn a_connect_without_an_answer_is_raced_over_the_next_link() {
    // The same name leads into a hole over link 0 and to a server over link 1.
    let (hole, _fill, _listener) = silent();
    let good = server(&format!("127.0.0.2:{}", hole.port()), |mut stream| {
        let peer = stream.peer_addr().unwrap().ip().to_string();
        std::io::Write::write_all(&mut stream, peer.as_bytes()).unwrap();
    });
    let first = dns::knows(hole.ip());
    let second = dns::knows(good.ip());
    let director = Double::new(&[0, 1]).patience(SOON);
    let proxy = start(director.resolver(0, first.address).resolver(1, second.address));
    let started = Instant::now();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, 1, &name("site.example", hole.port()))[1], 0);
    assert!(started.elapsed() < Duration::from_secs(5));
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, source(1).to_string());
    drop(client);
    proxy.director.wait_closed();
    let told = proxy.director.told();
    assert!(
        told.iter().any(|told| matches!(told, Told::Failed(_, LinkId(0), Failure::NoAnswer))),
        "{told:?}"
    );
    assert!(told.iter().any(|told| matches!(told, Told::Connected(_, LinkId(1)))), "{told:?}");
}

#[test]
fn a_resolver_that_is_deaf_costs_its_link_and_not_the_connect() {
    let deaf = dns::deaf();
    let good = dns::knows(IpAddr::from([127, 0, 0, 1]));
    let director = Double::new(&[0, 1]).patience(SOON);
    let proxy = start(director.resolver(0, deaf.address).resolver(1, good.address));
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, 1, &name("site.example", who().port()))[1], 0);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, source(1).to_string());
}

#[test]
fn of_several_addresses_the_one_that_answers_is_taken() {
    let (hole, _fill, _listener) = silent();
    let good = server(&format!("127.0.0.3:{}", hole.port()), |mut stream| {
        std::io::Write::write_all(&mut stream, b"here").unwrap();
    });
    let addresses = [hole.ip(), good.ip()];
    let both = dns::resolver(move |query| vec![dns::answer(query, &addresses, 60)]);
    let proxy = start(Double::new(&[0]).resolver(0, both.address));
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, 1, &name("two.example", hole.port()))[1], 0);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "here");
}

#[test]
fn when_nobody_answers_the_client_hears_it_in_time() {
    let (hole, _fill, _listener) = silent();
    let proxy = start_with(Double::new(&[0, 1]).patience(SOON), |config| {
        config.timeouts.connect = Duration::from_millis(400);
    });
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, 1, &address(hole))[1], 4);
    proxy.director.wait_closed();
    for link in [LinkId(0), LinkId(1)] {
        let lost = |told: &Told| matches!(told, Told::Failed(_, of, Failure::NoAnswer) if *of == link);
        assert!(proxy.director.told().iter().any(lost), "{link}");
    }
}

#[test]
fn a_refusal_is_an_answer() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = start(Double::new(&[0, 1]));
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, 1, &address(closed))[1], 5);
    proxy.director.wait_closed();
    let told = proxy.director.told();
    assert!(!told.iter().any(|told| matches!(told, Told::Connecting(_, LinkId(1)))), "{told:?}");
}
