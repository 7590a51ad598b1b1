//! A link that falls silent: what was on it moves, and what is new goes elsewhere.

use std::net::{TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use super::lab::{
    HOST, Lab, PATIENCE, address, ask, capture, dead_plan, first_line, plan, run, share, tcp, udp_connected,
    udp_sent, udp_socket, with_ebpf,
};
use crate::{Capture, Event, Way};

/// The bound of the task; what is awaited takes a third of it on a quiet machine.
const MOVED_WITHIN: Duration = Duration::from_secs(1);

/// Sends until an answer comes.
fn ask_again(socket: &UdpSocket) -> String {
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Refused while the address is gone, and until the link's end was noticed.
        let _ = socket.send(b"who");
        let mut buffer = [0; 64];
        if let Ok(length) = socket.recv(&mut buffer) {
            return String::from_utf8(buffer[..length].to_vec()).unwrap();
        }
        assert!(Instant::now() < deadline, "no answer by another link");
    }
}

/// Waits for the SYN that is sent again, and gives how long the first one waited by the kernel's clock.
fn await_timeout(capture: &mut Capture) -> Duration {
    let deadline = Instant::now() + PATIENCE;
    let mut opened = Duration::ZERO;
    loop {
        match capture.poll_event() {
            Some(Event::Opened { at, .. }) => opened = at,
            Some(Event::TimedOut { at, slot: 0, connecting: true, .. }) => return at - opened,
            _ => assert!(Instant::now() < deadline, "the SYN is not repeated"),
        }
        thread::yield_now();
    }
}

fn all_on_wan0(capture: &mut Capture) {
    capture.apply(&plan([1_000, 0])).unwrap();
}

#[test]
fn an_unanswered_connect_and_a_udp_flow_move() {
    with_ebpf("tests::dead_link::an_unanswered_connect_and_a_udp_flow_move", |lab| {
        let mut capture = capture(Way::Ebpf);
        all_on_wan0(&mut capture);
        let (flow, loose) = (udp_socket(HOST), udp_socket(HOST));
        flow.connect(address(HOST, 80)).unwrap();
        assert_eq!(ask(&flow), "10.1.0.2");
        assert_eq!(udp_sent(&loose, HOST, 80), "10.1.0.2");
        lab.silence(0);
        let connecting = thread::spawn(|| {
            let mut stream = TcpStream::connect_timeout(&address(HOST, 80), PATIENCE).unwrap();
            (first_line(&mut stream), Instant::now(), stream)
        });
        let noticed = await_timeout(&mut capture);
        assert!(noticed < Duration::from_millis(900), "the first SYN waited {noticed:?}");
        let moved = Instant::now();
        capture.apply(&dead_plan()).unwrap();
        capture.move_link(0, 1).unwrap();
        assert_eq!(capture.moved_to(0), Some(1));
        assert_eq!(ask_again(&flow), "10.1.1.2");
        let after = moved.elapsed();
        println!("the UDP flow is back {after:?} after the move began");
        assert!(after < MOVED_WITHIN, "the UDP flow was back after {after:?}");
        assert_eq!(udp_sent(&loose, HOST, 80), "10.1.1.2");
        let (seen, when, mut stream) = connecting.join().unwrap();
        assert_eq!(seen, "10.1.1.2");
        let after = when.duration_since(moved);
        println!("the connect is through {after:?} after the move began, and was noticed after {noticed:?}");
        assert!(after < MOVED_WITHIN, "the connect was through after {after:?}");
        assert_eq!(share(4, || tcp(HOST, 80)), 0);

        // The link is back: what moved stays, for its other end knows it so, and what is new comes back.
        lab.unsilence();
        capture.restore_link(0).unwrap();
        all_on_wan0(&mut capture);
        assert_eq!(ask_again(&flow), "10.1.1.2");
        std::io::Write::write_all(&mut stream, b"still there\n").unwrap();
        assert_eq!(first_line(&mut stream), "still there");
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
        assert_eq!(share(4, || udp_connected(HOST, 80)), 4);
        capture.detach().unwrap();
    });
}

#[test]
fn an_established_connection_waits_for_its_link() {
    with_ebpf("tests::dead_link::an_established_connection_waits_for_its_link", |lab| {
        let mut capture = capture(Way::Ebpf);
        all_on_wan0(&mut capture);
        let mut stream = TcpStream::connect(address(HOST, 80)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_eq!(first_line(&mut stream), "10.1.0.2");
        lab.silence(0);
        capture.apply(&dead_plan()).unwrap();
        capture.move_link(0, 1).unwrap();
        std::io::Write::write_all(&mut stream, b"are you there\n").unwrap();
        lab.unsilence();
        capture.restore_link(0).unwrap();
        // Neither end was told by the other link that there is no such connection.
        assert_eq!(first_line(&mut stream), "are you there");
    });
}

#[test]
fn a_flow_outlives_its_links_address_and_its_link() {
    with_ebpf("tests::dead_link::a_flow_outlives_its_links_address_and_its_link", |_| {
        let mut capture = capture(Way::Ebpf);
        all_on_wan0(&mut capture);
        let flow = udp_socket(HOST);
        flow.connect(address(HOST, 80)).unwrap();
        assert_eq!(ask(&flow), "10.1.0.2");
        // A new lease.
        run("ip address del 10.1.0.2/24 dev wan0");
        run("ip address add 10.1.0.77/24 dev wan0");
        run("ip route add default via 10.1.0.1 dev wan0 metric 100");
        capture.refresh().unwrap();
        assert_eq!(ask_again(&flow), "10.1.0.77");
        assert!(run("ip address show dev lo").contains("10.1.0.2/32"));
        // The old one comes back beside it.
        run("ip address add 10.1.0.2/24 dev wan0");
        capture.refresh().unwrap();
        assert!(!run("ip address show dev lo").contains("10.1.0.2/32"));
        assert_eq!(ask_again(&flow), "10.1.0.77");
        // Unplugged.
        run("ip link del wan0");
        capture.apply(&dead_plan()).unwrap();
        capture.move_link(0, 1).unwrap();
        capture.refresh().unwrap();
        assert_eq!(ask_again(&flow), "10.1.1.2");
        capture.detach().unwrap();
        assert!(!run("ip address show dev lo").contains("10.1.0"));
    });
}

#[test]
fn strict_reverse_path_filters_let_moved_flows_in() {
    with_ebpf("tests::dead_link::strict_reverse_path_filters_let_moved_flows_in", |lab: &Lab| {
        for name in ["all", "wan0", "wan1"] {
            run(&format!("sysctl -qw net.ipv4.conf.{name}.rp_filter=1"));
        }
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([500, 500])).unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 2);
        assert_eq!(share(4, || udp_connected(HOST, 80)), 2);
        all_on_wan0(&mut capture);
        let flow = udp_socket(HOST);
        flow.connect(address(HOST, 80)).unwrap();
        assert_eq!(ask(&flow), "10.1.0.2");
        lab.silence(0);
        capture.apply(&dead_plan()).unwrap();
        capture.move_link(0, 1).unwrap();
        assert_eq!(ask_again(&flow), "10.1.1.2");
        capture.detach().unwrap();
        assert_eq!(run("sysctl -n net.ipv4.conf.wan1.src_valid_mark"), "0\n");
    });
}
