//! Data through the proxy: whole, in order, bounded, and ended when it has to.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bondwire_proxy::{Evicted, Traffic};
use bondwire_units::LinkId;
use common::*;

fn send_and_check(mut client: TcpStream, data: &[u8]) {
    let mut reader = client.try_clone().unwrap();
    let back = thread::scope(|scope| {
        let back = scope.spawn(move || {
            let mut back = Vec::new();
            reader.read_to_end(&mut back).unwrap();
            back
        });
        client.write_all(data).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        back.join().unwrap()
    });
    assert!(back == data, "{} of {} bytes came back, or others", back.len(), data.len());
}

#[test]
fn large_transfers_arrive_whole_both_ways() {
    let proxy = start(Double::new(&[0]));
    let data = pattern(24 << 20, 7);
    send_and_check(proxy.socks(echo()), &data);
    proxy.director.wait_closed();
    let last = proxy.director.told().into_iter().rev().find_map(|told| match told {
        Told::Traffic(traffic) => Some(traffic),
        _ => None,
    });
    let length = data.len() as u64;
    assert!(matches!(last, Some(Traffic { up, down, .. }) if up == length && down == length), "{last:?}");
    assert!(proxy.handle.counters().pipes > 0, "it was spliced");
}

#[test]
fn without_pipes_data_is_copied() {
    let proxy = start_with(Double::new(&[0]), |config| config.limits.pipes = 0);
    send_and_check(proxy.socks(echo()), &pattern(4 << 20, 9));
    assert_eq!(proxy.handle.counters().pipes, 0);
}

#[test]
fn many_transfers_share_few_pipes() {
    let proxy = start_with(Double::new(&[0]), |config| config.limits.pipes = 2);
    let target = echo();
    thread::scope(|scope| {
        for seed in 0..8 {
            let client = proxy.socks(target);
            scope.spawn(move || send_and_check(client, &pattern(2 << 20, seed)));
        }
    });
    assert!(proxy.handle.counters().pipes <= 2);
}

#[test]
fn a_slow_reader_slows_the_sender() {
    let proxy = start(Double::new(&[0]));
    let (tell, told) = mpsc::channel();
    // Sends until it is held back.
    let target = server("127.0.0.1:0", move |mut stream| {
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let data = vec![7; 1 << 16];
        let mut sent = 0_usize;
        while let Ok(more) = stream.write(&data) {
            sent += more;
            if sent > 256 << 20 {
                break;
            }
        }
        tell.send(sent).unwrap();
    });
    let mut client = proxy.socks(target);
    let sent = told.recv_timeout(LONG).unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were taken for a reader that reads nothing");
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent);
}

#[test]
fn a_reset_of_the_server_is_a_reset_for_the_client() {
    let proxy = start(Double::new(&[0]));
    let target = server("127.0.0.1:0", |mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    let mut client = proxy.socks(target);
    client.write_all(&[1]).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.director.wait(|told| matches!(told, Told::Reset(_)).then_some(()));
    proxy.director.wait_closed();
}

#[test]
fn a_client_that_breaks_off_is_a_reset_for_the_server() {
    let proxy = start(Double::new(&[0]));
    let (tell, told) = mpsc::channel();
    let target = server("127.0.0.1:0", move |mut stream| {
        tell.send(stream.read(&mut [0]).map_err(|error| error.kind())).unwrap();
    });
    let client = proxy.socks(target);
    socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    assert_eq!(told.recv_timeout(LONG).unwrap(), Err(ErrorKind::ConnectionReset));
}

fn open_and_talk(proxy: &Running, target: SocketAddr) -> TcpStream {
    let mut client = proxy.socks(target);
    client.write_all(b"x").unwrap();
    client.read_exact(&mut [0]).unwrap();
    client
}

#[test]
fn sockets_of_an_evicted_link_are_reset() {
    let proxy = start(Double::new(&[4]));
    let target = echo();
    let mut clients: Vec<_> = (0..4).map(|_| open_and_talk(&proxy, target)).collect();
    proxy.handle.evict(LinkId(5));
    clients[0].write_all(b"y").unwrap();
    clients[0].read_exact(&mut [0]).unwrap();
    proxy.handle.evict(LinkId(4));
    for client in &mut clients {
        assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
}

/// A link has lost its IPv4 address; what uses another one of it goes on.
#[test]
fn sockets_of_a_lost_address_are_reset() {
    let proxy = start(Double::new(&[4]));
    let target = echo();
    let mut client = open_and_talk(&proxy, target);
    let own = IpAddr::from(source(4));
    for (link, lost) in [(4, IpAddr::from(source(5))), (5, own)] {
        proxy.handle.evict_addresses(LinkId(link), &[lost]);
        // A connect after the order shows that it was read.
        drop(open_and_talk(&proxy, target));
        client.write_all(b"y").unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    proxy.handle.evict_addresses(LinkId(4), &[own]);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn sockets_of_an_evicted_link_stay_if_the_user_says_so() {
    let proxy = start_with(Double::new(&[4]), |config| config.evicted = Evicted::Keep);
    let target = echo();
    let mut client = open_and_talk(&proxy, target);
    proxy.handle.evict(LinkId(4));
    // The order to forget answers comes behind the eviction; a connect after both shows that both were read.
    drop(open_and_talk(&proxy, target));
    client.write_all(b"y").unwrap();
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn a_connection_without_traffic_ends() {
    let proxy = start_with(Double::new(&[0]), |config| config.timeouts.idle = Duration::from_millis(600));
    let mut client = open_and_talk(&proxy, echo());
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    proxy.director.wait_closed();
}

#[test]
fn what_moves_is_told_while_it_moves() {
    let proxy = start(Double::new(&[0]));
    let client = open_and_talk(&proxy, echo());
    // A report may fall between the byte's way there and its way back; the next one has both.
    let whole = |told: &Told| matches!(told, Told::Traffic(Traffic { up: 1, down: 1, .. })).then_some(());
    proxy.director.wait(whole);
    assert!(!proxy.director.told().iter().any(|told| matches!(told, Told::Closed(_))));
    drop(client);
}

#[test]
fn each_socket_is_closed_once_and_only_once() {
    let proxy = start(Double::new(&[0]));
    let target = echo();
    for _ in 0..20 {
        drop(open_and_talk(&proxy, target));
    }
    let director = proxy.director.clone();
    drop(proxy);
    let told = director.told();
    let opened = told.iter().filter(|told| matches!(told, Told::Open(..))).count();
    let mut closed: Vec<_> = told
        .iter()
        .filter_map(|told| if let Told::Closed(socket) = told { Some(*socket) } else { None })
        .collect();
    closed.sort_unstable();
    closed.dedup();
    assert_eq!((opened, closed.len()), (20, 20));
    assert_eq!(told.iter().filter(|told| matches!(told, Told::Closed(_))).count(), 20);
}
