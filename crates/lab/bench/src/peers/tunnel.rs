//! What the adapters of rival tunnels have in common: addresses, routes and files, and how programs are started, watched
//! and ended.

use std::fs::{self, Permissions};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;
use bondwire_scenario::Link;

use super::call;
use crate::fixture::{Process, ms, seconds};
use crate::stand::rate;
use crate::{BenchError, Cleanup, Stand, Way};

/// Inside the lab's inner network, which the core routes to the server; far from the addresses that a bond's client gets.
const CLIENT_ADDRESS: &str = "10.99.0.201";
const SERVER_ADDRESS: &str = "10.99.0.200";
/// How long a tunnel may take until all its paths carry data: on `geo` a handshake of three round trips takes 2 s.
const READY: Duration = seconds(20);
/// How often it is asked whether they do.
const ASKED: Duration = ms(50);
/// The first of the client's routing tables for single links, and the place of the rule that leads to it.
const TABLE: usize = 7100;
/// How many lines of a program's log an error may have.
const LOG: usize = 4;

/// A rival tunnel that is being set up. Dropped before it is a way, it is undone.
#[derive(Debug)]
pub(super) struct Tunnel<'a> {
    stand: &'a Stand,
    cleanup: Cleanup,
}

/// A link as a rival is told of it.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// The client's interface.
    pub(super) interface: String,
    /// The client's address on it.
    pub(super) address: Ipv4Addr,
    gateway: Ipv4Addr,
    link: Link,
}

impl Path {
    /// The link's rate in bytes per second; 0 for one without limit.
    pub(super) fn bytes_per_second(&self, direction: Direction) -> u64 {
        (rate(&self.link, direction) / 8.0) as u64
    }
}

impl<'a> Tunnel<'a> {
    /// One without any program yet.
    pub(super) fn new(stand: &'a Stand) -> Self {
        Self { stand, cleanup: Cleanup::default() }
    }

    /// The machine of its client.
    pub(super) fn client(&self) -> &'a Node {
        self.stand.lab().client()
    }

    /// The machine of its server.
    pub(super) fn server(&self) -> &'a Node {
        self.stand.lab().server()
    }

    /// The server's public address.
    pub(super) fn endpoint(&self) -> String {
        self.stand.lab().server_addr_v4().to_string()
    }

    /// All links that carry IPv4, in the scenario's order.
    ///
    /// # Errors
    /// If there are none.
    pub(super) fn paths(&self) -> Result<Vec<Path>, BenchError> {
        let mut paths = Vec::new();
        for link in &self.stand.scenario().links {
            let addresses = self.stand.lab().link(&link.name)?;
            if let (Some(address), Some(gateway)) = (addresses.client_v4, addresses.gateway_v4) {
                paths.push(Path { interface: link.name.clone(), address, gateway, link: link.clone() });
            }
        }
        if paths.is_empty() {
            return Err(BenchError::Scenario("no link carries IPv4".to_owned()));
        }
        Ok(paths)
    }

    /// The link with the highest rate in one direction.
    ///
    /// # Errors
    /// If it carries no IPv4.
    pub(super) fn best(&self, direction: Direction) -> Result<Path, BenchError> {
        let best = self.stand.best(direction).name;
        let path = self.paths()?.into_iter().find(|path| path.interface == best);
        path.ok_or_else(|| BenchError::Scenario("no IPv4 on the best link".to_owned()))
    }

    /// Where a file of this name is, or will be.
    pub(super) fn file(&self, name: &str) -> String {
        self.stand.settings().folder.join(name).display().to_string()
    }

    /// Writes a file that nobody else may read, and returns where it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<String, BenchError> {
        let file = self.file(name);
        let written =
            fs::write(&file, text).and_then(|()| fs::set_permissions(&file, Permissions::from_mode(0o600)));
        written.map_err(|source| BenchError::File { what: format!("write {file}"), source })?;
        Ok(file)
    }

    /// What comes from a link's address leaves by that link: a table and a rule for each. Programs ask for it that bind
    /// to addresses and not to interfaces.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub(super) fn route_by_source(&mut self) -> Result<(), BenchError> {
        let client = self.client();
        for (position, path) in self.paths()?.into_iter().enumerate() {
            let table = (TABLE + position).to_string();
            let (gateway, address) = (path.gateway.to_string(), path.address.to_string());
            self.undo(client, &["ip", "rule", "del", "pref", &table]);
            self.undo(client, &["ip", "route", "flush", "table", &table]);
            let way = ["via", &gateway, "dev", &path.interface];
            call(client, &[&["ip", "route", "replace", "default"][..], &way, &["table", &table]].concat())?;
            call(client, &["ip", "rule", "add", "pref", &table, "from", &address, "lookup", &table])?;
        }
        Ok(())
    }

    /// What goes to the server leaves by one link.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub(super) fn route_by(&mut self, path: &Path) -> Result<(), BenchError> {
        let (outside, gateway) = (format!("{}/32", self.endpoint()), path.gateway.to_string());
        self.undo(self.client(), &["ip", "route", "del", &outside, "metric", "1"]);
        let route = [&outside, "via", &gateway, "dev", &path.interface, "metric", "1"];
        call(self.client(), &[&["ip", "route", "replace"][..], &route].concat())?;
        Ok(())
    }

    /// Gives the ends of a tunnel addresses, routes, and an MTU, unless the program has given them one.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub(super) fn address(&self, client: &str, server: &str, mtu: Option<&str>) -> Result<(), BenchError> {
        let ends = [
            (self.client(), client, CLIENT_ADDRESS, SERVER_ADDRESS),
            (self.server(), server, SERVER_ADDRESS, CLIENT_ADDRESS),
        ];
        for (node, device, own, other) in ends {
            call(node, &["ip", "address", "replace", &format!("{own}/32"), "dev", device])?;
            if let Some(mtu) = mtu {
                call(node, &["ip", "link", "set", device, "mtu", mtu])?;
            }
            call(node, &["ip", "link", "set", device, "up"])?;
            call(node, &["ip", "route", "replace", &format!("{other}/32"), "dev", device])?;
        }
        self.open(client)
    }

    /// Lets flows that are bound to the client's end go anywhere. All others keep their routes.
    ///
    /// # Errors
    /// If `ip` refuses.
    pub(super) fn open(&self, device: &str) -> Result<(), BenchError> {
        call(self.client(), &["ip", "route", "replace", "default", "dev", device, "metric", "9000"])?;
        Ok(())
    }

    /// Has a command run in the end, when its programs have ended.
    pub(super) fn undo(&mut self, node: &Node, words: &[&str]) {
        self.cleanup.commands.push((node.clone(), words.iter().map(|word| (*word).to_owned()).collect()));
    }

    /// Starts a program that runs until the end, and waits until something is so, which is told what it has logged.
    ///
    /// # Errors
    /// If the program ends, or it is not so in time; with the last lines of its log.
    pub(super) fn start(
        &mut self,
        node: &Node,
        command: Command,
        is_ready: impl Fn(&str) -> bool,
    ) -> Result<(), BenchError> {
        let words = format!("{command:?}").replace('"', "");
        self.cleanup.processes.push(Process::start(node, command));
        let process = self.cleanup.processes.last_mut().expect("it was pushed just now");
        let fault = until(|| match is_ready(&process.log()) {
            false if !process.is_running() => Err("it ended"),
            so => Ok(so),
        });
        fault.map_err(|fault| {
            // Its last words may still be on their way.
            thread::sleep(ASKED);
            let why = format!("{fault}: {}", last_lines(&process.log()));
            BenchError::Tool { command: words, why }
        })
    }

    /// Waits until its programs have brought something about.
    ///
    /// # Errors
    /// If it is not so in time; with the last lines of their logs.
    pub(super) fn wait(&self, what: &str, is_so: impl Fn() -> bool) -> Result<(), BenchError> {
        until(|| Ok(is_so())).map_err(|fault| {
            let logs = self.cleanup.processes.iter().map(|process| last_lines(&process.log()));
            BenchError::GaveUp(format!("{what}: {fault}: {}", logs.collect::<Vec<_>>().join(" / ")))
        })
    }

    /// The way through it: by the client's end.
    pub(super) fn into_way(self, device: &str) -> Way {
        Way { interface: Some(device.to_owned()), multipath: None, cleanup: self.cleanup }
    }
}

/// Asks until it is so, or cannot become so any more; then why.
fn until(mut is_so: impl FnMut() -> Result<bool, &'static str>) -> Result<(), &'static str> {
    let started = Instant::now();
    while !is_so()? {
        if started.elapsed() > READY {
            return Err("not in time");
        }
        thread::sleep(ASKED);
    }
    Ok(())
}

/// The end of a log, in one line.
fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG)..].join(" | ")
}
