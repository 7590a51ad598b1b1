//! What capturing costs a socket: the processor time to open one, connect it and close it, with and without, in turns.
//!
//! `cargo run --release -p bondwire-capture --example connect_cost -- [ROUNDS]` as root; it works in namespaces of its own.
#![allow(clippy::unwrap_used, reason = "an example shows, and does not recover")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bondwire_capture::{Action, Capture, Config, LinkName, LinkPlan, Plan, Rule};
use bondwire_netctl::Changes;
use bondwire_netns::{Node, enter};

const SOCKETS: u32 = 2_000;
const BYTES: usize = 1 << 29;

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().unwrap()).args(words).status().unwrap();
    assert!(status.success(), "{line}");
}

fn main() {
    enter().unwrap();
    let rounds: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(7);
    run("ip link set lo up");
    let router = Node::new("router").unwrap();
    let thread = router.run(|| std::fs::read_link("/proc/thread-self").unwrap());
    let thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
    for link in 0..2 {
        run(&format!("ip link add wan{link} type veth peer name isp{link} netns {thread}"));
        run(&format!("ip address add 10.1.{link}.2/24 dev wan{link}"));
        run(&format!("ip link set wan{link} up"));
        run(&format!("ip route add default via 10.1.{link}.1 dev wan{link} metric {}", 100 + link));
        router.run(move || {
            run(&format!("ip address add 10.1.{link}.1/24 dev isp{link}"));
            run(&format!("ip link set isp{link} up"));
        });
    }
    let [listener, sink] = router.run(|| {
        run("ip address add 203.0.113.1/32 dev lo");
        ["203.0.113.1:80", "203.0.113.1:81"].map(|at| TcpListener::bind(at).unwrap())
    });
    std::thread::spawn(move || listener.incoming().for_each(drop));
    std::thread::spawn(move || {
        for stream in sink.incoming() {
            let mut stream = stream.unwrap();
            let mut buffer = vec![0; 1 << 17];
            while stream.read(&mut buffer).unwrap_or(0) > 0 {}
        }
    });

    let mut plain = Samples::default();
    let mut captured = Samples::default();
    let mut ruled = Samples::default();
    let mut attaching = Vec::new();
    let links = |slot: u8| LinkName { slot, name: format!("wan{slot}") };
    for _ in 0..rounds {
        plain.take();
        let changes = Arc::new(Mutex::new(Changes::unjournaled().unwrap()));
        let config = Config { spare_self: false, ..Config::new(vec![links(0), links(1)]) };
        let begun = Instant::now();
        let mut capture = Capture::attach(config, changes).unwrap();
        attaching.push(begun.elapsed());
        let plan =
            Plan { links: vec![LinkPlan::healthy(0, 500), LinkPlan::healthy(1, 500)], ..Plan::default() };
        capture.apply(&plan).unwrap();
        captured.take();
        while capture.poll_event().is_some() {}
        let rule = Rule {
            to: None,
            ports: Some(1..=2),
            protocol: None,
            uid: None,
            command: None,
            action: Action::Bypass,
        };
        capture.apply(&Plan { rules: vec![rule; 128], ..plan }).unwrap();
        ruled.take();
    }
    println!("attaching takes {:.0} ms", median(&attaching) / 1e3);
    println!(
        "µs of processor time per socket, median of {rounds} rounds of {SOCKETS} (opened, connected, closed)"
    );
    for (name, samples) in [("direct", &plain), ("captured", &captured), ("128 rules", &ruled)] {
        let gigabits = 8.0 * BYTES as f64 / median(&samples.bulk) / 1e3;
        let (udp, tcp) = (median(&samples.udp), median(&samples.tcp));
        println!(
            "{name:10} UDP {udp:7.2}   TCP {tcp:7.2}   one TCP flow {gigabits:5.2} Gbit per second of processor time"
        );
    }
}

#[derive(Default)]
struct Samples {
    udp: Vec<Duration>,
    tcp: Vec<Duration>,
    bulk: Vec<Duration>,
}

impl Samples {
    fn take(&mut self) {
        self.udp.push(timed(|| {
            UdpSocket::bind("0.0.0.0:0").unwrap().connect("203.0.113.1:80").unwrap();
        }));
        self.tcp.push(timed(|| {
            // The other end closes what it accepts: a queue that overflows would measure the timer for lost SYNs.
            let mut stream = TcpStream::connect("203.0.113.1:80").unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }));
        let begun = cpu();
        let mut stream = TcpStream::connect("203.0.113.1:81").unwrap();
        let block = vec![7; 1 << 17];
        (0..BYTES >> 17).for_each(|_| stream.write_all(&block).unwrap());
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        self.bulk.push(cpu() - begun);
    }
}

/// The processor time of this process, which both ends belong to: a busy machine changes it less than the clock's.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timed(mut once: impl FnMut()) -> Duration {
    let begun = cpu();
    (0..SOCKETS).for_each(|_| once());
    (cpu() - begun) / SOCKETS
}

fn median(samples: &[Duration]) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).map_or(0.0, |time| time.as_secs_f64() * 1e6)
}
