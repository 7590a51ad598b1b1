//! `bondwire sockets`

use std::io::IsTerminal;
use std::time::Duration;

use bondwire_api::{ControlClient, Fault, Mode, SocketEntry, Sockets};

use crate::args::Global;
use crate::output::{self, amount, rate};
use crate::table::Table;

/// The time between two pictures of `--watch`.
const STEP: Duration = Duration::from_secs(1);
/// Sockets that a picture of `--watch` shows on a terminal: more would scroll away.
const PICTURE: usize = 40;

/// Lists the sockets that leave this machine: whose each is, where it goes, its stage and its link, what it carries.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(crate) struct Args {
    /// Show it again every second, until Ctrl-C; with --json one object a line
    #[arg(long)]
    watch: bool,
}

const NOTES: &str = "\
In mode balance each socket has one link, and WHY is what chose it. In the other modes the bond
spreads a socket's packets over all links; `bondwire streams` shows which link a call or a game takes.
The kernel counts no bytes of UDP sockets, so they are shown for flows through the proxy only.";

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let client = ControlClient::new(&global.socket);
    let clear = args.watch && !global.json && std::io::stdout().is_terminal();
    loop {
        let mut sockets = client.sockets()?;
        if clear {
            output::say("\x1b[H\x1b[2J")?;
            shorten(&mut sockets);
        }
        let heard = output::tell(global, &sockets, render)?;
        if !args.watch || !heard {
            return Ok(());
        }
        std::thread::sleep(STEP);
    }
}

fn shorten(sockets: &mut Sockets) {
    sockets.left_out += sockets.sockets.len().saturating_sub(PICTURE) as u64;
    sockets.sockets.truncate(PICTURE);
}

fn render(sockets: &Sockets) -> String {
    if sockets.sockets.is_empty() {
        return "no sockets leave this machine over a link at present\n".to_owned();
    }
    let headings = [
        "PROCESS", "REMOTE", "TYPE", "STAGE", "LINK", "WHY", "DOWN", "UP", "RECEIVED", "SENT", "RTT", "AGAIN",
    ];
    let mut table = Table::new(&headings, &[6, 7, 8, 9, 10, 11]);
    for socket in &sockets.sockets {
        table.row(row(socket, sockets.mode));
    }
    let mut text = table.render();
    if sockets.left_out > 0 {
        text.push_str(&format!("and {} more\n", sockets.left_out));
    }
    text
}

fn row(socket: &SocketEntry, mode: Option<Mode>) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    // Counted by nobody, or nothing yet: both are no figure worth reading.
    let some = |bytes: u64, text: String| if bytes == 0 { "-".to_owned() } else { text };
    let process = match (&socket.process, socket.pid) {
        (Some(name), Some(pid)) => format!("{name} ({pid})"),
        (Some(name), None) => name.clone(),
        _ if socket.way == "lan" => socket.local.clone(),
        _ => "-".to_owned(),
    };
    let remote = match &socket.name {
        Some(name) => format!("{name} ({})", socket.remote),
        None => socket.remote.clone(),
    };
    let spread = matches!(mode, Some(mode) if mode != Mode::Balance);
    let link = socket.link.clone().or_else(|| spread.then(|| "all".to_owned()));
    vec![
        process,
        remote,
        socket.protocol.clone(),
        socket.stage.clone(),
        or_dash(link),
        or_dash(socket.reason.clone()),
        some(socket.rx_bps, rate(socket.rx_bps)),
        some(socket.tx_bps, rate(socket.tx_bps)),
        some(socket.bytes_rx, amount(socket.bytes_rx)),
        some(socket.bytes_tx, amount(socket.bytes_tx)),
        or_dash(socket.rtt_ms.map(|rtt| format!("{rtt:.1} ms"))),
        or_dash(socket.retransmits.map(|count| count.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> SocketEntry {
        SocketEntry {
            protocol: "tcp".into(),
            stage: "transferring".into(),
            process: Some("curl".into()),
            pid: Some(4711),
            way: "transparent".into(),
            local: "192.0.2.2:50000".into(),
            remote: "203.0.113.5:443".into(),
            link: Some("wan0".into()),
            reason: Some("load".into()),
            bytes_rx: 48_000_000,
            bytes_tx: 90_000,
            rx_bps: 38_500_000,
            rtt_ms: Some(20.04),
            retransmits: Some(2),
            ..SocketEntry::default()
        }
    }

    #[test]
    fn a_tired_person_can_read_it() {
        let lan = SocketEntry {
            protocol: "udp".into(),
            stage: "active".into(),
            way: "lan".into(),
            local: "192.168.1.7:6000".into(),
            remote: "203.0.113.9:3478".into(),
            link: Some("wan1".into()),
            ..SocketEntry::default()
        };
        let sockets = Sockets { mode: Some(Mode::Balance), sockets: vec![entry(), lan], left_out: 3 };
        assert_eq!(
            render(&sockets),
            "\
PROCESS           REMOTE            TYPE  STAGE         LINK  WHY          DOWN  UP  RECEIVED   SENT      RTT  AGAIN
curl (4711)       203.0.113.5:443   tcp   transferring  wan0  load  38.5 Mbit/s   -   48.0 MB  90 kB  20.0 ms      2
192.168.1.7:6000  203.0.113.9:3478  udp   active        wan1  -               -   -         -      -        -      -
and 3 more
"
        );
    }

    #[test]
    fn a_bond_spreads_a_socket_over_all_links() {
        let socket = SocketEntry { link: None, name: Some("example.org".into()), ..entry() };
        let text = render(&Sockets { mode: Some(Mode::Speed), sockets: vec![socket], left_out: 0 });
        assert!(text.contains(" all ") && text.contains("example.org (203.0.113.5:443)"), "{text}");
        assert!(render(&Sockets::default()).contains("no sockets"));
    }

    #[test]
    fn a_picture_fits_on_a_screen() {
        let mut sockets = Sockets { mode: None, sockets: vec![entry(); PICTURE + 2], left_out: 1 };
        shorten(&mut sockets);
        assert_eq!((sockets.sockets.len(), sockets.left_out), (PICTURE, 3));
    }
}
