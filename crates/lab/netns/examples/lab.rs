//! Builds a profile and measures each of its links alone: plain TCP down and up, one-way delay of a light UDP flow.
//!
//! `cargo run -p bondwire-netns --example lab -- PROFILE [--seconds N]`, where PROFILE is a built-in one or a file.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bondwire_netns::traffic::{Bulk, BulkOptions, BulkServer, Direction, Probe, ProbeOptions, ProbeReport};
use bondwire_netns::{Lab, LabOptions, enter};
use bondwire_scenario::Scenario;
use bondwire_units::Bitrate;

fn main() -> Result<()> {
    let (profile, seconds) = arguments()?;
    let scenario = Scenario::find(&profile)?;
    enter()?;
    let lab = Lab::build(&scenario, LabOptions::default())?;
    println!("{profile}: {} links", scenario.links.len());
    println!("link          goodput Mbit/s    one-way delay idle, ms, p50 / p99");
    println!("              down     up       down               up");
    for link in &scenario.links {
        measure(&lab, &link.name, Duration::from_secs_f64(seconds))?;
    }
    let report = lab.emulator().report()?;
    let late = report.lateness_us;
    println!(
        "emulator: late by p50 {} µs, p99 {} µs, max {} µs over {} packets; {} lost to overload; real-time: {}; {}",
        late.p50,
        late.p99,
        late.max,
        late.count,
        report.overload_drops(),
        report.realtime,
        if report.kept_up() { "it kept up" } else { "IT DID NOT KEEP UP, the figures mean nothing" },
    );
    Ok(())
}

fn arguments() -> Result<(String, f64)> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [profile] => Ok((profile.to_owned(), 6.0)),
        [profile, "--seconds", seconds] | ["--seconds", seconds, profile] => {
            let seconds: f64 = seconds.parse().context("--seconds wants a number")?;
            Ok((profile.to_owned(), seconds.clamp(1.0, 600.0)))
        }
        _ => bail!("usage: lab PROFILE [--seconds N]"),
    }
}

fn measure(lab: &Lab, link: &str, duration: Duration) -> Result<()> {
    let down_delay = delay(lab, link, Direction::Down)?;
    let up_delay = delay(lab, link, Direction::Up)?;
    let down = goodput(lab, link, Direction::Down, duration)?;
    let up = goodput(lab, link, Direction::Up, duration)?;
    println!(
        "{link:<12} {:>6.1} {:>6.1}       {:<18} {}",
        down.as_mbps(),
        up.as_mbps(),
        describe(&down_delay),
        describe(&up_delay),
    );
    Ok(())
}

fn goodput(lab: &Lab, link: &str, direction: Direction, duration: Duration) -> Result<Bitrate> {
    let server = BulkServer::start(lab.web(), SocketAddr::new(lab.web_addr_v4().into(), 0))?;
    let options = BulkOptions {
        direction,
        limit: duration,
        interface: Some(link.to_owned()),
        verify: false,
        ..BulkOptions::default()
    };
    let report = Bulk::start(lab.client(), &server, options)?.finish()?;
    if let Some(error) = report.error {
        bail!("{link}: the transfer broke: {error}");
    }
    // The first third is the ramp.
    Ok(report.timeline.goodput(duration / 3, duration))
}

fn delay(lab: &Lab, link: &str, direction: Direction) -> Result<ProbeReport> {
    let options = ProbeOptions { direction, interface: Some(link.to_owned()), ..ProbeOptions::default() };
    let to = SocketAddr::new(lab.web_addr_v4().into(), 0);
    Ok(Probe::start(lab.client(), lab.web(), to, options)?.finish()?)
}

fn describe(report: &ProbeReport) -> String {
    let ms = |share| report.delay(share).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3);
    format!("{:.2} / {:.2}", ms(0.5), ms(0.99))
}
