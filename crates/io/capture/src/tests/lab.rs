//! A client with two links, and a host behind both that tells each caller the address that it sees.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use bondwire_netctl::Changes;
use bondwire_netns::{Node, isolated_test};

use crate::{Capture, Config, LinkName, LinkPlan, Plan, SharedChanges, Way};

/// The host's addresses; more of them stand for more sites.
pub(super) const HOST: &str = "203.0.113.1";
pub(super) const HOST6: &str = "2001:db8:f::1";

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs a command line, split at blanks, and gives what it printed.
pub(super) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether programs may be attached here; a test that needs them says so and ends otherwise.
pub(super) fn allows_ebpf() -> bool {
    match Capture::support().ebpf {
        Ok(()) => true,
        Err(why) => {
            println!("skipped: {why}; run the tests as root to have it");
            false
        }
    }
}

/// Runs `body` in a lab of its own, if programs may be attached.
pub(super) fn with_ebpf(test: &str, body: impl FnOnce(&Lab)) {
    isolated_test(test, || {
        if allows_ebpf() {
            body(&Lab::new());
        }
    });
}

/// Runs `body` in a lab of its own.
pub(super) fn with_lab(test: &str, body: impl FnOnce(&Lab)) {
    isolated_test(test, || body(&Lab::new()));
}

pub(super) struct Lab {
    pub(super) router: Node,
}

impl Lab {
    /// Links are `wan0` and `wan1`, 10.1.N.2 and 2001:db8:N::2, the gateways end in 1; both have a default route, `wan0`'s is preferred.
    pub(super) fn new() -> Self {
        run("ip link set lo up");
        let router = Node::new("router").unwrap();
        let thread = router.run(|| std::fs::read_link("/proc/thread-self").unwrap());
        let thread = thread.file_name().unwrap().to_str().unwrap().to_owned();
        let lab = Self { router };
        let quiet = "sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.addr_gen_mode=1";
        run(quiet);
        lab.at_router(quiet);
        for link in 0..2 {
            run(&format!("ip link add wan{link} type veth peer name isp{link} netns {thread}"));
            run(&format!("ip address add 10.1.{link}.2/24 dev wan{link}"));
            run(&format!("ip address add 2001:db8:{link}::2/64 dev wan{link} nodad"));
            run(&format!("ip link set wan{link} up"));
            lab.at_router(&format!("ip address add 10.1.{link}.1/24 dev isp{link}"));
            lab.at_router(&format!("ip address add 2001:db8:{link}::1/64 dev isp{link} nodad"));
            lab.at_router(&format!("ip link set isp{link} up"));
            run(&format!("ip route add default via 10.1.{link}.1 dev wan{link} metric {}", 100 + link));
            run(&format!(
                "ip -6 route add default via 2001:db8:{link}::1 dev wan{link} metric {}",
                100 + link
            ));
        }
        lab.settle();
        for site in 1..=20 {
            lab.at_router(&format!("ip address add 203.0.113.{site}/32 dev lo"));
        }
        lab.at_router(&format!("ip address add {HOST6}/128 dev lo nodad"));
        lab.serve();
        lab
    }

    pub(super) fn at_router(&self, line: &str) -> String {
        let line = line.to_owned();
        self.router.run(move || run(&line))
    }

    /// The kernel tells itself of a carrier a little later than it answers.
    fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let here = run("ip -brief link") + &run("ip -6 route show table local");
            let there = self.at_router("ip -brief link");
            let ready = |name: &str| here.contains(&format!("multicast ff00::/8 dev {name} "));
            if ready("wan0") && ready("wan1") && !here.contains("NO-CARRIER") && !there.contains("NO-CARRIER")
            {
                return;
            }
            assert!(Instant::now() < deadline, "the links do not come up:\n{here}{there}");
            thread::yield_now();
        }
    }

    /// Answers TCP on ports 80 and 443, UDP on 53, 80 and 443, each with the caller's address.
    fn serve(&self) {
        for port in [80, 443] {
            let listener = self.router.run(move || TcpListener::bind(("::", port)).unwrap());
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let mut stream = stream.unwrap();
                    let peer = stream.peer_addr().unwrap().ip().to_canonical().to_string();
                    thread::spawn(move || {
                        let _ = stream.write_all(format!("{peer}\n").as_bytes());
                        let mut buffer = [0; 64];
                        while let Ok(length) = stream.read(&mut buffer) {
                            if length == 0 || stream.write_all(&buffer[..length]).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
        }
        for port in [53, 80, 443] {
            for any in ["0.0.0.0", HOST6] {
                // A wildcard socket would answer from another address than it was asked at.
                let mut sites: Vec<IpAddr> = match any {
                    HOST6 => vec![HOST6.parse().unwrap()],
                    _ => (1..=20).map(|site| format!("203.0.113.{site}").parse().unwrap()).collect(),
                };
                sites.extend((any != HOST6).then(|| IpAddr::from([10, 1, 0, 1])));
                for site in sites {
                    let socket = self.router.run(move || UdpSocket::bind((site, port)).unwrap());
                    thread::spawn(move || {
                        let mut buffer = [0; 64];
                        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                            let _ = socket.send_to(peer.ip().to_string().as_bytes(), peer);
                        }
                    });
                }
            }
        }
    }

    /// What comes out of this side of a link vanishes, without a word and without a change of carrier.
    pub(super) fn silence(&self, link: u8) {
        self.at_router("nft add table inet silence");
        self.at_router("nft add chain inet silence in { type filter hook prerouting priority -400 ; }");
        self.at_router(&format!("nft add rule inet silence in iifname isp{link} drop"));
    }

    pub(super) fn unsilence(&self) {
        self.at_router("nft delete table inet silence");
    }
}

pub(super) fn links() -> Vec<LinkName> {
    vec![LinkName { slot: 0, name: "wan0".to_owned() }, LinkName { slot: 1, name: "wan1".to_owned() }]
}

pub(super) fn unjournaled() -> SharedChanges {
    Arc::new(Mutex::new(Changes::unjournaled().unwrap()))
}

/// Captures this process' own sockets.
pub(super) fn config(way: Way) -> Config {
    Config { way: Some(way), spare_self: false, ..Config::new(links()) }
}

pub(super) fn capture(way: Way) -> Capture {
    Capture::attach(config(way), unjournaled()).unwrap()
}

pub(super) fn plan(weights: [u16; 2]) -> Plan {
    Plan {
        links: vec![LinkPlan::healthy(0, weights[0]), LinkPlan::healthy(1, weights[1])],
        ..Plan::default()
    }
}

/// A plan in which link 0 is dead.
pub(super) fn dead_plan() -> Plan {
    let mut plan = plan([0, 1_000]);
    plan.links[0] = LinkPlan {
        open: false,
        keeps_sites: false,
        alive: false,
        fallback: Some(1),
        ..LinkPlan::healthy(0, 0)
    };
    plan
}

/// The address that the host sees of a new TCP connection.
pub(super) fn tcp(host: &str, port: u16) -> String {
    let mut stream = TcpStream::connect_timeout(&address(host, port), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    first_line(&mut stream)
}

pub(super) fn first_line(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while stream.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
        text.push(char::from(byte[0]));
    }
    text
}

pub(super) fn udp_socket(host: &str) -> UdpSocket {
    let any = if host.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The address that the host sees of a new UDP socket that connects.
pub(super) fn udp_connected(host: &str, port: u16) -> String {
    let socket = udp_socket(host);
    socket.connect(address(host, port)).unwrap();
    ask(&socket)
}

pub(super) fn ask(socket: &UdpSocket) -> String {
    socket.send(b"who").unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// The address that the host sees of a socket that does not connect.
pub(super) fn udp_sent(socket: &UdpSocket, host: &str, port: u16) -> String {
    socket.send_to(b"who", address(host, port)).unwrap();
    let mut buffer = [0; 64];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, address(host, port));
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

pub(super) fn address(host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(host.parse().unwrap(), port)
}

/// How many of `times` new sockets leave by `wan0`, by what the host sees; all others leave by `wan1`.
pub(super) fn share(times: usize, mut open: impl FnMut() -> String) -> usize {
    let seen: Vec<String> = (0..times).map(|_| open()).collect();
    let of = |addresses: [&str; 2]| seen.iter().filter(|seen| addresses.contains(&seen.as_str())).count();
    let (first, second) = (of(["10.1.0.2", "2001:db8::2"]), of(["10.1.1.2", "2001:db8:1::2"]));
    assert_eq!(first + second, times, "{seen:?}");
    first
}

/// Everything that may be changed, as text.
pub(super) fn picture() -> String {
    let mut text = String::new();
    for line in [
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
        "nft list ruleset",
        "sysctl net.ipv4.conf.wan0.src_valid_mark net.ipv4.conf.wan1.src_valid_mark net.ipv4.ip_forward",
    ] {
        text.push_str(&format!("# {line}\n{}", run(line)));
    }
    text
}
