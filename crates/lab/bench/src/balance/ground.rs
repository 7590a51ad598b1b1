use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use bondwire_netns::Node;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::gettid;

use super::load::{self, Services, Target};
use crate::fixture::{Process, Side, seconds};
use crate::{BenchError, Settings};

/// The client's links.
pub(super) const LINKS: [&str; 2] = ["wan0", "wan1"];
/// The web host's only address, reached over either link.
const WEB: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);
/// Where bondwire's proxy listens.
pub(super) const PROXY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 1080);
/// Files that this process needs for the row `memory`, and each proxy.
const FILES: u64 = 65_536;

/// Two machines, two unshaped cables between them, and bondwire on one of them.
pub(super) struct Ground {
    // In the order in which they have to end.
    side: Side,
    /// The machine with the links.
    pub(super) client: Node,
    _services: Services,
    /// The web host.
    _web: Node,
}

/// The address of a link's end at the client.
pub(super) fn source(link: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 81, link as u8, 2)
}

fn gateway(link: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 81, link as u8, 1)
}

impl Ground {
    /// Builds it; nothing balances yet.
    ///
    /// # Errors
    /// If the system refuses namespaces, or `ip` cables.
    pub(super) fn build(settings: &Settings) -> Result<Self, BenchError> {
        raise_limit();
        let (client, web) = (Node::new("client")?, Node::new("web")?);
        let thread = web.run(gettid).as_raw_nonzero();
        for (number, name) in LINKS.iter().enumerate() {
            ip(&client, &format!("link add {name} type veth peer name {name} netns {thread}"))?;
            for (node, address) in [(&client, source(number)), (&web, gateway(number))] {
                ip(node, &format!("address add {address}/24 dev {name}"))?;
                ip(node, &format!("link set {name} up"))?;
            }
            let (via, metric) = (gateway(number), 100 + number);
            ip(&client, &format!("route add default via {via} dev {name} metric {metric}"))?;
        }
        ip(&web, &format!("address add {WEB}/32 dev lo"))?;
        for node in [&client, &web] {
            for (key, value) in [
                ("net.ipv4.conf.all.rp_filter", "2"),
                ("net.ipv4.ip_local_port_range", "10000 64999"),
                // Ports are used again while the last connection's ghost is still there.
                ("net.ipv4.tcp_tw_reuse", "1"),
            ] {
                node.sysctl(key, value)?;
            }
        }
        let services = load::serve(&web, &settings.congestion)?;
        let side = Side::new(&client, &settings.program, settings.folder.join("balance"));
        configure(&side)?;
        Ok(Self { side, client, _services: services, _web: web })
    }

    /// Starts `bondwire balance` over both links; the number of its process.
    ///
    /// # Panics
    /// If it does not become ready; [`super::run`] takes that for a failed run.
    pub(super) fn balance(&mut self, args: &[&str]) -> u32 {
        let mut all = vec!["balance"];
        LINKS.iter().for_each(|link| all.extend(["--link", link]));
        all.extend(args);
        self.side.start(&all).id()
    }

    /// Ends it.
    pub(super) fn stop(&mut self) {
        self.side.stop();
    }

    /// Memory that it holds, in bytes.
    pub(super) fn memory(&mut self) -> u64 {
        self.side.process().memory()
    }

    /// A service of the web host.
    pub(super) fn target(&self, port: u16) -> Target {
        Target { address: SocketAddr::from((WEB, port)), proxy: None, interface: None }
    }
}

/// Probes that the web host answers.
fn configure(side: &Side) -> Result<(), BenchError> {
    let file = side.path("config/client.toml");
    let write = || {
        fs::create_dir_all(side.path("config"))?;
        let port = load::SHORT;
        fs::write(&file, format!("[balance]\nprobes = [\"ping {WEB}\", \"tcp {WEB}:{port}\"]\n"))
    };
    write().map_err(|source| BenchError::File { what: format!("write {}", file.display()), source })
}

fn ip(node: &Node, line: &str) -> Result<(), BenchError> {
    let mut command = Command::new("ip");
    command.args(line.split(' '));
    let ended = Process::start(node, command).wait_end(seconds(10));
    if ended.code == Some(0) {
        return Ok(());
    }
    Err(BenchError::Tool { command: format!("ip {line}"), why: ended.stderr.trim().to_owned() })
}

/// Connections of which this process may hold both ends.
pub(super) fn connections() -> usize {
    const OTHERS: u64 = 300;
    let files = getrlimit(Resource::Nofile).current.unwrap_or(FILES);
    usize::try_from(files.saturating_sub(OTHERS) / 2).unwrap_or(usize::MAX)
}

/// As many open files as this process may have, for what it starts too. Root may raise the bound itself.
fn raise_limit() {
    let now = getrlimit(Resource::Nofile);
    let most = now.maximum.map_or(FILES, |most| most.max(FILES));
    let wanted = Rlimit { current: Some(most), maximum: Some(most) };
    if setrlimit(Resource::Nofile, wanted).is_err() {
        // What is granted then decides how many connections the row `memory` has; it says so.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    }
}
