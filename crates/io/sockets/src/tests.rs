//! The kernel's answers on loopback, and answers that no kernel would give.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use proptest::prelude::*;
use socket2::SockRef;

use crate::diag::read;
use crate::request;
use crate::socket::SocketKey;
use crate::*;

/// Set in the process that runs inside the namespace, to the test's name.
const INSIDE: &str = "BONDWIRE_TEST_INSIDE";

/// Runs `body` in a fresh network namespace: starts this program again under `unshare`, for that one test. An ordinary
/// user without user namespaces cannot have one, and only then is the test passed over.
fn in_namespace(test: &str, body: impl FnOnce()) {
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).status().expect("it can be started").success()
    };
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
        assert!(run("ip", &["link", "set", "lo", "up"]));
        body();
        return;
    }
    let status = std::fs::read_to_string("/proc/self/status").expect("readable");
    let is_root = status.lines().any(|line| line.starts_with("Uid:\t0\t"));
    let arguments = if is_root { ["-n"].as_slice() } else { &["-U", "-r", "-n"] };
    if !is_root && !run("unshare", &[arguments, &["true"]].concat()) {
        eprintln!("{test} needs root or user namespaces");
        return;
    }
    let status = Command::new("unshare")
        .args(arguments)
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .status()
        .expect("started");
    assert!(status.success(), "{test} failed inside its namespace");
}

/// Both ends of a connection over loopback, of which the caller's has a mark.
fn pair(address: &str, mark: u32) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).expect("bound");
    let stream = TcpStream::connect(listener.local_addr().expect("an address")).expect("connected");
    SockRef::from(&stream).set_mark(mark).expect("marked");
    let (accepted, _) = listener.accept().expect("accepted");
    (stream, accepted)
}

fn find(sockets: &[Socket], local: SocketAddr) -> Option<&Socket> {
    sockets.iter().find(|socket| socket.local == local)
}

#[test]
fn tcp_sockets_are_listed_with_their_figures() {
    in_namespace("tests::tcp_sockets_are_listed_with_their_figures", || {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (mut stream, mut accepted) = pair(address, 7);
            stream.write_all(&[1; 1000]).expect("sent");
            accepted.read_exact(&mut [0; 1000]).expect("received");
            accepted.write_all(&[1; 300]).expect("sent");
            stream.read_exact(&mut [0; 300]).expect("received");
            let mut diag = SockDiag::open().expect("open");
            let dump = diag.dump(&Query::default()).expect("listed");
            assert_eq!((dump.left_out, dump.unreadable), (0, 0));
            let socket = find(&dump.sockets, stream.local_addr().expect("an address")).expect("listed");
            assert_eq!(socket.remote, stream.peer_addr().expect("an address"));
            assert_eq!((socket.protocol, socket.state), (Protocol::Tcp, State::Established));
            assert_eq!(socket.mark, Some(7));
            assert!(socket.cookie != 0);
            let tcp = socket.tcp.expect("figures");
            assert_eq!((tcp.bytes_received, tcp.retransmits, tcp.timeouts), (300, 0, 0));
            assert!(tcp.rtt > Duration::ZERO && tcp.rtt < Duration::from_secs(1), "{tcp:?}");
            let mut owners = Owners::new();
            owners.refresh([socket.inode]);
            assert_eq!(owners.of(socket.inode).expect("this one").pid, std::process::id());
        }
    });
}

#[test]
fn udp_sockets_are_listed() {
    in_namespace("tests::udp_sockets_are_listed", || {
        let free = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let connected = UdpSocket::bind("[::1]:0").expect("bound");
        connected.connect("[::1]:9").expect("connected");
        let dump = SockDiag::open().expect("open").dump(&Query::default()).expect("listed");
        let free = find(&dump.sockets, free.local_addr().expect("an address")).expect("listed");
        assert_eq!((free.protocol, free.state, free.tcp), (Protocol::Udp, State::Close, None));
        let connected = find(&dump.sockets, connected.local_addr().expect("an address")).expect("listed");
        assert_eq!(
            (connected.state, connected.remote),
            (State::Established, "[::1]:9".parse().expect("good"))
        );
    });
}

#[test]
fn marks_filter_and_close() {
    in_namespace("tests::marks_filter_and_close", || {
        let mut pairs: Vec<_> = [0x10001, 0x10002, 0x20001, 5].map(|mark| pair("127.0.0.1:0", mark)).into();
        let mut diag = SockDiag::open().expect("open");
        let mut marked = |marks: &[Mark]| {
            let dump = diag.dump(&Query { marks: marks.into(), ..Query::default() }).expect("listed");
            let mut marks: Vec<u32> = dump.sockets.iter().filter_map(|socket| socket.mark).collect();
            marks.sort_unstable();
            marks
        };
        assert_eq!(marked(&[Mark::exactly(5)]), [5]);
        assert_eq!(marked(&[Mark { value: 0x10000, mask: 0xffff_0000 }]), [0x10001, 0x10002]);
        assert_eq!(marked(&[Mark::exactly(5), Mark::exactly(0x20001), Mark::exactly(99)]), [5, 0x20001]);
        assert_eq!(marked(&[Mark::exactly(6)]), [0; 0]);
        let many: Vec<Mark> = (1..=64).map(Mark::exactly).collect();
        assert_eq!(marked(&many), [5]);

        let gone = diag.destroy_marked(Mark { value: 0x10000, mask: 0xffff_0000 }).expect("closed");
        assert_eq!(gone, 2);
        for (index, (stream, _)) in pairs.iter_mut().enumerate() {
            stream.set_nonblocking(true).expect("set");
            let kind = stream.read(&mut [0; 1]).expect_err("nothing to read").kind();
            let expected = if index < 2 { ErrorKind::ConnectionAborted } else { ErrorKind::WouldBlock };
            assert_eq!(kind, expected, "socket {index}");
        }
        let too_many = vec![Mark::exactly(1); MAX_MARKS + 1];
        let query = Query { marks: too_many, ..Query::default() };
        assert!(matches!(diag.dump(&query), Err(DiagError::TooManyMarks { .. })));
    });
}

#[test]
fn one_socket_is_closed_and_no_other() {
    in_namespace("tests::one_socket_is_closed_and_no_other", || {
        let (mut doomed, _far) = pair("127.0.0.1:0", 0);
        let (mut spared, _other) = pair("127.0.0.1:0", 0);
        let mut diag = SockDiag::open().expect("open");
        let dump = diag.dump(&Query::default()).expect("listed");
        let socket = find(&dump.sockets, doomed.local_addr().expect("an address")).expect("listed");
        assert!(diag.destroy(socket).expect("closed"));
        assert!(!diag.destroy(socket).expect("answered"), "it is gone");
        assert_eq!(doomed.read(&mut [0; 1]).expect_err("closed").kind(), ErrorKind::ConnectionAborted);
        spared.write_all(b"x").expect("it lives");
    });
}

/// A message as the kernel would send it.
fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = (16 + body.len() as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend([0; 2]);
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(body);
    bytes
}

#[test]
fn answers_to_others_are_passed_over() {
    let mut bodies = 0;
    let datagram = [message(20, 1, &[1; 72]), message(20, 2, &[2; 72]), message(3, 1, &[0; 4])].concat();
    let end = read(&datagram, 2, |body| {
        assert_eq!(body, [2; 72]);
        bodies += 1;
    });
    assert!(end.is_none() && bodies == 1);
    assert!(read(&datagram, 1, |_| {}).expect("an end").is_ok());
    let refused = message(2, 9, &(-libc::EPERM).to_ne_bytes());
    let error = read(&refused, 9, |_| {}).expect("an end").expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let least = message(2, 9, &i32::MIN.to_ne_bytes());
    assert!(read(&least, 9, |_| {}).expect("an end").is_err(), "no number is too odd");
    assert!(read(&message(2, 9, &[]), 9, |_| {}).expect("an end").is_err(), "an error without a number");
}

#[test]
fn a_key_goes_back_as_it_came() {
    let mut body = vec![2, 1, 0, 0];
    let id: Vec<u8> = (1..=48).collect();
    body.extend(&id);
    body.extend([0; 20]);
    let socket = Socket::decode(Protocol::Tcp, &body).expect("a socket");
    assert_eq!(socket.key.encode().to_vec(), id);
    let key: SocketKey = socket.key;
    assert_eq!(&request::destroy(Protocol::Tcp, &key, 1)[24..], &id[..]);
}

proptest! {
    #[test]
    fn nothing_that_arrives_does_harm(bytes in proptest::collection::vec(any::<u8>(), 0..400), sequence in 0..3_u32) {
        let _ = read(&bytes, sequence, |body| { let _ = Socket::decode(Protocol::Tcp, body); });
        let _ = Socket::decode(Protocol::Tcp, &bytes);
        let _ = TcpFigures::decode(&bytes);
    }

    #[test]
    fn what_is_cut_off_does_no_harm(length in 0..400_usize, attribute in 0..400_u16, kind in 0..20_u16) {
        let mut body = vec![10, 1, 0, 0];
        body.extend([7; 68]);
        body.extend(attribute.to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend([9; 300]);
        let mut whole = message(20, 1, &body);
        whole.truncate(length);
        let _ = read(&whole, 1, |body| { let _ = Socket::decode(Protocol::Tcp, body); });
        body.truncate(length);
        let decoded = Socket::decode(Protocol::Tcp, &body);
        prop_assert_eq!(decoded.is_some(), length >= 72);
    }
}
