//! Rivals on the same links. Each is started on a stand and gives a [`Way`] for traffic.

mod mptcp;
mod wireguard;

use std::fs;
use std::process::Command;

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;

use crate::fixture::{Process, seconds};
use crate::{BenchError, Figure, Stand, Unit, Way};

/// A rival that can be measured here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The kernel's Multipath TCP, without a tunnel or encryption.
    Mptcp,
    /// wireguard-go over the best link.
    WireguardGo,
}

impl Peer {
    /// All names that may be asked for, whether there is a way to measure them or not.
    pub const NAMES: [&str; 5] = ["mptcp", "wireguard-go", "mqvpn", "glorytun", "mlvpn"];

    /// The rival of this name, if it is here.
    ///
    /// # Errors
    /// A line that says why it is left out.
    pub fn find(name: &str) -> Result<Self, String> {
        match name {
            "mptcp" if fs::exists("/proc/sys/net/mptcp/enabled").unwrap_or(false) => {
                needs(name, &["ip"]).map(|()| Self::Mptcp)
            }
            "mptcp" => Err("mptcp is left out: this kernel has no MPTCP".to_owned()),
            "wireguard-go" => needs(name, &["wireguard-go", "wg", "ip"]).map(|()| Self::WireguardGo),
            "mqvpn" | "glorytun" | "mlvpn" => {
                needs(name, &[name])?;
                Err(format!("{name} is left out: it is installed, but this benchmark cannot drive it yet"))
            }
            _ => Err(format!("there is no peer `{name}`; choose among {}", Self::NAMES.join(", "))),
        }
    }

    /// What it is called in a table.
    pub fn label(self) -> &'static str {
        match self {
            Self::Mptcp => "kernel MPTCP",
            Self::WireguardGo => "wireguard-go on the best link",
        }
    }

    /// Whether it uses several links, so that it can survive the death of one.
    pub fn is_bond(self) -> bool {
        self == Self::Mptcp
    }

    /// Starts it on a stand without a bond. It ends when the way is dropped.
    ///
    /// # Errors
    /// If its program or the system refuses.
    fn start(self, stand: &Stand, direction: Direction) -> Result<Way, BenchError> {
        match self {
            Self::Mptcp => mptcp::start(stand, direction),
            Self::WireguardGo => wireguard::start(stand, direction),
        }
    }
}

/// The figures of all rivals that `is_meant`. One that fails has a line that says so, and why is told on stderr: it does
/// not cost the others their figures.
pub(crate) fn measure(
    stand: &Stand,
    direction: Direction,
    is_meant: impl Fn(Peer) -> bool,
    job: impl Fn(Peer, &Way) -> Result<Vec<Figure>, BenchError>,
) -> Vec<Figure> {
    let mut figures = Vec::new();
    for peer in stand.settings().peers.iter().copied().filter(|peer| is_meant(*peer)) {
        match peer.start(stand, direction).and_then(|way| job(peer, &way)) {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                eprintln!("  {}: {error}", peer.label());
                figures.push(Figure::absent(format!("{}: failed", peer.label()), Unit::Ratio));
            }
        }
    }
    figures
}

/// Whether programs are on PATH.
pub(crate) fn needs(name: &str, programs: &[&str]) -> Result<(), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there =
        |program: &&&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    match programs.iter().find(|program| !is_there(program)) {
        None => Ok(()),
        Some(missing) => Err(format!("{name} is left out: `{missing}` is not installed (not found on PATH)")),
    }
}

/// Runs a command that ends by itself on a machine, and returns what it printed.
fn call(node: &Node, words: &[&str]) -> Result<String, BenchError> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let ended = Process::start(node, command).wait_end(seconds(10));
    if ended.code == Some(0) {
        return Ok(ended.stdout.trim().to_owned());
    }
    Err(BenchError::Tool { command: words.join(" "), why: ended.stderr.trim().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named() {
        assert!(needs("x", &["sh"]).is_ok());
        let why = needs("moonvpn", &["sh", "moonvpn"]).expect_err("no such program");
        assert_eq!(why, "moonvpn is left out: `moonvpn` is not installed (not found on PATH)");
        assert!(Peer::find("moonvpn").expect_err("no such peer").contains("choose among"));
    }
}
