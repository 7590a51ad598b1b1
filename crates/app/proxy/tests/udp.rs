//! UDP ASSOCIATE: datagrams to and fro, links, fragments, names, the end.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use bondwire_proxy::{Failure, Route};
use bondwire_units::LinkId;
use common::*;

/// Answers each datagram with the address that it came from and the datagram.
fn echo_udp() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            let mut answer = format!("{} ", peer.ip()).into_bytes();
            answer.extend(&buffer[..length]);
            let _ = socket.send_to(&answer, peer);
        }
    });
    address
}

struct Client {
    control: TcpStream,
    socket: UdpSocket,
}

impl Client {
    fn new(proxy: &Running) -> Self {
        let mut control = proxy.client();
        let reply = ask(&mut control, 3, &[1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(reply[1], 0);
        let port = u16::from_be_bytes([reply[8], reply[9]]);
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.connect(("127.0.0.1", port)).unwrap();
        Self { control, socket }
    }

    fn send(&self, fragment: u8, target: &[u8], payload: &[u8]) {
        let mut datagram = vec![0, 0, fragment];
        datagram.extend(target);
        datagram.extend(payload);
        self.socket.send(&datagram).unwrap();
    }

    /// The next datagram from an IPv4 remote, and its payload.
    fn receive(&self) -> (SocketAddr, String) {
        let mut buffer = [0; 65_536];
        let length = self.socket.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..4], [0, 0, 0, 1]);
        let ip: [u8; 4] = buffer[4..8].try_into().unwrap();
        let from = SocketAddr::from((ip, u16::from_be_bytes([buffer[8], buffer[9]])));
        (from, String::from_utf8(buffer[10..length].to_vec()).unwrap())
    }
}

#[test]
fn datagrams_go_over_the_link_and_come_back_with_their_sender() {
    let proxy = start(Double::new(&[2]));
    let (one, two) = (echo_udp(), echo_udp());
    let client = Client::new(&proxy);
    for (remote, text) in [(one, "a"), (two, "b"), (one, "c")] {
        client.send(0, &address(remote), text.as_bytes());
        assert_eq!(client.receive(), (remote, format!("{} {text}", source(2))));
    }
    let opened = proxy.director.told().iter().filter(|told| matches!(told, Told::Open(..))).count();
    assert_eq!(opened, 2, "one flow for each remote");
    drop(client);
    proxy.director.wait_closed();
}

#[test]
fn fragments_are_refused_and_whole_datagrams_still_pass() {
    let proxy = start(Double::new(&[0]));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    for fragment in [1, 2, 0x83] {
        client.send(fragment, &address(remote), b"part");
    }
    for broken in [&b""[..], &[0], &[0, 0, 0], &[0, 0, 0, 9, 1], &[1, 0, 0, 1, 127, 0, 0, 1, 0, 9]] {
        client.socket.send(broken).unwrap();
    }
    client.send(0, &address(remote), b"whole");
    assert!(client.receive().1.ends_with(" whole"));
}

#[test]
fn a_moved_flow_goes_on_over_the_other_link() {
    let proxy = start(Double::new(&[0, 1]));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    client.send(0, &address(remote), b"1");
    assert_eq!(client.receive().1, format!("{} 1", source(0)));
    let socket = proxy.director.wait(|told| match told {
        Told::Connected(socket, LinkId(0)) => Some(*socket),
        _ => None,
    });
    proxy.handle.move_flow(socket, LinkId(1));
    // The order crosses a thread: datagrams go on over the old link until it is read.
    let moved = (0..1000).any(|_| {
        client.send(0, &address(remote), b"2");
        client.receive().1 == format!("{} 2", source(1))
    });
    assert!(moved);
}

#[test]
fn names_in_datagrams_are_looked_up() {
    let here = dns::knows(IpAddr::from([127, 0, 0, 1]));
    let proxy = start(Double::new(&[0]).resolver(0, here.address));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    for text in ["1", "2"] {
        client.send(0, &name("game.example", remote.port()), text.as_bytes());
        assert_eq!(client.receive(), (remote, format!("{} {text}", source(0))));
    }
}

#[test]
fn large_datagrams_pass() {
    let proxy = start(Double::new(&[0]));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    let payload = vec![b'x'; 60_000];
    client.send(0, &address(remote), &payload);
    let (_, text) = client.receive();
    assert!(text.ends_with(std::str::from_utf8(&payload).unwrap()));
}

#[test]
fn a_link_that_is_gone_gives_way() {
    let gone = Route { source_v4: Some([192, 0, 2, 200].into()), ..Route::default() };
    let proxy = start(Double::new(&[0, 1]).route(0, gone));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    client.send(0, &address(remote), b"lost");
    client.send(0, &address(remote), b"found");
    assert_eq!(client.receive(), (remote, format!("{} found", source(1))));
    proxy.director.wait(|told| matches!(told, Told::Failed(_, LinkId(0), Failure::Local)).then_some(()));
}

/// A lease ran out and the modem got another address: the association goes on from that one.
#[test]
fn an_association_follows_its_links_new_address() {
    let proxy = start(Double::new(&[0]));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    client.send(0, &address(remote), b"1");
    assert_eq!(client.receive().1, format!("{} 1", source(0)));
    proxy.director.reroute(0, Route { source_v4: Some(source(7)), ..Route::default() });
    proxy.handle.route_changed(LinkId(0));
    // The order crosses a thread: datagrams leave as before until it is read.
    let moved = (0..1000).any(|_| {
        client.send(0, &address(remote), b"2");
        client.receive().1 == format!("{} 2", source(7))
    });
    assert!(moved);
    assert!(!proxy.director.told().iter().any(|told| matches!(told, Told::Failed(..))));
}

#[test]
fn a_datagram_that_cannot_be_sent_says_nothing_of_its_link() {
    let proxy = start(Double::new(&[0, 1]));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    client.send(0, &address(remote), &[b'x'; 65_490]);
    client.send(0, &address("[2001:db8::1]:9".parse().unwrap()), b"six");
    client.send(0, &address(remote), b"fits");
    while client.receive().1 != format!("{} fits", source(0)) {}
    let bad = |told: &Told| matches!(told, Told::Failed(_, _, why) if *why != Failure::Overtaken);
    assert!(!proxy.director.told().iter().any(bad), "{:?}", proxy.director.told());
}

#[test]
fn nobody_else_may_use_an_association() {
    let proxy = start(Double::new(&[0]));
    let remote = echo_udp();
    let client = Client::new(&proxy);
    client.send(0, &address(remote), b"mine");
    assert!(client.receive().1.ends_with(" mine"));
    let stranger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut datagram = vec![0, 0, 0];
    datagram.extend(address(remote));
    datagram.extend(b"not mine");
    stranger.send_to(&datagram, client.socket.peer_addr().unwrap()).unwrap();
    client.send(0, &address(remote), b"mine again");
    assert!(client.receive().1.ends_with(" mine again"));
}

#[test]
fn the_oldest_flow_gives_way() {
    let proxy = start_with(Double::new(&[0]), |config| config.limits.flows = 2);
    let client = Client::new(&proxy);
    for _ in 0..4 {
        client.send(0, &address(echo_udp()), b"x");
        client.receive();
    }
    let closed = || proxy.director.told().iter().filter(|told| matches!(told, Told::Closed(_))).count();
    assert_eq!(closed(), 2);
}

#[test]
fn too_many_associations_are_told_so() {
    let proxy = start_with(Double::new(&[0]), |config| {
        config.workers = 1;
        config.limits.associations = 1;
    });
    let held = Client::new(&proxy);
    let mut control = proxy.client();
    assert_eq!(ask(&mut control, 3, &[1, 0, 0, 0, 0, 0, 0])[1], 1);
    assert_eq!(control.read(&mut [0]).unwrap(), 0);
    drop(held);
    // Its place is given back; when is up to its thread.
    let again = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        ask(&mut proxy.client(), 3, &[1, 0, 0, 0, 0, 0, 0])[1] == 0
    });
    assert!(again);
}

#[test]
fn an_association_ends_with_its_connection() {
    let proxy = start(Double::new(&[0]));
    let client = Client::new(&proxy);
    client.send(0, &address(echo_udp()), b"x");
    client.receive();
    let Client { control, socket } = client;
    drop(control);
    proxy.director.wait_closed();
    // Its port is closed, and the kernel says so.
    let refused = (0..1000).any(|_| {
        thread::sleep(Duration::from_millis(1));
        socket.send(b"x").is_err()
    });
    assert!(refused);
}
