use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bondwire_netns::traffic::{Bulk, BulkOptions, BulkReport, BulkServer, Direction, Probe, ProbeOptions};
use bondwire_netns::{Host, Lab, LabOptions, Node};
use bondwire_scenario::Scenario;
use tempfile::TempDir;

use super::{Side, seconds};

/// Where the server listens.
pub(crate) const PORT: u16 = 4433;
const NETWORK: &str = "10.99.0.0/24";
const NETWORK6: &str = "fd99::/64";

/// What a bond is made like.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The mode that the client starts in; default `speed`.
    pub(crate) mode: &'static str,
    /// Whether the client finds the server at its IPv6 address; default no.
    pub(crate) outside_v6: bool,
    /// Whether there is IPv6 inside; default no.
    pub(crate) inside_v6: bool,
    /// Whether the server translates addresses; default no, as the lab's core routes the inner network.
    pub(crate) nat: bool,
    /// What the lab is made like.
    pub(crate) lab: LabOptions,
    /// The program under test; default the one that was built with the tests.
    pub(crate) program: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: "speed",
            outside_v6: false,
            inside_v6: false,
            nat: false,
            lab: LabOptions::default(),
            program: option_env!("CARGO_BIN_EXE_bondwire").unwrap_or("bondwire").into(),
        }
    }
}

/// A lab, a server and a client in it that has joined, and a web host that gives and takes whatever is asked for.
#[derive(Debug)]
pub(crate) struct Bond {
    // In the order in which they have to end.
    pub(crate) client: Side,
    pub(crate) server: Side,
    pub(crate) web: BulkServer,
    pub(crate) web6: BulkServer,
    pub(crate) lab: Lab,
    pub(crate) scenario: Scenario,
    pub(crate) options: Options,
    folder: TempDir,
}

impl Bond {
    /// Builds a lab, makes a server, and has a client join it. Nothing runs yet.
    pub(crate) fn build(scenario: Scenario, options: Options) -> Self {
        let lab = Lab::build(&scenario, options.lab.clone()).expect("a lab");
        let folder = tempfile::Builder::new().prefix("bondwire-test-").tempdir().expect("a folder");
        let side = |node: &Node, name: &str| Side::new(node, &options.program, folder.path().join(name));
        let (client, server) = (side(lab.client(), "client"), side(lab.server(), "server"));
        let web = |address: IpAddr| {
            BulkServer::start(lab.web(), SocketAddr::new(address, 8080)).expect("a web host")
        };
        let (web, web6) = (web(lab.web_addr_v4().into()), web(lab.web_addr_v6().into()));
        let bond = Self { client, server, web, web6, lab, scenario, options, folder };
        bond.init_server(&bond.server);
        bond.join(&bond.client, &bond.invite("client"));
        bond
    }

    /// The same for a scenario's text.
    pub(crate) fn of(scenario: &str, options: Options) -> Self {
        Self::build(Scenario::parse(scenario).expect("a scenario"), options)
    }

    /// The same for a profile that comes with bondwire.
    pub(crate) fn profile(name: &str, options: Options) -> Self {
        Self::build(Scenario::builtin(name).expect("a profile"), options)
    }

    /// Starts both sides, and waits until all links carry data.
    pub(crate) fn started(mut self) -> Self {
        self.start_server();
        self.start_client();
        self.client.wait_active(self.scenario.links.len());
        self
    }

    /// `server init` in a side's folders.
    pub(crate) fn init_server(&self, side: &Side) {
        let endpoint = SocketAddr::new(self.server_address(), PORT).to_string();
        let mut args = vec!["server", "init", "--endpoint", &endpoint, "--network", NETWORK];
        let mut v6 = String::new();
        if self.options.inside_v6 {
            args.extend(["--network6", NETWORK6]);
            v6 = format!("v6 = \"{NETWORK6}\"");
        }
        side.call(&args).assert_done();
        let nat = self.options.nat;
        side.configure(
            "server.toml",
            &format!("endpoints = [\"{endpoint}\"]\nnat = {nat}\n[network]\nv4 = \"{NETWORK}\"\n{v6}"),
        );
    }

    /// Where clients find the server.
    pub(crate) fn server_address(&self) -> IpAddr {
        if self.options.outside_v6 {
            self.lab.server_addr_v6().into()
        } else {
            self.lab.server_addr_v4().into()
        }
    }

    /// `server invite`.
    pub(crate) fn invite(&self, name: &str) -> String {
        self.server.call(&["server", "invite", name]).assert_done().stdout.trim().to_owned()
    }

    /// `join`.
    pub(crate) fn join(&self, side: &Side, invite: &str) {
        side.call(&["join", invite]).assert_done();
        side.configure("client.toml", "");
    }

    /// `server run`.
    pub(crate) fn start_server(&mut self) {
        self.server.start(&["server", "run"]);
    }

    /// `up` with all links.
    pub(crate) fn start_client(&mut self) {
        let args = self.up();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        self.client.start(&args);
    }

    /// The words of `up` with all links.
    pub(crate) fn up(&self) -> Vec<String> {
        let mut args: Vec<String> =
            ["up", "--wait", "15", "--mode", self.options.mode].map(str::to_owned).into();
        for link in &self.scenario.links {
            args.extend(["--link".to_owned(), link.name.clone()]);
        }
        args
    }

    /// Another machine, with one link that is a cable, and a bondwire on it that has joined nothing.
    pub(crate) fn add_side(&self, name: &str) -> (Host, Side) {
        let host = self.lab.add_host(name).expect("a host");
        let side = Side::new(&host.node, &self.options.program, self.folder.path().join(name));
        (host, side)
    }

    /// Another bondwire on the same machine as the client.
    pub(crate) fn add_side_at_client(&self, name: &str) -> Side {
        Side::new(self.lab.client(), &self.options.program, self.folder.path().join(name))
    }

    /// A transfer of so many bytes between the client's machine and the web host, which is verified.
    pub(crate) fn transfer(&self, direction: Direction, bytes: u64) -> Bulk {
        let options =
            BulkOptions { direction, bytes: Some(bytes), limit: seconds(60), ..BulkOptions::default() };
        Bulk::start(self.lab.client(), &self.web, options).expect("a transfer")
    }

    /// A UDP flow of 200 packets a second between the client's machine and the web host.
    pub(crate) fn probe(&self, direction: Direction, duration: Duration) -> Probe {
        let options = ProbeOptions { direction, duration, ..ProbeOptions::default() };
        let address = SocketAddr::new(self.lab.web_addr_v4().into(), 0);
        Probe::start(self.lab.client(), self.lab.web(), address, options).expect("a probe")
    }

    /// Whether the machine was quick enough for figures to mean something; says so if not.
    pub(crate) fn kept_up(&self) -> bool {
        let report = self.lab.emulator().report().expect("the emulator runs");
        let (late, dropped) = (report.lateness_us.p99, report.overload_drops());
        println!("emulator: p99 {late} us late, {dropped} packets dropped by this machine");
        if !report.kept_up() {
            println!("this machine was overloaded: the figures of this run mean little");
        }
        report.kept_up()
    }
}

/// All bytes have arrived, and they are the right ones. The time of the last one, from the start.
#[track_caller]
pub(crate) fn assert_whole(report: &BulkReport, bytes: u64) -> Duration {
    assert_eq!(report.error, None);
    assert!(report.complete && report.intact, "{} of {bytes} bytes", report.timeline.total().get());
    assert_eq!(report.hash, Some(BulkReport::expected_hash(BulkOptions::default().seed, bytes)));
    report.timeline.last().expect("bytes arrived").since(report.timeline.start())
}
