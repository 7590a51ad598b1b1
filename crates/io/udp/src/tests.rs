use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use bondwire_packet::Batch;

use crate::{
    Datagram, LinkConfig, LinkSocket, OpenError, Segmentation, SendErrorKind, ServerConfig, ServerSocket,
};

const LOCAL4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const LOCAL6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Waits until a socket has something to read, at most five seconds.
fn wait_readable(socket: &impl AsFd) {
    let mut poll = libc::pollfd { fd: socket.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 5_000) };
    assert_eq!(ready, 1, "nothing arrived");
}

fn batch(packets: &[&[u8]], to: Datagram) -> Batch<Datagram> {
    let mut batch = Batch::default();
    for packet in packets {
        batch.push(packet, to);
    }
    batch
}

fn receive(socket: &mut ServerSocket, count: usize) -> Batch<Datagram> {
    let mut received = Batch::default();
    while received.len() < count {
        wait_readable(socket);
        socket.recv_batch(&mut received, |datagram, _| datagram).unwrap();
    }
    received
}

fn link(local: IpAddr, segmentation: Segmentation) -> LinkSocket {
    LinkSocket::open(&LinkConfig { segmentation, ..LinkConfig::new("lo", local) }).unwrap()
}

/// Sends over a link socket, and answers from the server's socket; both must arrive as they were sent.
fn there_and_back(target: IpAddr, segmentation: Segmentation) {
    let mut server =
        ServerSocket::bind(&ServerConfig { segmentation, ..ServerConfig::all_addresses(0) }).unwrap();
    let mut client = link(if target.is_ipv4() { LOCAL4 } else { LOCAL6 }, segmentation);
    let to = Datagram { remote: SocketAddr::new(target, server.local_addr().port()), local: None };
    let packets: Vec<Vec<u8>> = (0..100u8).map(|n| vec![n; if n % 10 == 9 { 300 } else { 1_200 }]).collect();
    let views: Vec<&[u8]> = packets.iter().map(Vec::as_slice).collect();
    let out = batch(&views, to);
    let outcome = client.send_batch(&out, 0..out.len(), |to| *to);
    assert_eq!(outcome.sent, 100, "{outcome:?}");

    let received = receive(&mut server, 100);
    let sent: BTreeSet<&[u8]> = views.iter().copied().collect();
    let got: BTreeSet<&[u8]> = received.iter().map(|(bytes, _)| bytes).collect();
    assert_eq!(sent, got);
    let (_, from) = received.get(0).unwrap();
    assert_eq!(from.local, Some(target));
    assert_eq!(from.remote, client.local_addr());

    assert_eq!(server.send_batch(&received, 0..100, |from| *from).sent, 100);
    let mut answers = Batch::default();
    while answers.len() < 100 {
        wait_readable(&client);
        client.recv_batch(&mut answers, |datagram, _| datagram).unwrap();
    }
    assert!(answers.iter().all(|(_, from)| from.remote.ip() == target), "answered from another address");
}

#[test]
fn datagrams_pass_both_ways_ipv4() {
    there_and_back(LOCAL4, Segmentation::Off);
}

#[test]
fn a_datagram_that_was_read_late_says_so() {
    const LATE: Duration = Duration::from_millis(20);
    for segmentation in [Segmentation::Off, Segmentation::On] {
        let mut server =
            ServerSocket::bind(&ServerConfig { segmentation, ..ServerConfig::all_addresses(0) }).unwrap();
        let to = SocketAddr::new(LOCAL4, server.local_addr().port());
        let sender = UdpSocket::bind((LOCAL4, 0)).unwrap();
        // The kernel begins to note times a moment after the first socket has asked for them: until then a datagram counts as come when it is read.
        let said = (0..50).any(|_| {
            sender.send_to(b"late", to).unwrap();
            wait_readable(&server);
            std::thread::sleep(LATE);
            let mut received = Batch::default();
            server.recv_batch(&mut received, |_, waited| waited).unwrap();
            received.get(0).is_some_and(|(_, waited)| *waited >= LATE)
        });
        assert!(said);
    }
}

#[test]
fn datagrams_pass_both_ways_ipv6() {
    there_and_back(LOCAL6, Segmentation::Off);
}

#[test]
fn segmentation_changes_nothing_that_is_seen() {
    there_and_back(LOCAL4, Segmentation::On);
    there_and_back(LOCAL6, Segmentation::On);
}

#[test]
fn answers_leave_from_the_address_that_was_asked() {
    // All of 127/8 is local: the second address would never be chosen by the kernel itself.
    there_and_back(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7)), Segmentation::Off);
}

#[test]
fn a_server_for_ipv4_alone_answers_from_the_address_that_was_asked() {
    let mut server = ServerSocket::bind(&ServerConfig::new("0.0.0.0:0".parse().unwrap())).unwrap();
    let asked = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9)), server.local_addr().port());
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.send_to(b"hello", asked).unwrap();
    let received = receive(&mut server, 1);
    server.send_batch(&received, 0..1, |from| *from);
    let mut buffer = [0; 16];
    assert_eq!(client.recv_from(&mut buffer).unwrap(), (5, asked));
}

#[test]
fn one_refused_datagram_does_not_stop_the_others() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut client = link(LOCAL4, Segmentation::Off);
    let to = Datagram { remote: server.local_addr().unwrap(), local: None };
    let too_long = vec![0; 66_000];
    let out = batch(&[b"a", &too_long, b"b"], to);
    let outcome = client.send_batch(&out, 0..3, |to| *to);
    assert_eq!(outcome.sent, 2);
    assert_eq!(outcome.errors.len(), 1);
    assert_eq!((outcome.errors[0].index, outcome.errors[0].kind), (1, SendErrorKind::MessageTooLong));
}

#[test]
fn a_full_buffer_drops_and_does_not_wait() {
    let mut client = link(LOCAL4, Segmentation::Off);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = Datagram { remote: nobody.local_addr().unwrap(), local: None };
    let packet = vec![1; 1_400];
    let views: Vec<&[u8]> = (0..4_000).map(|_| packet.as_slice()).collect();
    let out = batch(&views, to);
    let outcome = client.send_batch(&out, 0..4_000, |to| *to);
    assert_eq!(outcome.sent + outcome.blocked + outcome.errors.len(), 4_000);
}

#[test]
fn a_port_in_use_names_its_holder() {
    let holder = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let error = ServerSocket::bind(&ServerConfig::all_addresses(port)).unwrap_err();
    let OpenError::PortInUse { holder: Some(found), .. } = &error else { panic!("{error:?}") };
    assert_eq!(found.pid, std::process::id());
    let text = error.to_string();
    assert!(text.contains(&port.to_string()) && text.contains(&format!("kill {}", found.pid)), "{text}");
}

#[test]
fn a_missing_link_is_named() {
    let error = LinkSocket::open(&LinkConfig::new("bwe-none", LOCAL4)).unwrap_err();
    assert!(matches!(&error, OpenError::NoSuchDevice { device } if device == "bwe-none"), "{error:?}");
}

#[test]
fn a_foreign_address_is_named() {
    let error = LinkSocket::open(&LinkConfig::new("lo", "192.0.2.1".parse().unwrap())).unwrap_err();
    assert!(matches!(error, OpenError::AddressNotAvailable { .. }), "{error:?}");
}
