//! The DNS forwarder as its clients see it.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bondwire_proxy::dns::ForwarderHandle;
use bondwire_proxy::{Config, Failure, Forwarder, Route};
use bondwire_units::LinkId;
use common::dns::{Resolver, answer, deaf, knows, query, resolver};
use common::{Double, LONG, Told, patient, source};

const SITE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

struct Running {
    address: SocketAddr,
    handle: ForwarderHandle,
    director: Arc<Double>,
    thread: Option<JoinHandle<()>>,
}

fn start(director: Double) -> Running {
    let director = Arc::new(director);
    let config = Config::new("127.0.0.1:0".parse().unwrap());
    let forwarder = Forwarder::bind(config, director.clone(), director.clone()).unwrap();
    let (address, handle) = (forwarder.local_addr(), forwarder.handle());
    let thread = Some(thread::spawn(move || forwarder.run().unwrap()));
    Running { address, handle, director, thread }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        let _ = self.thread.take().unwrap().join();
    }
}

impl Running {
    fn ask(&self, query: &[u8]) -> Vec<u8> {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.connect(self.address).unwrap();
        socket.send(query).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }
}

fn one(server: &Resolver) -> Double {
    Double::new(&[0]).resolver(0, server.address)
}

#[test]
fn a_query_goes_over_the_link_and_its_answer_comes_back() {
    let good = knows(SITE);
    let forwarder = start(one(&good));
    let asked = query(0xbeef, "Site.Example", 1);
    assert_eq!(forwarder.ask(&asked), answer(&asked, &[SITE], 300));
    let name = forwarder.director.wait(|told| match told {
        Told::Open(_, _, name) => name.clone(),
        _ => None,
    });
    assert_eq!(name, "site.example");
    forwarder.director.wait(|told| matches!(told, Told::Connected(_, LinkId(0))).then_some(()));
}

#[test]
fn answers_are_kept_until_they_are_forgotten() {
    let good = knows(SITE);
    let forwarder = start(one(&good));
    for id in 0..5 {
        let asked = query(id, "kept.example", 1);
        assert_eq!(forwarder.ask(&asked)[..2], id.to_be_bytes());
    }
    assert_eq!(good.asked(), 1);
    forwarder.handle.route_changed(LinkId(0));
    // The order crosses a thread.
    let again = (0..1000).any(|id| {
        forwarder.ask(&query(id, "kept.example", 1));
        good.asked() > 1
    });
    assert!(again);
}

/// Resolvers that another link's network has are none of this one's: its silence would be counted against it.
#[test]
fn a_link_without_resolvers_leaves_names_to_the_others() {
    let good = knows(SITE);
    let director = Double::new(&[0, 1]).resolver(1, good.address);
    let forwarder = start(director);
    let asked = query(1, "site.example", 1);
    assert_eq!(forwarder.ask(&asked), answer(&asked, &[SITE], 300));
    forwarder
        .director
        .wait(|told| matches!(told, Told::Failed(_, LinkId(0), Failure::NoResolver)).then_some(()));
}

#[test]
fn an_answer_that_may_not_be_kept_is_not() {
    let brief = resolver(|query| vec![answer(query, &[SITE], 0)]);
    let forwarder = start(one(&brief));
    for id in 0..3 {
        forwarder.ask(&query(id, "brief.example", 1));
    }
    assert_eq!(brief.asked(), 3);
}

#[test]
fn a_link_that_does_not_answer_is_raced() {
    let (silent, good) = (deaf(), knows(SITE));
    let director = Double::new(&[0, 1]).patience(Duration::from_millis(100));
    let forwarder = start(director.resolver(0, silent.address).resolver(1, good.address));
    let asked = query(1, "raced.example", 1);
    assert_eq!(forwarder.ask(&asked), answer(&asked, &[SITE], 300));
    forwarder
        .director
        .wait(|told| matches!(told, Told::Failed(_, LinkId(0), Failure::NoAnswer)).then_some(()));
    forwarder.director.wait_closed();
}

#[test]
fn a_resolver_that_fails_is_passed_over_at_once() {
    let failing = resolver(|query| {
        let mut answer = answer(query, &[], 0);
        answer[3] |= 2;
        vec![answer]
    });
    let good = knows(SITE);
    let director = Double::new(&[0, 1]);
    let forwarder = start(director.resolver(0, failing.address).resolver(1, good.address));
    let asked = query(1, "site.example", 1);
    assert_eq!(forwarder.ask(&asked), answer(&asked, &[SITE], 300));
}

#[test]
fn a_resolver_on_this_machine_is_behind_no_interface() {
    let here = knows(SITE);
    let route = Route { interface: Some("gone0".into()), resolvers: vec![here.address], ..Route::default() };
    let forwarder = start(Double::new(&[0]).route(0, route));
    let asked = query(1, "site.example", 1);
    assert_eq!(forwarder.ask(&asked), answer(&asked, &[SITE], 300));
}

#[test]
fn without_a_link_or_an_answer_the_client_hears_servfail() {
    let forwarder = start(Double::new(&[]));
    let got = forwarder.ask(&query(7, "site.example", 1));
    assert_eq!((&got[..2], got[3] & 15), (&[0, 7][..], 2));
}

#[test]
fn forged_and_broken_answers_are_not_heard() {
    let hostile = resolver(|query| {
        let good = answer(query, &[SITE], 60);
        let mut other_id = good.clone();
        other_id[0] ^= 0xff;
        let mut other_name = good.clone();
        other_name[13] ^= 1;
        let mut no_answer = good.clone();
        no_answer[2] &= 0x7f;
        vec![vec![], vec![0], good[..11].to_vec(), other_id, other_name, no_answer, query.to_vec(), good]
    });
    let forwarder = start(one(&hostile));
    let asked = query(9, "site.example", 1);
    assert_eq!(forwarder.ask(&asked), answer(&asked, &[SITE], 60));
}

#[test]
fn ids_and_ports_are_not_the_clients() {
    let (tell, told) = std::sync::mpsc::channel();
    let seen = resolver(move |query| {
        tell.send([query[0], query[1]]).unwrap();
        vec![answer(query, &[SITE], 0)]
    });
    let forwarder = start(one(&seen));
    let ids: Vec<_> = (0..8)
        .map(|_| {
            forwarder.ask(&query(0x1234, "site.example", 1));
            told.recv_timeout(LONG).unwrap()
        })
        .collect();
    assert!(ids.iter().any(|id| *id != [0x12, 0x34]) && ids.iter().any(|id| *id != ids[0]), "{ids:?}");
}

#[test]
fn an_answer_too_large_for_the_client_is_cut_and_marked() {
    let many: Vec<IpAddr> = (0..60).map(|last| IpAddr::from([192, 0, 2, last])).collect();
    let all = many.clone();
    let large = resolver(move |query| vec![answer(query, &all, 60)]);
    let forwarder = start(one(&large));
    let got = forwarder.ask(&query(3, "many.example", 1));
    assert!(got.len() <= 512 && got[2] & 2 != 0, "{} bytes", got.len());
    // A client that takes more gets it.
    let mut asked = query(3, "many.example", 1);
    asked[11] = 1;
    asked.extend([0, 0, 41, 16, 0, 0, 0, 0, 0, 0, 0]);
    assert!(forwarder.ask(&asked).len() > 512);
}

#[test]
fn queries_over_tcp_are_asked_over_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = patient(stream);
            assert_eq!(stream.peer_addr().unwrap().ip(), IpAddr::from(source(0)));
            let mut length = [0; 2];
            stream.read_exact(&mut length).unwrap();
            let mut asked = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut asked).unwrap();
            let answer = answer(&asked, &[SITE; 100], 60);
            stream.write_all(&u16::try_from(answer.len()).unwrap().to_be_bytes()).unwrap();
            stream.write_all(&answer).unwrap();
        }
    });
    let forwarder = start(Double::new(&[0]).resolver(0, address));
    let mut client = patient(TcpStream::connect(forwarder.address).unwrap());
    for id in 0..2 {
        let asked = query(id, "large.example", 1);
        client.write_all(&u16::try_from(asked.len()).unwrap().to_be_bytes()).unwrap();
        client.write_all(&asked).unwrap();
        let mut length = [0; 2];
        client.read_exact(&mut length).unwrap();
        let mut got = vec![0; usize::from(u16::from_be_bytes(length))];
        client.read_exact(&mut got).unwrap();
        assert_eq!(got, answer(&asked, &[SITE; 100], 60));
    }
}

#[test]
fn what_is_no_query_does_no_harm() {
    let good = knows(SITE);
    let forwarder = start(one(&good));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let fine = query(1, "site.example", 1);
    for length in 0..fine.len() {
        socket.send_to(&fine[..length], forwarder.address).unwrap();
    }
    socket.send_to(&answer(&fine, &[SITE], 1), forwarder.address).unwrap();
    let mut client = patient(TcpStream::connect(forwarder.address).unwrap());
    client.write_all(&[0, 3, 1, 2, 3]).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    assert_eq!(forwarder.ask(&fine), answer(&fine, &[SITE], 300));
}
