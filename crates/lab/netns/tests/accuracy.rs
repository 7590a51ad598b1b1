//! Whether the emulator does what it was told. Rates and delays are asserted only when the emulator's own report says
//! that the machine was quick enough; they are printed in any case.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::net::SocketAddr;

use bondwire_netns::isolated_test;
use bondwire_netns::traffic::{Direction, Probe, ProbeOptions};
use bondwire_units::{Bitrate, ByteCount};

use support::{build, ms, probe_with};

#[test]
fn rate_is_within_two_percent() {
    isolated_test("rate_is_within_two_percent", || {
        let (lab, _) = build(
            "name = \"rate\"\n[[links]]\nname = \"wan0\"\nup = \"20 Mbit/s\"\ndown = \"40 Mbit/s\"\ndelay = \"5 ms\"\n",
        );
        for (direction, rate) in [(Direction::Up, 20.0), (Direction::Down, 40.0)] {
            lab.emulator().reset_lateness().unwrap();
            // 1,400 bytes of payload are 1,428 of IP; 1.25 times the rate keeps the queue full.
            let interval = Bitrate::from_mbps(rate * 1.25).time_for(ByteCount::new(1428));
            let options = ProbeOptions {
                direction,
                interval,
                size: 1400,
                duration: ms(2500),
                ..ProbeOptions::default()
            };
            let report = probe_with(lab.client(), lab.web(), lab.web_addr_v4(), options);
            // From one arrival to another a second and a half later, when the queue has long been full.
            let from = report.started + ms(700);
            let window: Vec<_> = report
                .packets
                .iter()
                .filter(|packet| packet.arrived >= from && packet.arrived < from + ms(1500))
                .collect();
            let span = window[window.len() - 1].arrived.since(window[0].arrived);
            let bytes = ByteCount::new(1428 * (window.len() as u64 - 1));
            let measured = Bitrate::from_bytes_over(bytes, span).as_mbps();
            let emulator = lab.emulator().report().unwrap();
            println!("{direction:?}: {measured:.3} Mbit/s of {rate}; {:?}", emulator.lateness_us);
            if emulator.kept_up() {
                assert!((measured / rate - 1.0).abs() <= 0.02, "{measured} instead of {rate}");
            } else {
                println!("not judged: the machine did not keep up");
            }
        }
    });
}

#[test]
fn delay_is_within_a_millisecond() {
    isolated_test("delay_is_within_a_millisecond", || {
        let (lab, _) = build("name = \"delay\"\n[[links]]\nname = \"wan0\"\ndelay = \"30 ms\"\n");
        for direction in [Direction::Up, Direction::Down] {
            lab.emulator().reset_lateness().unwrap();
            // The same without an emulator on the way, at the same time: how late ordinary threads are on this machine.
            let options = ProbeOptions { direction, duration: ms(1500), ..ProbeOptions::default() };
            let plain = Probe::start(
                lab.web(),
                lab.server(),
                SocketAddr::new(lab.server_addr_v4().into(), 0),
                options.clone(),
            );
            let report = probe_with(lab.client(), lab.web(), lab.web_addr_v4(), options);
            let plain = plain.unwrap().finish().unwrap().delay(0.99).unwrap();
            let (p50, p99) = (report.delay(0.5).unwrap(), report.delay(0.99).unwrap());
            let emulator = lab.emulator().report().unwrap();
            println!(
                "{direction:?}: p50 {p50:?}, p99 {p99:?}, without emulator {plain:?}; {:?}",
                emulator.lateness_us
            );
            // Never early, whatever the machine does; 0.1 ms is what reading two clocks one after the other may cost.
            assert!(report.delay(0.0).unwrap() + ms(1) / 10 >= ms(30), "{report:?}");
            if emulator.kept_up() && plain <= ms(1) / 2 {
                assert!(p99 <= ms(31), "{p99:?}");
                assert_eq!(report.lost(), 0);
            } else {
                println!("not judged: the machine did not keep up");
            }
        }
    });
}

#[test]
fn loss_is_within_statistics() {
    isolated_test("loss_is_within_statistics", || {
        let (lab, _) = build("name = \"loss\"\nseed = 5\n[[links]]\nname = \"wan0\"\nloss = \"5 %\"\n");
        let options = ProbeOptions { interval: ms(1) / 4, duration: ms(2000), ..ProbeOptions::default() };
        let report = probe_with(lab.client(), lab.web(), lab.web_addr_v4(), options);
        let emulator = lab.emulator().report().unwrap();
        let up = emulator.links[0].up;
        // Everything is accounted for: sent, lost on purpose, or lost to overload.
        assert_eq!(up.packets_in + up.dropped_kernel, report.sent);
        assert_eq!(up.packets_in, up.packets_out + up.dropped_loss);
        // 8,000 draws at 5 %: the standard deviation is 0.244 %.
        let loss = up.dropped_loss as f64 / up.packets_in as f64;
        println!("loss {loss:.4} over {} packets", up.packets_in);
        assert!((loss - 0.05).abs() < 4.0 * 0.00244, "{loss}");
    });
}
