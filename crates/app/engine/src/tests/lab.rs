//! The two namespaces, and the server's process in the second one.

use std::io::{BufRead, BufReader, Lines, Write, stdin};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bondwire_bond::{ClientRecord, Server, ServerConfig};
use bondwire_crypto::{Cipher, Psk, SecretKey};
use bondwire_netctl::Changes;
use bondwire_tun::{Device, DeviceConfig, DeviceKind};
use bondwire_udp::ServerSocket;
use bondwire_units::ByteCount;

use crate::{Clock, ServerCommand, ServerSetup, spawn_server};

pub(super) const SERVER_KEY: [u8; 32] = [1; 32];
pub(super) const PSK: [u8; 32] = [2; 32];
pub(super) const INVITE: [u8; 8] = *b"invite-1";
pub(super) const PORT: u16 = 4_500;
const INSIDE: &str = "BONDWIRE_TEST_INSIDE";
const SERVER_TEST: &str = "tests::lab::server_side";

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// Runs `body` in a fresh network namespace, in a process of its own.
pub(super) fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
        run("ip link set lo up");
        body();
        return;
    }
    let arguments = if is_root() { ["-n"].as_slice() } else { &["-U", "-r", "-n"] };
    if !is_root() && !Command::new("unshare").args(arguments).arg("true").status().unwrap().success() {
        eprintln!("{test} needs root or user namespaces");
        return;
    }
    let status = Command::new("unshare")
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
}

fn run(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
}

/// Asks again and again, for things that are told by a status and not by an event.
pub(super) fn until<T>(limit: Duration, mut question: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = question() {
            return answer;
        }
        assert!(Instant::now() < deadline, "it did not happen in {limit:?}");
        std::thread::yield_now();
    }
}

/// The client's end of two links, the other ends being in the namespace of the process `pid`.
fn build_links(pid: u32) {
    for link in 0..2 {
        run(&format!("ip link add wan{link} type veth peer name isp{link} netns {pid}"));
        run(&format!("ip address add 10.1.{link}.2/24 dev wan{link}"));
        run(&format!("ip link set wan{link} up"));
        run(&format!("ip route add default via 10.1.{link}.1 dev wan{link} metric {}", 100 + link));
    }
}

/// Links at whose other ends there is nobody.
pub(super) fn build_links_to_nowhere() {
    build_links(std::process::id());
}

/// A bonding server in a namespace of its own.
pub(super) struct ServerProcess {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl ServerProcess {
    pub(super) fn start() -> Self {
        let mut child = Command::new("unshare")
            .arg("-n")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", SERVER_TEST, "--nocapture"])
            .env(INSIDE, SERVER_TEST)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut server = Self { child, input, output };
        server.expect("here");
        build_links(server.child.id());
        server.say("go");
        server.expect("ready");
        server
    }

    fn say(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    fn expect(&mut self, wanted: &str) {
        assert!(
            self.output.by_ref().any(|line| line.unwrap().ends_with(wanted)),
            "the server did not say {wanted}"
        );
    }

    pub(super) fn revoke(&mut self) {
        self.say("revoke");
        self.expect("revoked");
    }

    pub(super) fn stop(mut self) {
        self.say("stop");
        self.expect("stopped");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn record(revoked: bool) -> ClientRecord {
    ClientRecord {
        name: "alice".to_owned(),
        public_key: None,
        invite_id: INVITE,
        psk: Psk::from_bytes(PSK),
        invite_expires: u64::MAX,
        v4: Some(Ipv4Addr::new(10, 99, 0, 2)),
        v6: None,
        last_timestamp: 0,
        revoked,
    }
}

/// Not a test by itself: the server's process. Counts what it gets on TCP port 7000 of its inner address and answers the sum.
#[test]
fn server_side() {
    if std::env::var(INSIDE).is_ok_and(|name| name == SERVER_TEST) {
        serve();
    }
}

fn serve() {
    let mut orders = stdin().lines().map(Result::unwrap);
    println!("here");
    assert_eq!(orders.next().unwrap(), "go");
    run("ip link set lo up");
    run("ip address add 203.0.113.1/32 dev lo");
    for link in 0..2 {
        run(&format!("ip address add 10.1.{link}.1/24 dev isp{link}"));
        run(&format!("ip link set isp{link} up"));
    }
    let mut changes = Changes::unjournaled().unwrap();
    let config = DeviceConfig { name: Some("bwe1".to_owned()), kind: DeviceKind::Packet, mtu: 1_400 };
    let device = Device::open(&config, &mut changes).unwrap();
    changes.netlink().add_address("bwe1", "10.99.0.1/24".parse().unwrap()).unwrap();
    let mut server = Server::new(
        ServerConfig {
            identity: SecretKey::from_bytes(SERVER_KEY),
            v4: Some((Ipv4Addr::new(10, 99, 0, 1), 24)),
            v6: None,
            mtu: 1_400,
            ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
            max_sessions: 10,
            memory_per_session: ByteCount::new(32 << 20),
            max_redundant: 2,
            client_to_client: false,
            software: "test".to_owned(),
            seed: [9; 32],
        },
        Clock.now(),
    );
    server.set_directory(vec![record(false)], Clock.now());
    let socket = ServerSocket::bind(&bondwire_udp::ServerConfig::all_addresses(PORT)).unwrap();
    let listener = TcpListener::bind(SocketAddr::from(([10, 99, 0, 1], 7_000))).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let count = std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or(0);
            let _ = stream.write_all(&count.to_be_bytes());
        }
    });
    let handle = spawn_server(ServerSetup { device, server, sockets: vec![socket] }).unwrap();
    println!("ready");
    for order in orders {
        match order.as_str() {
            "revoke" => {
                handle.send(ServerCommand::SetDirectory(vec![record(true)]));
                println!("revoked");
            }
            _ => break,
        }
    }
    let begin = Instant::now();
    handle.stop().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(1));
    println!("stopped");
}
