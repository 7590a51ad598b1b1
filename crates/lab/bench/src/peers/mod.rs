//! Rivals on the same links. Each is started on a stand and gives a [`Way`] for traffic.

mod glorytun;
mod mlvpn;
mod mptcp;
mod mqvpn;
mod tunnel;
mod wireguard;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;

use crate::fixture::{Process, seconds};
use crate::measure::words;
use crate::{BenchError, Figure, Stand, Unit, Way};

/// A rival that can be measured here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The kernel's Multipath TCP, without a tunnel or encryption.
    Mptcp,
    /// wireguard-go over the best link.
    WireguardGo,
    /// mqvpn over all links, with its TCP lane.
    Mqvpn,
    /// glorytun over all links, which it is told the true rates of.
    Glorytun,
    /// MLVPN over all links, which it is told the true rates of.
    Mlvpn,
}

impl Peer {
    /// All of them, in the order in which they are named.
    pub const ALL: [Self; 5] = [Self::Mptcp, Self::WireguardGo, Self::Mqvpn, Self::Glorytun, Self::Mlvpn];

    /// What it is asked for by, which is also the name of its program if it has one.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mptcp => "mptcp",
            Self::WireguardGo => "wireguard-go",
            Self::Mqvpn => "mqvpn",
            Self::Glorytun => "glorytun",
            Self::Mlvpn => "mlvpn",
        }
    }

    /// All names, as a person reads them.
    pub fn names() -> String {
        Self::ALL.map(Self::name).join(", ")
    }

    /// The rival of this name; none if there is no such rival.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|peer| peer.name() == name)
    }

    /// Whether it is here: its programs on PATH, its part of the kernel.
    ///
    /// # Errors
    /// A line that says why it is left out.
    pub fn check(self) -> Result<(), String> {
        let name = self.name();
        match self {
            Self::Mptcp if !fs::exists("/proc/sys/net/mptcp/enabled").unwrap_or(false) => {
                Err(format!("{name} is left out: this kernel has no MPTCP"))
            }
            Self::Mptcp => needs(name, &["ip"]),
            Self::WireguardGo => needs(name, &[name, "wg", "ip"]),
            Self::Mqvpn => needs(name, &[name, "openssl", "ip"]),
            Self::Glorytun | Self::Mlvpn => needs(name, &[name, "ip"]),
        }
    }

    /// What its program says of its version, in the first line. The kernel's is told anyway, and MLVPN tells terminals only.
    pub fn version(self) -> Option<String> {
        let word = match self {
            Self::Mptcp | Self::Mlvpn => return None,
            Self::Glorytun => "version",
            Self::WireguardGo | Self::Mqvpn => "--version",
        };
        let output = Command::new(self.name()).arg(word).stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().next()?.trim();
        let version = line.strip_prefix(self.name()).unwrap_or(line).trim();
        (!version.is_empty()).then(|| version.to_owned())
    }

    /// What it is called in a table.
    pub fn label(self) -> &'static str {
        match self {
            Self::Mptcp => "kernel MPTCP",
            Self::WireguardGo => "wireguard-go on the best link",
            Self::Mlvpn => "MLVPN",
            Self::Mqvpn | Self::Glorytun => self.name(),
        }
    }

    /// Whether it uses several links, so that it can survive the death of one.
    pub fn is_bond(self) -> bool {
        self != Self::WireguardGo
    }

    /// Starts it on a stand without a bond. It ends when the way is dropped.
    ///
    /// # Errors
    /// If its program or the system refuses.
    fn start(self, stand: &Stand, direction: Direction) -> Result<Way, BenchError> {
        match self {
            Self::Mptcp => mptcp::start(stand, direction),
            Self::WireguardGo => wireguard::start(stand, direction),
            Self::Mqvpn => mqvpn::start(stand),
            Self::Glorytun => glorytun::start(stand),
            Self::Mlvpn => mlvpn::start(stand),
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
        // A tool that hangs is a panic of the fixture, which must not cost the others their figures either.
        let measured =
            catch_unwind(AssertUnwindSafe(|| peer.start(stand, direction).and_then(|way| job(peer, &way))));
        match measured.unwrap_or_else(|panic| Err(BenchError::GaveUp(words(panic.as_ref())))) {
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
        assert_eq!(Peer::named("moonvpn"), None);
    }

    #[test]
    fn every_peer_is_found_by_its_name() {
        for peer in Peer::ALL {
            assert_eq!(Peer::named(peer.name()), Some(peer));
        }
    }
}
