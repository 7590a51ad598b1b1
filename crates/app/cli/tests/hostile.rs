//! Packets from people who wish us ill, at both ends of a bond that works meanwhile.
//!
//! The attackers stand at the core router, the worst place: they see the bond's datagrams, send what they like from any
//! address, and are faster than the links. They send noise, datagrams that look right at their head, and true datagrams
//! that are repeated, damaged, cut, or sewn together.
#![forbid(unsafe_code)]

mod support;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bondwire_netns::Node;
use bondwire_netns::traffic::{Bulk, BulkOptions, Content};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RawProtocol, RecvFlags, SendFlags, SocketType, ipproto, recv, sendto, socket,
};
use support::{Bond, MEGABYTE, Options, PORT, in_lab, ms, seconds, until};

/// All packets together, or as many as go in the time.
const PACKETS: u64 = 1_000_000;
const TIME: Duration = seconds(20);
/// To the client no more than its links carry beside the transfer, packets a second.
const TO_CLIENT: u64 = 4_000;
const SAMPLES: usize = 400;
const GROWTH: u64 = 20 << 20;

/// A datagram that was seen at the core.
#[derive(Clone, Debug)]
struct Sample {
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: Vec<u8>,
}

/// Takes down the first datagrams from and to the server's port. None are older than the call.
fn listen(node: &Node) -> JoinHandle<Vec<Sample>> {
    let all = RawProtocol::new(u32::from(3_u16.to_be())).map(Protocol::from_raw);
    let tap = node.run(move || socket(AddressFamily::PACKET, SocketType::RAW, all)).expect("a packet socket");
    set_socket_timeout(&tap, Timeout::Recv, Some(seconds(10))).expect("a timeout");
    let listen = move || {
        let mut samples = Vec::new();
        let mut frame = vec![0; 2048];
        while samples.len() < SAMPLES {
            let Ok((len, _)) = recv(&tap, &mut frame[..], RecvFlags::empty()) else { break };
            samples.extend(
                parse(&frame[..len]).filter(|sample| sample.from.port() == PORT || sample.to.port() == PORT),
            );
        }
        samples
    };
    node.thread("tap", listen).expect("a thread")
}

/// The datagram in an Ethernet frame with IPv4 without options, if it is one.
fn parse(frame: &[u8]) -> Option<Sample> {
    let ip = frame.get(14..)?;
    if frame[12..14] != [8, 0] || ip.first()? != &0x45 || ip.get(9)? != &17 {
        return None;
    }
    let word = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
    let payload = ip.get(28..usize::from(word(2)?))?.to_vec();
    Some(Sample {
        from: SocketAddrV4::new(address(12)?, word(20)?),
        to: SocketAddrV4::new(address(16)?, word(22)?),
        payload,
    })
}

/// Bytes that follow from a seed.
#[derive(Debug)]
struct Dice(Content);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        let mut word = [0; 8];
        self.0.fill(&mut word);
        (u64::from_le_bytes(word) % bound.max(1) as u64) as usize
    }

    fn noise(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.fill(&mut bytes);
        bytes
    }

    /// Something evil, made of one true datagram and another.
    fn mutate(&mut self, one: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = one.to_vec();
        match self.below(7) {
            0 => {}
            1 => {
                for _ in 0..=self.below(8) {
                    let at = self.below(bytes.len());
                    bytes[at] ^= 1 << self.below(8);
                }
            }
            2 => bytes.truncate(self.below(bytes.len())),
            3 => {
                let more = 1 + self.below(200);
                bytes.extend(self.noise(more));
                bytes.truncate(1472);
            }
            4 => {
                let at = self.below(bytes.len().min(other.len()));
                bytes.truncate(at);
                bytes.extend(&other[at..]);
            }
            5 => {
                // The head of a true one, and noise behind it.
                let head = 10.min(bytes.len());
                let rest = self.noise(bytes.len() - head);
                bytes[head..].copy_from_slice(&rest);
            }
            _ => {
                let len = self.below(1473);
                bytes = self.noise(len);
                // The types of the protocol are small numbers.
                if let Some(first) = bytes.first_mut() {
                    *first %= 8;
                }
            }
        }
        bytes
    }
}

/// An IPv4 packet with a datagram, from whomever; the kernel fills in the IP header's checksum, and UDP needs none.
fn packet(from: SocketAddrV4, to: SocketAddrV4, payload: &[u8]) -> Vec<u8> {
    let len = |more: usize| ((payload.len() + more) as u16).to_be_bytes();
    let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0];
    bytes[2..4].copy_from_slice(&len(28));
    bytes.extend(from.ip().octets());
    bytes.extend(to.ip().octets());
    bytes.extend(from.port().to_be_bytes());
    bytes.extend(to.port().to_be_bytes());
    bytes.extend(len(8));
    bytes.extend([0, 0]);
    bytes.extend(payload);
    bytes
}

/// How many datagrams the programs of a machine have received.
fn datagrams(node: &Node) -> u64 {
    let text = node.run(|| std::fs::read_to_string("/proc/thread-self/net/snmp")).expect("a table");
    // A line of names, then one of figures: InDatagrams is the first of them.
    let figures = text.lines().filter(|line| line.starts_with("Udp: ")).nth(1).expect("figures");
    figures.split(' ').nth(1).and_then(|figure| figure.parse().ok()).expect("a number")
}

/// What the attackers share.
#[derive(Debug)]
struct Attack {
    samples: Vec<Sample>,
    stop: AtomicBool,
    sent: AtomicU64,
}

impl Attack {
    /// Sends forged packets in one direction, at most `rate` a second.
    fn forge(self: &Arc<Self>, node: &Node, seed: u64, rate: u64, to_server: bool) -> JoinHandle<()> {
        let raw = node
            .run(|| socket(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW)))
            .expect("a raw socket");
        let attack = Arc::clone(self);
        let forge = move || {
            let mut dice = Dice(Content::new(seed));
            let goals: Vec<&Sample> =
                attack.samples.iter().filter(|sample| (sample.to.port() == PORT) == to_server).collect();
            let (start, mut sent) = (Instant::now(), 0);
            while !attack.stop.load(Ordering::Relaxed) {
                if sent > (start.elapsed().as_secs_f64() * rate as f64) as u64 {
                    std::thread::sleep(ms(1));
                    continue;
                }
                let goal = goals[dice.below(goals.len())];
                let (one, other) = (dice.below(attack.samples.len()), dice.below(attack.samples.len()));
                let payload = dice.mutate(&attack.samples[one].payload, &attack.samples[other].payload);
                let from = match dice.below(4) {
                    0 => SocketAddrV4::new(*goal.from.ip(), 1024 + dice.below(60_000) as u16),
                    1 => SocketAddrV4::new(Ipv4Addr::from_bits(0xcb00_7100 + dice.below(256) as u32), 4433),
                    _ => goal.from,
                };
                // A full queue loses it, as the internet would.
                let _ = sendto(&raw, &packet(from, goal.to, &payload), SendFlags::DONTWAIT, &goal.to);
                sent += 1;
                attack.sent.fetch_add(1, Ordering::Relaxed);
            }
        };
        node.thread("forger", forge).expect("a thread")
    }

    /// Sends to the server from an honest address, and counts what comes back: bytes sent, bytes received.
    fn ask(self: &Arc<Self>, node: &Node, seed: u64, server: SocketAddrV4) -> JoinHandle<(u64, u64)> {
        let asker = node.run(|| UdpSocket::bind("0.0.0.0:0")).expect("a socket");
        let attack = Arc::clone(self);
        let ask = move || {
            let mut dice = Dice(Content::new(seed));
            let (mut sent, mut received) = (0, 0);
            let mut answer = [0; 2048];
            asker.set_read_timeout(Some(ms(1))).expect("a timeout");
            while !attack.stop.load(Ordering::Relaxed) {
                let (one, other) = (dice.below(attack.samples.len()), dice.below(attack.samples.len()));
                // Every other one is a true datagram, as it was.
                let truth = attack.samples[one].payload.clone();
                let payload = if dice.below(2) == 0 {
                    truth
                } else {
                    dice.mutate(&truth, &attack.samples[other].payload)
                };
                sent += asker.send_to(&payload, server).unwrap_or(0) as u64;
                attack.sent.fetch_add(1, Ordering::Relaxed);
                received += asker.recv(&mut answer).unwrap_or(0) as u64;
            }
            asker.set_read_timeout(Some(ms(500))).expect("a timeout");
            while let Ok(len) = asker.recv(&mut answer) {
                received += len as u64;
            }
            (sent, received)
        };
        node.thread("asker", ask).expect("a thread")
    }
}

#[test]
fn hostile_packets_do_no_harm() {
    in_lab("hostile_packets_do_no_harm", || {
        let mut bond = Bond::profile("twin", Options::default());
        bond.start_server();
        let tap = listen(bond.lab.core());
        bond.start_client();
        bond.client.wait_active(2);
        let options = BulkOptions { limit: seconds(120), ..BulkOptions::default() };
        let transfer = Bulk::start(bond.lab.client(), &bond.web, options).expect("a transfer");
        // By now the queues have their size.
        until("the transfer runs", seconds(20), || transfer.received() > 30 * MEGABYTE);
        let samples = tap.join().expect("the tap works");
        assert!(samples.iter().any(|sample| sample.to.port() == PORT) && samples.len() == SAMPLES);
        let (_, mut second) = bond.add_side("second");
        bond.join(&second, &bond.invite("second"));
        let memory = [bond.client.process().memory(), bond.server.process().memory()];
        let arrived = [bond.client.node(), bond.server.node()].map(datagrams);
        let before = transfer.received();

        let attack = Arc::new(Attack { samples, stop: AtomicBool::new(false), sent: AtomicU64::new(0) });
        let (core, stranger) = (bond.lab.core(), bond.lab.add_host("stranger").expect("a host"));
        let forgers = [attack.forge(core, 1, u64::MAX, true), attack.forge(core, 2, TO_CLIENT, false)];
        let asker = attack.ask(&stranger.node, 3, SocketAddrV4::new(bond.lab.server_addr_v4(), PORT));
        let start = Instant::now();
        second.start(&["up", "--wait", "15"]);
        println!("another client has connected meanwhile, within {:?}", start.elapsed());
        until("all packets were sent", TIME + seconds(10), || {
            attack.sent.load(Ordering::Relaxed) >= PACKETS || start.elapsed() >= TIME
        });
        attack.stop.store(true, Ordering::Relaxed);
        forgers.into_iter().for_each(|forger| forger.join().expect("a forger"));
        let (asked, answered) = asker.join().expect("the asker");
        let during = transfer.received() - before;
        let now = [bond.client.node(), bond.server.node()].map(datagrams);
        let [at_client, at_server] = [now[0] - arrived[0], now[1] - arrived[1]];
        println!("{at_client} datagrams came to the client, {at_server} to the server");
        assert!(at_server > PACKETS / 20, "the attack did not arrive");
        println!(
            "{} packets in {:?}; the transfer got {} MB meanwhile; a stranger sent {asked} bytes and got {answered}",
            attack.sent.load(Ordering::Relaxed),
            start.elapsed(),
            during / MEGABYTE
        );
        let after = [bond.client.process().memory(), bond.server.process().memory()];
        println!("memory of client and server: {memory:?}, then {after:?}");

        assert!(bond.client.process().is_running() && bond.server.process().is_running());
        assert!(during > 2 * MEGABYTE, "{during} bytes in all that time");
        let least = transfer.received() + 10 * MEGABYTE;
        until("the transfer runs as before", seconds(20), || transfer.received() > least);
        transfer.stop();
        let report = transfer.finish().expect("a transfer");
        assert!(report.error.is_none() && report.intact, "{:?}", report.error);
        assert!(answered <= asked, "{asked} bytes were answered by {answered}");
        for (before, after) in memory.into_iter().zip(after) {
            assert!(after < before + GROWTH, "from {before} to {after} bytes");
        }
        for side in [&mut bond.client, &mut bond.server] {
            let log = side.process().log();
            assert!(!log.contains("ERROR") && !log.contains("panicked"), "{log}");
            assert!(log.lines().count() < 1_000, "{} lines of log", log.lines().count());
            side.stop().assert_done();
        }
    });
}
