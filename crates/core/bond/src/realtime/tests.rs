//! Generated traffic of many kinds: what must become real-time, and what must not.

use super::*;
use bondwire_packet::build::udp4;
use bondwire_packet::{FlowKey, parse};
use bondwire_units::{Bitrate, Timestamp};
use bondwire_wire::Mode;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::time::Duration;

/// A flow between the client and a remote port, as one end's table sees it.
struct Lab {
    streams: Streams,
    mode: Mode,
    local: SocketAddrV4,
    remote: SocketAddrV4,
    stream: u32,
    random: u64,
}

impl Lab {
    fn new(port: u16) -> Self {
        Self {
            streams: Streams::new(),
            mode: Mode::Streaming,
            local: SocketAddrV4::new(Ipv4Addr::new(10, 99, 0, 2), 50_000),
            remote: SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 5), port),
            stream: NO_STREAM,
            random: 7,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random = self.random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.random >> 33) % below
    }

    /// Microseconds.
    fn out(&mut self, payload: &[u8], at: u64) -> Standing {
        let packet = udp4(self.local, self.remote, payload);
        let info = parse(&packet).unwrap();
        let now = Timestamp::from_micros(at);
        let (stream, standing) = self.streams.on_queued(self.stream, &packet, &info, self.mode, now);
        self.stream = stream;
        standing
    }

    fn back(&mut self, payload: &[u8], at: u64) {
        let packet = udp4(self.remote, self.local, payload);
        let key = parse(&packet).unwrap().key.reversed();
        let now = Timestamp::from_micros(at);
        self.stream =
            self.streams.on_received(self.stream, Some(&key), packet.len(), Some(payload), self.mode, now);
    }

    /// Why it is real-time.
    fn reason(&self) -> Option<StreamReason> {
        self.streams.status(&Default::default(), |_| None, Timestamp::ZERO).first().map(|s| s.reason)
    }

    /// Sends and receives packets at these intervals (in microseconds; each random up to that many more) and of these sizes, for so
    /// many seconds; the share of the time in which the flow was real-time.
    fn run(&mut self, from: u64, seconds: u64, out: Option<Beat>, back: Option<Beat>) -> f64 {
        let (mut next_out, mut next_back) = (from, from);
        let (mut yes, mut all) = (0, 0);
        for ms in from / 1_000..from / 1_000 + seconds * 1_000 {
            let now = ms * 1_000;
            if let Some(beat) = out {
                while next_out <= now {
                    let size = beat.size + self.random(beat.sizes.max(1)) as usize;
                    (0..beat.burst).for_each(|_| _ = self.out(&vec![9; size], next_out));
                    next_out += beat.every + self.random(beat.jitter.max(1));
                }
            }
            if let Some(beat) = back {
                while next_back <= now {
                    let size = beat.size + self.random(beat.sizes.max(1)) as usize;
                    (0..beat.burst).for_each(|_| self.back(&vec![9; size], next_back));
                    next_back += beat.every + self.random(beat.jitter.max(1));
                }
            }
            all += 1;
            yes += u32::from(self.reason().is_some());
        }
        f64::from(yes) / f64::from(all)
    }
}

/// A regular source.
#[derive(Clone, Copy)]
struct Beat {
    every: u64,
    jitter: u64,
    size: usize,
    sizes: u64,
    burst: u32,
}

const fn beat(every: u64, jitter: u64, size: usize, sizes: u64) -> Option<Beat> {
    Some(Beat { every, jitter, size, sizes, burst: 1 })
}

const fn bursts(every: u64, jitter: u64, size: usize, burst: u32) -> Option<Beat> {
    Some(Beat { every, jitter, size, sizes: 1, burst })
}

fn rtp(ssrc: u32, number: u16, size: usize) -> Vec<u8> {
    let mut payload = vec![0; size.max(12)];
    (payload[0], payload[1]) = (0x80, 111);
    payload[2..4].copy_from_slice(&number.to_be_bytes());
    payload[8..12].copy_from_slice(&ssrc.to_be_bytes());
    payload
}

#[test]
fn a_call_is_real_time_within_two_seconds_and_stays() {
    for size in [60, 160, 200] {
        let mut lab = Lab::new(40_000);
        let share = lab.run(0, 30, beat(20_000, 2_000, size, 20), beat(18_000, 4_000, size, 20));
        assert!(share > 0.92, "{size} bytes: {share}");
        assert_eq!(lab.reason(), Some(StreamReason::Rhythm));
    }
}

#[test]
fn games_are_real_time() {
    for hertz in [30, 60, 128] {
        let every = 1_000_000 / hertz;
        let mut lab = Lab::new(7_777);
        let share =
            lab.run(0, 20, beat(every, every / 10, 40, 60), beat(every - every / 4, every / 2, 80, 250));
        assert!(share > 0.88, "{hertz} Hz: {share}");
    }
}

#[test]
fn a_video_call_in_rtp_bursts_is_real_time() {
    let mut lab = Lab::new(41_000);
    let mut numbers = [0_u16; 2];
    for ms in 0..10_000_u64 {
        if ms % 33 == 0 {
            for _ in 0..3 + lab.random(8) {
                numbers[0] = numbers[0].wrapping_add(1);
                lab.out(&rtp(1, numbers[0], 1_100), ms * 1_000);
            }
        }
        if ms % 20 == 7 {
            numbers[1] = numbers[1].wrapping_add(1);
            lab.out(&rtp(2, numbers[1], 90), ms * 1_000);
        }
        assert!(ms < 2_500 || lab.reason() == Some(StreamReason::Format), "at {ms} ms");
    }
}

#[test]
fn live_video_one_way_is_real_time_by_its_clock_or_its_format() {
    let mut lab = Lab::new(9_000);
    let share = lab.run(0, 30, beat(5_000, 600, 1_222, 1), None);
    assert!(share > 0.85, "{share}");
    let mut lab = Lab::new(9_000);
    assert!(lab.run(0, 30, None, beat(4_700, 600, 1_222, 1)) > 0.85, "the receiving end sees it too");
    // SRT in bursts, as an encoder hands frames over, and acknowledged a hundred times a second.
    let mut lab = Lab::new(9_000);
    let mut number = 100_u32;
    for ms in 0..5_000_u64 {
        for _ in 0..if ms % 40 == 0 { 8 } else { 0 } {
            number += 1;
            let mut payload = vec![0; 1_332];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            payload[8..12].copy_from_slice(&(ms as u32 * 1_000).to_be_bytes());
            payload[12..16].copy_from_slice(&77_u32.to_be_bytes());
            lab.out(&payload, ms * 1_000);
        }
        if ms % 10 == 0 {
            lab.back(&[0x80; 44], ms * 1_000);
        }
    }
    assert_eq!(lab.reason(), Some(StreamReason::Format));
}

#[test]
fn a_known_port_counts_from_the_first_packet_until_it_is_contradicted() {
    let mut lab = Lab::new(3_478);
    assert_eq!(lab.out(&[9; 100], 1_000), Standing::RealTime(StreamReason::Port));
    let share = lab.run(1_000_000, 20, bursts(11_000, 3_000, 1_200, 10), beat(8_000, 8_000, 40, 1));
    assert!(share < 0.2 && lab.reason().is_none(), "{share}");
}

#[test]
fn bulk_is_never_real_time() {
    // What a downloader receives and acknowledges, as a congestion control sends it: in pairs and bursts, at a changing pace.
    for (name, out, back) in [
        ("QUIC download", beat(1_500, 1_500, 30, 10), bursts(1_000, 1_000, 1_200, 2)),
        ("slow QUIC download", beat(9_000, 8_000, 30, 10), bursts(10_000, 6_000, 1_200, 2)),
        ("paced QUIC download", beat(25_000, 10_000, 30, 10), beat(6_000, 1_000, 1_200, 1)),
        ("QUIC upload", bursts(4_000, 3_000, 1_200, 3), beat(5_000, 5_000, 30, 10)),
        ("WireGuard download", beat(700, 900, 80, 1), bursts(600, 800, 1_380, 4)),
        ("torrent", beat(7_000, 20_000, 300, 1_100), beat(9_000, 20_000, 400, 1_000)),
    ] {
        let mut lab = Lab::new(443);
        let share = lab.run(0, 30, out, back);
        assert_eq!(share, 0.0, "{name}");
    }
}

#[test]
fn what_is_paced_and_acknowledged_is_no_clock() {
    let mut lab = Lab::new(443);
    // A sender that is paced by BBR: a quarter more, a quarter less, and six rounds in between.
    let mut at = 0;
    for round in 0..600_u64 {
        let every = match round % 8 {
            0 => 4_000,
            1 => 6_600,
            _ => 5_000,
        };
        for n in 0..20 {
            lab.out(&[9; 1_200], at);
            if n % 10 == 0 {
                lab.back(&[9; 40], at);
            }
            at += every;
        }
        assert_eq!(lab.reason(), None, "round {round}");
    }
}

#[test]
fn queries_and_keepalives_are_never_real_time() {
    for (name, out, back) in [
        ("DNS", beat(300_000, 500_000, 40, 20), beat(300_000, 500_000, 90, 300)),
        ("a burst of DNS", bursts(900_000, 900_000, 40, 12), bursts(900_000, 900_000, 120, 12)),
        ("keepalives", beat(1_000_000, 1, 30, 1), beat(1_000_000, 1, 30, 1)),
    ] {
        let mut lab = Lab::new(53);
        assert_eq!(lab.run(0, 30, out, back), 0.0, "{name}");
    }
}

/// ICMP has no rhythm here: ping stays what it is.
#[test]
fn ping_is_not_looked_at() {
    let mut lab = Lab::new(0);
    for n in 0..500_u64 {
        let mut packet = udp4(lab.local, lab.remote, &[8; 56]);
        packet[9] = 1;
        let info = parse(&packet).unwrap();
        let now = Timestamp::from_millis(n * 20);
        let (stream, standing) = lab.streams.on_queued(NO_STREAM, &packet, &info, lab.mode, now);
        assert_eq!((stream, standing), (NO_STREAM, Standing::Default));
    }
}

#[test]
fn a_flow_that_turns_to_bulk_loses_the_class_within_seconds() {
    let mut lab = Lab::new(40_000);
    lab.run(0, 10, beat(20_000, 2_000, 160, 20), beat(20_000, 4_000, 160, 20));
    assert!(lab.reason().is_some());
    lab.run(10_000_000, 4, beat(900, 900, 30, 10), bursts(1_000, 1_000, 1_200, 2));
    assert!(lab.reason().is_none());
}

#[test]
fn one_odd_moment_changes_nothing() {
    let mut lab = Lab::new(40_000);
    let beats = (beat(20_000, 2_000, 160, 20), beat(20_000, 4_000, 160, 20));
    lab.run(0, 10, beats.0, beats.1);
    lab.run(10_000_000, 1, bursts(200_000, 1_000, 900, 5), beats.1);
    assert!(lab.reason().is_some());
    assert_eq!(lab.run(20_000_000, 5, beats.0, beats.1), 1.0, "after ten seconds of silence, too");
}

#[test]
fn mode_speed_knows_dscp_alone() {
    let mut lab = Lab::new(40_000);
    lab.mode = Mode::Speed;
    assert_eq!(lab.run(0, 10, beat(20_000, 2_000, 160, 20), beat(20_000, 2_000, 160, 20)), 0.0);
    let mut packet = udp4(lab.local, lab.remote, &[9; 100]);
    bondwire_packet::build::set_traffic_class(&mut packet, 46, bondwire_packet::Ecn::NotEct);
    let info = parse(&packet).unwrap();
    let now = Timestamp::from_millis(11_000);
    let (_, standing) = lab.streams.on_queued(lab.stream, &packet, &info, Mode::Speed, now);
    assert_eq!(standing, Standing::RealTime(StreamReason::Dscp));
}

fn rule(class: RuleClass) -> Rules {
    let ports = Some(9_000..=9_000);
    Rules::new(vec![Rule { remote: None, ports, protocol: Some(17), dscp: None, class }])
}

#[test]
fn rules_come_first_and_are_announced_once() {
    let mut lab = Lab::new(9_000);
    lab.streams.set_rules(rule(RuleClass::RealTime));
    assert_eq!(lab.out(&[1; 500], 1_000), Standing::RealTime(StreamReason::Rule));
    assert_eq!(lab.out(&[1; 500], 2_000), Standing::RealTime(StreamReason::Rule));
    let told = lab.streams.poll_announcement().expect("the server has to know");
    assert_eq!(lab.streams.poll_announcement(), None);
    let (key, code) = lab.streams.announcement(told).unwrap();
    assert_eq!((key.dst_port, code), (9_000, 1));
    let change = lab.streams.poll_change().unwrap();
    assert_eq!((change.key, change.reason), (key, Some(StreamReason::Rule)));
    lab.streams.set_rules(rule(RuleClass::Bulk));
    assert_eq!(lab.out(&[1; 500], 3_000), Standing::Bulk);
    lab.streams.set_rules(rule(RuleClass::Default));
    assert_eq!(lab.run(0, 10, beat(20_000, 2_000, 160, 20), beat(20_000, 2_000, 160, 20)), 0.0);
}

#[test]
fn the_peer_s_word_is_taken_and_not_repeated() {
    let mut lab = Lab::new(9_000);
    let key = FlowKey {
        protocol: 17,
        src: (*lab.local.ip()).into(),
        dst: (*lab.remote.ip()).into(),
        src_port: lab.local.port(),
        dst_port: lab.remote.port(),
    };
    let now = Timestamp::from_millis(1);
    lab.streams.on_told(&key, 1, lab.mode, now);
    assert_eq!(lab.out(&[1; 1_200], 1_000), Standing::RealTime(StreamReason::Peer));
    lab.streams.on_told(&key, 0, lab.mode, now);
    assert_eq!(lab.out(&[1; 1_200], 2_000), Standing::Default);
    assert_eq!(lab.streams.poll_announcement(), None, "what one was told is not told back");
}

#[test]
fn a_flow_that_takes_more_than_its_share_falls_back() {
    let mut lab = Lab::new(9_000);
    lab.streams.set_rules(rule(RuleClass::RealTime));
    let rate = Bitrate::from_mbps(20.0);
    let mut dropped_at = None;
    for ms in 0..20_000_u64 {
        lab.out(&[1; 1_172], ms * 1_000);
        if ms % 50 == 0 {
            lab.streams.upkeep(rate, ms > 5_000, lab.mode, Timestamp::from_millis(ms));
        }
        if lab.reason().is_none() {
            dropped_at.get_or_insert(ms);
        }
    }
    let at = dropped_at.expect("9.6 of 20 Mbit/s");
    assert!((6_900..7_500).contains(&at), "two seconds after others began to wait: {at}");
    let misuse = core::iter::from_fn(|| lab.streams.poll_change()).any(|change| change.misuse);
    assert!(misuse && lab.reason().is_none());
}

#[test]
fn the_table_is_bounded_and_keeps_what_is_alive() {
    let mut lab = Lab::new(3_478);
    let mut call = NO_STREAM;
    for n in 0..20_000_u64 {
        lab.remote = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 5), 3_478);
        lab.stream = call;
        lab.out(&[9; 100], n * 1_000);
        call = lab.stream;
        lab.remote = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 1), 10_000 + n as u16 % 8_000);
        lab.stream = NO_STREAM;
        lab.out(&[9; 100], n * 1_000);
        assert!((lab.stream as usize) < MAX_STREAMS);
    }
    assert_eq!(lab.streams.status(&Default::default(), |_| None, Timestamp::from_millis(20_000)).len(), 1);
}

#[test]
fn protection_keeps_to_its_budget() {
    let mut lab = Lab::new(3_478);
    lab.out(&[9; 100], 0);
    let (mut sent, mut extra) = (0, 0);
    for n in 0..1_000 {
        let now = Timestamp::from_millis(n);
        lab.streams.on_sent(lab.stream, 128, now, bondwire_units::PathId(0), now);
        sent += 128;
        if lab.streams.affords(lab.stream, 128) {
            lab.streams.spend(lab.stream, 128);
            extra += 128;
        }
    }
    assert!(extra * 10 <= sent * 4 && extra * 10 >= sent * 3, "{extra} of {sent}");
    lab.streams.upkeep(Bitrate::ZERO, false, Mode::Streaming, Timestamp::ZERO + Duration::from_secs(60));
}
