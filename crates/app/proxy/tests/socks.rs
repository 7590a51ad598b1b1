//! SOCKS5 as a client sees it.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use bondwire_proxy::{Failure, Login, Route};
use bondwire_units::LinkId;
use common::*;

#[test]
fn a_connection_takes_the_link_that_the_director_names() {
    let proxy = start(Double::new(&[3]));
    let mut client = proxy.client();
    let reply = ask(&mut client, 1, &address(who()));
    assert_eq!(reply[..2], [5, 0]);
    assert_eq!(reply[4..8], source(3).octets(), "the reply names the address that is used");
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, source(3).to_string());
}

#[test]
fn each_side_may_finish_before_the_other() {
    let proxy = start(Double::new(&[0]));
    // This server answers only when its client has finished.
    let target = server("127.0.0.1:0", |mut stream| {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        all.reverse();
        stream.write_all(&all).unwrap();
    });
    let mut client = proxy.socks(target);
    client.write_all(b"abc").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"cba");
    proxy.director.wait_closed();
}

#[test]
fn data_may_come_with_the_request() {
    let proxy = start(Double::new(&[0]));
    let mut client = proxy.client();
    let mut all = vec![5, 2, 0, 2, 5, 1, 0];
    all.extend(address(echo()));
    all.extend(b"early");
    client.write_all(&all).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert_eq!(back[..2], [5, 0]);
    assert!(back.ends_with(b"early"));
}

#[test]
fn the_request_may_come_byte_by_byte() {
    let proxy = start(Double::new(&[0]));
    let mut client = proxy.client();
    client.set_nodelay(true).unwrap();
    let mut all = vec![5, 1, 0, 5, 1, 0];
    all.extend(address(who()));
    for byte in all {
        client.write_all(&[byte]).unwrap();
    }
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert!(back.ends_with(source(0).to_string().as_bytes()));
}

#[test]
fn ipv6_targets_are_reached() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let proxy = start(Double::new(&[0]).route(0, Route::default()));
    let target = server("[::1]:0", |mut stream| stream.write_all(b"six").unwrap());
    let mut client = proxy.socks(target);
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "six");
}

#[test]
fn names_are_looked_up_on_the_link() {
    let here = dns::knows(IpAddr::from([127, 0, 0, 1]));
    let proxy = start(Double::new(&[1]).resolver(1, here.address));
    let target = who();
    for _ in 0..2 {
        let mut client = proxy.client();
        assert_eq!(ask(&mut client, 1, &name("www.Example.com", target.port()))[1], 0);
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        assert_eq!(text, source(1).to_string());
    }
    let asked = proxy.director.wait(|told| match told {
        Told::Open(_, remote, name) => Some((*remote, name.clone())),
        _ => None,
    });
    assert_eq!(asked, (SocketAddr::from(([0, 0, 0, 0], target.port())), Some("www.example.com".into())));
    assert!(here.asked() <= 2, "the answer was kept, per thread");
}

#[test]
fn the_login_is_asked_for() {
    let login = Login { user: "me".into(), password: "pass".into() };
    let proxy = start_with(Double::new(&[0]), |config| config.login = Some(login));
    let mut client = proxy.client();
    client.write_all(&[5, 1, 0]).unwrap();
    let mut answer = [0; 2];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [5, 0xff], "no method without a login will do");
    assert_eq!(client.read(&mut answer).unwrap(), 0);

    for (password, verdict) in [("past", 1), ("pas", 1), ("pass!", 1), ("", 1), ("pass", 0)] {
        let mut client = proxy.client();
        client.write_all(&[5, 2, 0, 2]).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [5, 2]);
        let mut shown = vec![1, 2, b'm', b'e', u8::try_from(password.len()).unwrap()];
        shown.extend(password.as_bytes());
        client.write_all(&shown).unwrap();
        client.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [1, verdict], "{password}");
        if verdict != 0 {
            assert_eq!(client.read(&mut answer).unwrap(), 0);
            continue;
        }
        let mut request = vec![5, 1, 0];
        request.extend(address(who()));
        client.write_all(&request).unwrap();
        assert_eq!(reply(&mut client)[1], 0);
    }
}

#[test]
fn every_refusal_has_its_code() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nowhere = dns::resolver(|query| {
        let mut answer = dns::answer(query, &[], 0);
        answer[3] |= 3;
        vec![answer]
    });
    let proxy = start(Double::new(&[0]).resolver(0, nowhere.address));
    for (command, target, code) in [
        (1, address(closed), 5),
        (2, address(closed), 7),
        (9, address(closed), 7),
        (1, vec![2, 0, 0, 0, 0], 8),
        (1, name("a b", 80), 4),
        (1, name("no.such.name", 80), 4),
        (1, address("[2001:db8::1]:80".parse().unwrap()), 3),
    ] {
        let mut client = proxy.client();
        assert_eq!(ask(&mut client, command, &target)[1], code, "{target:?}");
        assert_eq!(client.read(&mut [0]).unwrap(), 0, "closed after a refusal");
    }
    proxy.director.wait(|told| matches!(told, Told::Failed(_, _, Failure::Refused)).then_some(()));

    let mut client = start_and_ask(Double::new(&[]));
    assert_eq!(reply(&mut client.1)[1], 3, "no link");
}

fn start_and_ask(director: Double) -> (Running, std::net::TcpStream) {
    let proxy = start(director);
    let mut client = proxy.client();
    client.write_all(&[5, 1, 0, 5, 1, 0, 1, 127, 0, 0, 1, 0, 9]).unwrap();
    client.read_exact(&mut [0; 2]).unwrap();
    (proxy, client)
}

#[test]
fn socks4_is_refused_in_its_own_words() {
    let proxy = start(Double::new(&[0]));
    let mut client = proxy.client();
    client.write_all(&[4, 1, 0, 80, 127, 0, 0, 1, 0]).unwrap();
    let mut answer = [9; 8];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..2], [0, 0x5b]);
}

#[test]
fn too_many_clients_are_told_so() {
    let proxy = start_with(Double::new(&[0]), |config| {
        config.limits.clients = 2;
        config.workers = 1;
    });
    let target = echo();
    let held: Vec<_> = (0..2).map(|_| proxy.socks(target)).collect();
    let mut client = proxy.client();
    assert_eq!(ask(&mut client, 1, &address(target))[1], 1);
    let mut client = proxy.client();
    client.write_all(b"GET http://127.0.0.1/ HTTP/1.1\r\n\r\n").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    assert!(text.contains("2 clients"), "{text}");
    drop(held);
    proxy.director.wait_closed();
    assert_eq!(proxy.handle.counters().refused, 2);
}

#[test]
fn a_client_that_says_nothing_is_closed() {
    let proxy = start_with(Double::new(&[0]), |config| config.timeouts.request = Duration::from_millis(50));
    for part in [&b""[..], &[5], &[5, 1, 0], b"GET http://a"] {
        let mut client = proxy.client();
        client.write_all(part).unwrap();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).unwrap();
    }
}

#[test]
fn a_port_in_use_is_said_plainly() {
    let proxy = start(Double::new(&[0]));
    let director = std::sync::Arc::new(Double::new(&[0]));
    let config = bondwire_proxy::Config::new(proxy.address);
    let error = bondwire_proxy::Proxy::bind(config, director.clone(), director).unwrap_err().to_string();
    assert!(error.contains(&proxy.address.to_string()) && error.contains("Another program"), "{error}");
}

#[test]
fn a_link_that_is_gone_gives_way() {
    let proxy =
        start(Double::new(&[0, 1]).route(0, Route { interface: Some("gone0".into()), ..Route::default() }));
    let mut client = proxy.socks(who());
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, source(1).to_string());
    let failed = proxy.director.wait(|told| match told {
        Told::Failed(_, link, why) => Some((*link, *why)),
        _ => None,
    });
    assert_eq!(failed, (LinkId(0), Failure::Local));
}
