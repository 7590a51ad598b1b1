//! `bondwire status`

use std::io::IsTerminal;
use std::time::Duration;

use bondwire_api::{ControlClient, Fault, LinkStatus, Mode, Role, Status};

use crate::args::Global;
use crate::output::{self, amount, rate, span};
use crate::table::Table;

/// The time between two pictures of `--watch`.
const STEP: Duration = Duration::from_secs(1);

/// Shows how a running bondwire stands: its connection, its links, and what flows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Show it again every second, until Ctrl-C; with --json one object a line
    #[arg(long)]
    watch: bool,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let client = ControlClient::new(&global.socket);
    let clear = args.watch && !global.json && std::io::stdout().is_terminal();
    loop {
        let status = client.status()?;
        if clear {
            output::say("\x1b[H\x1b[2J")?;
        }
        let heard = output::tell(global, &status, render)?;
        if !args.watch || !heard {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
}

fn render(status: &Status) -> String {
    let mut text = headline(status);
    if let Some(reason) = &status.reason {
        text.push_str(&format!("why:     {}\n", reason.replace('\n', "\n         ")));
    }
    if let Some(device) = &status.device {
        let addresses: Vec<&str> =
            [&status.inner_v4, &status.inner_v6].into_iter().flatten().map(String::as_str).collect();
        text.push_str(&format!("tunnel:  {device}  {}  mtu {}\n", addresses.join("  "), status.mtu));
    }
    let flows = if is_balancing(status) { "sockets: " } else { "flows:   " };
    text.push_str(&format!("{flows}{}\n\n", status.flows));
    text.push_str(&links(status).render());
    text
}

/// Whether there is no bond: each socket goes over one link.
fn is_balancing(status: &Status) -> bool {
    status.mode == Some(Mode::Balance)
}

fn headline(status: &Status) -> String {
    let up = span(status.uptime_ms / 1000);
    let server = status.server.as_deref().unwrap_or("-");
    match status.role {
        _ if is_balancing(status) => {
            let proxy = status.server.as_ref().map_or_else(String::new, |at| format!("proxy on {at}, "));
            format!("state:   {}, {proxy}up for {up}\nmode:    balance\n", status.state)
        }
        Role::Server => format!("server:  {} on {server} for {up}\n", status.state),
        Role::Client => {
            let mode = status.mode.map_or("-", Mode::name);
            format!("state:   {}, server {server}, up for {up}\nmode:    {mode}\n", status.state)
        }
    }
}

fn links(status: &Status) -> Table {
    let first = if status.role == Role::Server { "CLIENT" } else { "LINK" };
    let headings = [
        first,
        "KIND",
        "PRIORITY",
        "STATE",
        "RTT",
        "LOSS",
        "DOWN",
        "UP",
        "CAPACITY DOWN",
        "CAPACITY UP",
        "RECEIVED",
        "SENT",
    ];
    let balancing = is_balancing(status);
    let shares: &[&str] = if balancing { &["SHARE", "SOCKETS"] } else { &[] };
    let mut table = Table::new(&[&headings, shares].concat(), &[4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
    for link in &status.links {
        let mut row = link_row(link);
        if balancing {
            row.push(link.share.map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0)));
            row.push(link.sockets.map_or_else(|| "-".into(), |count| count.to_string()));
        }
        table.row(row);
    }
    if status.links.len() > 1 {
        let totals = &status.totals;
        table.row(vec![
            "all".into(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            String::new(),
            rate(totals.rx_bps),
            rate(totals.tx_bps),
            capacity(totals.capacity_down_bps),
            capacity(totals.capacity_up_bps),
            amount(totals.bytes_rx),
            amount(totals.bytes_tx),
        ]);
    }
    table
}

fn link_row(link: &LinkStatus) -> Vec<String> {
    vec![
        link.name.clone(),
        link.kind.clone(),
        link.priority.clone(),
        link.state.clone(),
        link.rtt_ms.map_or_else(|| "-".into(), |rtt| format!("{rtt:.1} ms")),
        format!("{:.1} %", link.loss * 100.0),
        rate(link.rx_bps),
        rate(link.tx_bps),
        capacity(link.capacity_down_bps),
        capacity(link.capacity_up_bps),
        amount(link.bytes_rx),
        amount(link.bytes_tx),
    ]
}

fn capacity(bps: u64) -> String {
    if bps == 0 { "-".into() } else { rate(bps) }
}

#[cfg(test)]
mod tests {
    use bondwire_api::Totals;

    use super::*;

    #[test]
    fn a_tired_person_can_read_it() {
        let link = |name: &str, state: &str, rtt| LinkStatus {
            name: name.into(),
            kind: "ethernet".into(),
            priority: "always".into(),
            state: state.into(),
            rtt_ms: rtt,
            jitter_ms: None,
            loss: 0.003,
            spurious: 0.0,
            tx_bps: 1_000_000,
            rx_bps: 38_500_000,
            capacity_up_bps: 0,
            capacity_down_bps: 40_000_000,
            bytes_tx: 1_000_000,
            bytes_rx: 48_000_000,
            in_flight_bytes: 0,
            mtu: 1500,
            remote: None,
            share: None,
            sockets: None,
        };
        let status = Status {
            role: Role::Client,
            mode: Some(Mode::Speed),
            state: "connected".into(),
            reason: None,
            server: Some("192.0.2.1:4433".into()),
            pid: 1,
            version: "0".into(),
            uptime_ms: 61_000,
            device: Some("bondwire0".into()),
            inner_v4: Some("10.99.0.2".into()),
            inner_v6: None,
            mtu: 1440,
            links: vec![link("wan0", "active", Some(20.04)), link("wan1", "down", None)],
            flows: 3,
            totals: Totals { rx_bps: 77_000_000, ..Totals::default() },
        };
        assert_eq!(
            render(&status),
            "\
state:   connected, server 192.0.2.1:4433, up for 1 min 1 s
mode:    speed
tunnel:  bondwire0  10.99.0.2  mtu 1440
flows:   3

LINK  KIND      PRIORITY  STATE       RTT   LOSS         DOWN          UP  CAPACITY DOWN  CAPACITY UP  RECEIVED    SENT
wan0  ethernet  always    active  20.0 ms  0.3 %  38.5 Mbit/s  1.0 Mbit/s    40.0 Mbit/s            -   48.0 MB  1.0 MB
wan1  ethernet  always    down          -  0.3 %  38.5 Mbit/s  1.0 Mbit/s    40.0 Mbit/s            -   48.0 MB  1.0 MB
all                                               77.0 Mbit/s    0 kbit/s              -            -      0 kB    0 kB
"
        );
    }

    #[test]
    fn a_balancer_has_shares_and_no_server() {
        let link = LinkStatus {
            name: "wan0".into(),
            kind: "ethernet".into(),
            priority: "always".into(),
            state: "active".into(),
            rtt_ms: Some(20.04),
            jitter_ms: None,
            loss: 0.0,
            spurious: 0.0,
            tx_bps: 0,
            rx_bps: 0,
            capacity_up_bps: 0,
            capacity_down_bps: 0,
            bytes_tx: 0,
            bytes_rx: 0,
            in_flight_bytes: 0,
            mtu: 1500,
            remote: None,
            share: Some(0.714),
            sockets: Some(12),
        };
        let status = Status {
            role: Role::Client,
            mode: Some(Mode::Balance),
            state: "balancing".into(),
            reason: None,
            server: Some("127.0.0.1:1080".into()),
            pid: 1,
            version: "0".into(),
            uptime_ms: 61_000,
            device: None,
            inner_v4: None,
            inner_v6: None,
            mtu: 0,
            links: vec![link],
            flows: 12,
            totals: Totals::default(),
        };
        let text = render(&status);
        assert!(text.starts_with("state:   balancing, proxy on 127.0.0.1:1080, up for 1 min 1 s\nmode:    balance\nsockets: 12\n"), "{text}");
        assert!(text.contains("SHARE") && text.contains("71 %"), "{text}");
    }
}
