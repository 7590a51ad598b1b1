//! Each test runs again inside a network namespace of its own, as root or with a user namespace.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;

use bondwire_netctl::{Changes, Prefix};
use bondwire_packet::PacketBatch;

use crate::{Device, DeviceConfig, DeviceKind, TunError};

const INSIDE: &str = "BONDWIRE_TEST_INSIDE";

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t"))
}

fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
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

fn wait_readable(device: &impl AsFd) {
    let mut poll = libc::pollfd { fd: device.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one initialised pollfd.
    assert_eq!(unsafe { libc::poll(&raw mut poll, 1, 5_000) }, 1, "nothing arrived");
}

/// An IPv6 address is there at once, but the kernel takes packets for it only when a worker thread has added its route.
fn wait_for_local_route(address: &str) {
    for _ in 0..10_000 {
        let output = Command::new("ip").args(["-6", "route", "show", "table", "local"]).output().unwrap();
        if String::from_utf8(output.stdout).unwrap().contains(&format!("local {address} ")) {
            return;
        }
    }
    panic!("{address} never became local");
}

fn config(kind: DeviceKind) -> DeviceConfig {
    DeviceConfig { name: Some("bwe0".to_owned()), kind, mtu: 1_400 }
}

/// Exchanges source and destination of a UDP packet: its answer. The sums stay right.
fn turn_round(packet: &mut [u8]) {
    let (address, length) = if packet[0] >> 4 == 4 { (12, 4) } else { (8, 16) };
    for byte in address..address + length {
        packet.swap(byte, byte + length);
    }
    let ports = address + 2 * length;
    packet.swap(ports, ports + 2);
    packet.swap(ports + 1, ports + 3);
}

fn is_udp(packet: &[u8]) -> bool {
    packet[if packet[0] >> 4 == 4 { 9 } else { 6 }] == 17
}

/// Whatever the kernel sends into the device comes back as an answer, over both families.
fn packets_pass(kind: DeviceKind) {
    let mut changes = Changes::unjournaled().unwrap();
    let mut device = Device::open(&config(kind), &mut changes).unwrap();
    assert_eq!(device.name(), "bwe0");
    assert_eq!(changes.netlink().index_of("bwe0").unwrap(), device.index());
    let link = changes.netlink().link("bwe0").unwrap();
    assert!(link.is_up && link.mtu == 1_400);
    for address in ["10.98.0.1/24", "fd98::1/64"] {
        changes.netlink().add_address("bwe0", address.parse::<Prefix>().unwrap()).unwrap();
    }
    wait_for_local_route("fd98::1");
    for (local, peer) in [("10.98.0.1:0", "10.98.0.9:7"), ("[fd98::1]:0", "[fd98::9]:7")] {
        let socket = UdpSocket::bind(local).unwrap();
        // 40 packets (what a socket holds by default) of a size that must neither be cut nor joined, with sums that must be whole.
        for number in 0..40u8 {
            socket.send_to(&[number; 1_300], peer).unwrap();
        }
        let mut answered = 0;
        while answered < 40 {
            wait_readable(&device);
            let mut batch = PacketBatch::default();
            assert!(device.recv_batch(&mut batch, 64).unwrap() <= 64);
            let mut answers = PacketBatch::default();
            for (packet, offload) in batch.iter().filter(|(packet, _)| is_udp(packet)) {
                let mut packet = packet.to_vec();
                turn_round(&mut packet);
                answers.push(&packet, *offload);
            }
            let written = device.send_batch(&answers);
            assert_eq!((written.packets, written.dropped), (answers.len(), 0));
            answered += answers.len();
        }
        let mut buffer = [0; 2_000];
        for number in 0..40u8 {
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert_eq!((length, buffer[0], from.to_string().as_str()), (1_300, number, peer));
        }
    }
    device.set_mtu(1_300, changes.netlink()).unwrap();
    assert_eq!(changes.netlink().link("bwe0").unwrap().mtu, 1_300);
    let again = Device::open(&config(kind), &mut changes).unwrap_err();
    assert!(matches!(&again, TunError::NameInUse { name } if name == "bwe0"), "{again:?}");
    drop(device);
    assert!(changes.undo().is_empty());
    let mut netlink = bondwire_netctl::Netlink::open().unwrap();
    assert!(netlink.links().unwrap().iter().all(|link| !link.name.starts_with("bwe0")));
}

#[test]
fn packets_pass_a_tun_device() {
    if !is_root() {
        eprintln!(
            "an ordinary user may not be allowed to open /dev/net/tun; the packet device is tested instead"
        );
        return;
    }
    in_namespace("tests::packets_pass_a_tun_device", || packets_pass(DeviceKind::Tun));
}

/// Packets that the interface took in, and handed out, as the kernel counts them: a train is one.
fn kernel_counts() -> (u64, u64) {
    let text = std::fs::read_to_string("/proc/net/dev").unwrap();
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("bwe0:")).unwrap();
    let counts: Vec<u64> = line.split_whitespace().map(|word| word.parse().unwrap()).collect();
    (counts[1], counts[9])
}

/// A TCP connection that meets itself: each packet comes back with its ends exchanged, which is a simultaneous open (RFC 9293, section 3.5) and
/// then an echo. What comes back has gone through the device both ways, in trains.
#[test]
fn a_stream_passes_in_trains() {
    if !is_root() {
        eprintln!("an ordinary user may not be allowed to open /dev/net/tun");
        return;
    }
    in_namespace("tests::a_stream_passes_in_trains", || {
        const BYTES: usize = 4 << 20;
        let mut changes = Changes::unjournaled().unwrap();
        let mut device = Device::open(&config(DeviceKind::Tun), &mut changes).unwrap();
        for address in ["10.98.0.1/24", "fd98::1/64"] {
            changes.netlink().add_address("bwe0", address.parse::<Prefix>().unwrap()).unwrap();
        }
        wait_for_local_route("fd98::1");
        for peer in ["10.98.0.9:80", "[fd98::9]:80"] {
            let before = kernel_counts();
            let talking = std::thread::spawn(move || {
                let mut stream = TcpStream::connect(peer).unwrap();
                let mut hearing = stream.try_clone().unwrap();
                let data: Vec<u8> = (0..BYTES as u32).map(|at| (at / 3) as u8).collect();
                let expected = data.clone();
                let hearer = std::thread::spawn(move || {
                    let mut heard = vec![0; BYTES];
                    hearing.read_exact(&mut heard).unwrap();
                    heard
                });
                stream.write_all(&data).unwrap();
                assert!(hearer.join().unwrap() == expected, "the stream changed on its way");
            });
            let (mut packets, mut batch, mut answers) = (0, PacketBatch::default(), PacketBatch::default());
            while !talking.is_finished() {
                let mut poll =
                    libc::pollfd { fd: device.as_fd().as_raw_fd(), events: libc::POLLIN, revents: 0 };
                // SAFETY: one initialised pollfd.
                unsafe { libc::poll(&raw mut poll, 1, 10) };
                batch.clear();
                answers.clear();
                device.recv_batch(&mut batch, 64).unwrap();
                for (packet, offload) in batch.iter() {
                    let at = if packet[0] >> 4 == 4 { 9 } else { 6 };
                    if packet[at] == 6 {
                        assert!(packet.len() <= 1_400, "{} bytes at once", packet.len());
                        let mut packet = packet.to_vec();
                        turn_round(&mut packet);
                        answers.push(&packet, *offload);
                    }
                }
                let written = device.send_batch(&answers);
                assert_eq!((written.packets, written.dropped), (answers.len(), 0));
                packets += answers.len() as u64;
            }
            talking.join().unwrap();
            let after = kernel_counts();
            let (into, out_of) = (after.0 - before.0, after.1 - before.1);
            assert!(packets as usize > BYTES / 1_400, "{packets} packets");
            assert!(into < packets / 2 && out_of < packets / 2, "{packets} packets, in {into}, out {out_of}");
        }
    });
}

#[test]
fn packets_pass_a_packet_device() {
    in_namespace("tests::packets_pass_a_packet_device", || packets_pass(DeviceKind::Packet));
}

#[test]
fn large_tcp_segments_arrive_cut_and_complete() {
    in_namespace("tests::large_tcp_segments_arrive_cut_and_complete", || {
        let mut changes = Changes::unjournaled().unwrap();
        let mut device = Device::open(&config(DeviceKind::Packet), &mut changes).unwrap();
        changes.netlink().add_address("bwe0", "10.98.0.1/24".parse().unwrap()).unwrap();
        let connecting = std::thread::spawn(|| {
            let address = "10.98.0.9:80".parse().unwrap();
            TcpStream::connect_timeout(&address, std::time::Duration::from_millis(200))
        });
        let mut batch = PacketBatch::default();
        while !batch.iter().any(|(packet, _)| packet[0] >> 4 == 4 && packet[9] == 6) {
            wait_readable(&device);
            device.recv_batch(&mut batch, 64).unwrap();
        }
        let (syn, _) = batch.iter().find(|(packet, _)| packet[0] >> 4 == 4 && packet[9] == 6).unwrap();
        assert_eq!(tcp_sum(syn), 0xffff, "the checksum is not complete");
        assert!(connecting.join().unwrap().is_err());
    });
}

/// The ones' complement sum over a TCP packet and its pseudo-header; all ones if the checksum is right.
fn tcp_sum(packet: &[u8]) -> u16 {
    let segment = &packet[20..];
    let mut bytes = packet[12..20].to_vec();
    bytes.extend([0, 6]);
    bytes.extend((segment.len() as u16).to_be_bytes());
    bytes.extend(segment);
    let mut sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn a_missing_driver_is_named() {
    in_namespace("tests::a_missing_driver_is_named", || {
        let status = Command::new("unshare")
            .args([
                "-m",
                "sh",
                "-c",
                "mount -t tmpfs none /dev/net && exec \"$0\" --exact tests::without_driver",
            ])
            .arg(std::env::current_exe().unwrap())
            .env(INSIDE, "tests::without_driver")
            .status()
            .unwrap();
        assert!(status.success());
    });
}

/// Not a test by itself: tries where there is no `/dev/net/tun`.
#[test]
fn without_driver() {
    if !std::env::var(INSIDE).is_ok_and(|name| name == "tests::without_driver") {
        return;
    }
    let mut changes = Changes::unjournaled().unwrap();
    let error = Device::open(&config(DeviceKind::Tun), &mut changes).unwrap_err();
    assert!(matches!(error, TunError::Missing), "{error:?}");
    let text = error.to_string();
    assert!(
        text.contains("modprobe tun") && text.contains("mknod") && text.contains("--device /dev/net/tun"),
        "{text}"
    );
}

#[test]
fn names_are_chosen_and_checked() {
    in_namespace("tests::names_are_chosen_and_checked", || {
        let mut changes = Changes::unjournaled().unwrap();
        let unnamed = DeviceConfig { name: None, kind: DeviceKind::Packet, mtu: 1_280 };
        let first = Device::open(&unnamed, &mut changes).unwrap();
        let second = Device::open(&unnamed, &mut changes).unwrap();
        assert_eq!((first.name(), second.name()), ("bw0", "bw1"));
        for (name, kind) in [
            ("", DeviceKind::Tun),
            ("a b", DeviceKind::Tun),
            ("sixteen-letters.", DeviceKind::Tun),
            ("eleven-let.", DeviceKind::Packet),
        ] {
            let named = DeviceConfig { name: Some(name.to_owned()), kind, mtu: 1_280 };
            let error = Device::open(&named, &mut changes).unwrap_err();
            assert!(matches!(error, TunError::BadName { .. }), "{name}: {error:?}");
        }
    });
}

#[test]
fn a_killed_process_leaves_a_pair_that_the_next_start_removes() {
    in_namespace("tests::a_killed_process_leaves_a_pair_that_the_next_start_removes", || {
        let state = tempfile::tempdir().unwrap();
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::dying"])
            .env("BONDWIRE_TEST_STATE", state.path())
            .status()
            .unwrap();
        assert!(!status.success());
        let mut netlink = bondwire_netctl::Netlink::open().unwrap();
        assert!(netlink.index_of("bwe0-peer").is_ok());
        let recovery = bondwire_netctl::Journal::recover(state.path()).unwrap();
        assert_eq!((recovery.undone, recovery.failed.len()), (1, 0));
        assert!(netlink.index_of("bwe0").is_err() && netlink.index_of("bwe0-peer").is_err());
    });
}

/// Not a test by itself: makes a device and is killed.
#[test]
fn dying() {
    let Ok(state) = std::env::var("BONDWIRE_TEST_STATE") else { return };
    let (mut changes, _) = Changes::open(state.as_ref()).unwrap();
    let _device = Device::open(&config(DeviceKind::Packet), &mut changes).unwrap();
    Command::new("kill").args(["-9", &std::process::id().to_string()]).status().unwrap();
}
