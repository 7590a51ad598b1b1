//! `bondwire streams`

use std::io::IsTerminal;
use std::time::Duration;

use bondwire_api::{ControlClient, Fault, Mode, StreamDirection, StreamEntry, Streams};

use crate::args::Global;
use crate::output::{self, rate};
use crate::table::Table;

/// The time between two pictures of `--watch`.
const STEP: Duration = Duration::from_secs(1);

/// Lists the real-time flows (calls, games, live video): how they fare, and what was saved for them.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(crate) struct Args {
    /// Show it again every second, until Ctrl-C; with --json one object a line
    #[arg(long)]
    watch: bool,
}

const NOTES: &str = "\
LOSS is what the links lost, LEFT what was missing in the end. SAVED is the difference: by leaving
a dying link in time, by copies and parity, by sending again. Rules can decide what is a real-time
flow: [streams] in client.toml.";

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let client = ControlClient::new(&global.socket);
    let clear = args.watch && !global.json && std::io::stdout().is_terminal();
    loop {
        let streams = client.streams()?;
        if clear {
            output::say("\x1b[H\x1b[2J")?;
        }
        let heard = output::tell(global, &streams, render)?;
        if !args.watch || !heard {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
}

fn render(streams: &Streams) -> String {
    if streams.streams.is_empty() {
        return empty(streams.mode).to_owned();
    }
    let first = if streams.mode.is_none() { "CLIENT" } else { "LINK" };
    let headings = ["FLOW", "WHY", first, "", "RATE", "DELAY", "JITTER", "LOSS", "LEFT", "SAVED"];
    let mut table = Table::new(&headings, &[4, 5, 6, 7, 8]);
    for stream in &streams.streams {
        let sides = [("up", &stream.up), ("down", &stream.down)];
        let sides = sides.into_iter().filter(|(_, side)| side.packets > 0);
        for (number, (name, side)) in sides.enumerate() {
            table.row(row(stream, name, side, number == 0));
        }
    }
    table.render()
}

fn row(stream: &StreamEntry, name: &str, side: &StreamDirection, first: bool) -> Vec<String> {
    let once = |text: String| if first { text } else { String::new() };
    let millis = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1} ms"));
    vec![
        once(format!("{} {} > {}", stream.protocol, stream.local, stream.remote)),
        once(stream.reason.clone()),
        once(stream.link.clone().unwrap_or_else(|| "-".to_owned())),
        name.to_owned(),
        rate(side.bps),
        millis(side.delay_ms),
        millis(side.jitter_ms),
        percent(side.loss_before),
        percent(side.loss_after),
        saved(side),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

fn saved(side: &StreamDirection) -> String {
    if side.saved() == 0 {
        return "-".to_owned();
    }
    let ways = [
        ("failover", side.saved_by_failover),
        ("redundancy", side.saved_by_redundancy),
        ("repair", side.saved_by_repair),
    ];
    let ways: Vec<String> = ways
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("{count} by {name}"))
        .collect();
    ways.join(", ")
}

/// Why there is nothing to see, and what would change that.
fn empty(mode: Option<Mode>) -> &'static str {
    match mode {
        Some(Mode::Speed | Mode::Redundant) => {
            "no real-time flows

In this mode only flows are looked for that say so by their DSCP (EF, VA, AF4x).
`bondwire mode streaming` finds calls, games and live video by how they behave.
"
        }
        Some(Mode::Balance) => {
            "no real-time flows: mode balance has no bond that would look for them

`bondwire sockets` lists what goes over which link.
"
        }
        _ => {
            "no real-time flows at present

A call, a game or a live video is listed here one to two seconds after it has begun.
If one runs and is missing, a rule helps: see [streams] in client.toml.
"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> StreamEntry {
        let up = StreamDirection {
            bps: 76_800,
            packets_per_second: 50.0,
            delay_ms: Some(21.26),
            jitter_ms: Some(1.2),
            loss_before: 0.0123,
            loss_after: 0.0004,
            packets: 9_000,
            lost_first: 110,
            lost: 4,
            saved_by_failover: 6,
            saved_by_redundancy: 0,
            saved_by_repair: 100,
            overhead: 0.03,
        };
        StreamEntry {
            client: None,
            protocol: "udp".into(),
            local: "10.99.0.2:50000".into(),
            remote: "203.0.113.5:3478".into(),
            reason: "stun".into(),
            age_ms: 180_000,
            idle_ms: 4,
            link: Some("wan0".into()),
            down: StreamDirection { bps: 81_200, packets: 9_100, ..StreamDirection::default() },
            up,
        }
    }

    #[test]
    fn a_tired_person_can_read_it() {
        let streams = Streams { mode: Some(Mode::Streaming), streams: vec![entry()] };
        assert_eq!(
            render(&streams),
            "\
FLOW                                    WHY   LINK             RATE    DELAY  JITTER    LOSS    LEFT  SAVED
udp 10.99.0.2:50000 > 203.0.113.5:3478  stun  wan0  up    77 kbit/s  21.3 ms  1.2 ms  1.23 %  0.04 %  6 by failover, 100 by repair
                                                    down  81 kbit/s        -       -  0.00 %  0.00 %  -
"
        );
    }

    #[test]
    fn nothing_to_see_is_explained() {
        for (mode, part) in [(Mode::Speed, "bondwire mode streaming"), (Mode::Streaming, "a rule helps")] {
            assert!(render(&Streams { mode: Some(mode), streams: Vec::new() }).contains(part));
        }
    }
}
