//! A lab with two links, a web host that sees where connections come from, and a bondwire that balances.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bondwire_netns::{Lab, LabOptions};
use bondwire_scenario::Scenario;
use tempfile::TempDir;

use crate::support::{Ended, Options, Process, Side, seconds};
use crate::web::Web;

/// Ports of the web host: one that does not stick, and one that does.
pub(crate) const HTTP: u16 = 80;
pub(crate) const STICKY: u16 = 443;
/// Where the proxy listens.
pub(crate) const PROXY: &str = "127.0.0.1:1080";

const TWIN: &str = r#"
    name = "twin"
    [[links]]
    name = "line0"
    up = "50 Mbit/s"
    down = "50 Mbit/s"
    delay = "10 ms"
    v6 = true
    [[links]]
    name = "line1"
    up = "50 Mbit/s"
    down = "50 Mbit/s"
    delay = "10 ms"
    v6 = true
"#;

/// All of it.
pub(crate) struct World {
    // In the order in which they have to end.
    pub(crate) side: Side,
    pub(crate) web: Web,
    pub(crate) lab: Lab,
    _folder: TempDir,
}

impl World {
    /// Two equal links, `line0` and `line1`.
    pub(crate) fn twin() -> Self {
        Self::of(&Scenario::parse(TWIN).expect("a scenario"))
    }

    /// The same for another scenario.
    pub(crate) fn of(scenario: &Scenario) -> Self {
        let lab = Lab::build(scenario, LabOptions::default()).expect("a lab");
        let options = Options::default();
        let folder = tempfile::Builder::new().prefix("bondwire-test-").tempdir().expect("a folder");
        let side = Side::new(lab.client(), &options.program, folder.path().join("client"));
        let web = Web::start(lab.web(), &[HTTP, STICKY, 8081]);
        let world = Self { side, web, lab, _folder: folder };
        world.configure("");
        world
    }

    /// Writes `[balance]`: the probes go to machines of the lab.
    pub(crate) fn configure(&self, rest: &str) {
        std::fs::create_dir_all(self.side.path("config")).expect("a folder");
        let (server, web) = (self.lab.server_addr_v4(), self.lab.web_addr_v4());
        let text = format!("[balance]\nprobes = [\"ping {server}\", \"tcp {web}:{HTTP}\"]\n{rest}\n");
        std::fs::write(self.side.path("config/client.toml"), text).expect("written");
    }

    /// Starts `bondwire balance` with all links.
    pub(crate) fn balance(&mut self, args: &[&str]) -> &mut Process {
        let names: Vec<String> = self.lab.links().into_iter().map(|link| link.name).collect();
        let mut all = vec!["balance"];
        for name in &names {
            all.extend(["--link", name]);
        }
        all.extend(args);
        self.side.start(&all)
    }

    /// The address of a link, as the web host sees it.
    pub(crate) fn address(&self, link: &str) -> IpAddr {
        self.lab.link(link).expect("a link").client_v4.expect("an address").into()
    }

    /// How many requests came over each link.
    pub(crate) fn shares(&self) -> Vec<usize> {
        self.lab.links().into_iter().map(|link| self.web.count(self.address(&link.name))).collect()
    }

    /// The web host's URL of so many bytes.
    pub(crate) fn url(&self, port: u16, bytes: u64) -> String {
        format!("http://{}:{port}/bytes/{bytes}", self.lab.web_addr_v4())
    }

    /// Starts a command on the client's machine.
    pub(crate) fn start(&self, program: &str, args: &[&str]) -> Process {
        let mut command = Command::new(program);
        command.args(args);
        for name in
            ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy"]
        {
            command.env_remove(name);
        }
        Process::start(self.lab.client(), command)
    }

    /// Runs a command on the client's machine to its end.
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> Ended {
        self.start(program, args).wait_end(seconds(60))
    }

    /// Starts curl, quiet, with a limit for everything.
    pub(crate) fn start_curl(&self, args: &[&str]) -> Process {
        self.start(
            "curl",
            &[
                &["-sS", "-o", "/dev/null", "-w", "%{size_download} %{time_connect}", "--max-time", "30"],
                args,
            ]
            .concat(),
        )
    }

    /// Runs curl; the bytes that it got.
    #[track_caller]
    pub(crate) fn curl(&self, args: &[&str]) -> u64 {
        let ended = self.start_curl(args).wait_end(seconds(40));
        ended.assert_done();
        let size = ended.stdout.split(' ').next().and_then(|text| text.parse().ok());
        size.expect("curl's format")
    }

    /// Waits until a link is in this state.
    pub(crate) fn wait_state(&self, link: &str, states: &[&str], limit: Duration) -> Duration {
        crate::support::until(&format!("{link} is {states:?}"), limit, || {
            let status = self.side.status();
            status.links.iter().any(|status| status.name == link && states.contains(&status.state.as_str()))
        })
    }
}

/// Whether this machine lets the tests' programs run when they want to: a promise in milliseconds cannot be tested where they wait for
/// a processor.
pub(crate) struct Steadiness {
    worst_us: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Steadiness {
    /// Looks from now on.
    pub(crate) fn watch() -> Self {
        let (worst_us, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (worst, stopped) = (Arc::clone(&worst_us), Arc::clone(&stop));
        std::thread::spawn(move || {
            const STEP: Duration = Duration::from_millis(5);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                std::thread::sleep(STEP);
                let late = start.elapsed().saturating_sub(STEP).as_micros();
                worst.fetch_max(u64::try_from(late).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Self { worst_us, stop }
    }

    /// Whether nothing had to wait for more than 50 ms since the last question; says so if not.
    pub(crate) fn is_steady(&self) -> bool {
        let worst = self.worst_us.swap(0, Ordering::Relaxed);
        if worst > 50_000 {
            println!(
                "this machine made programs wait for {} ms: times of this moment mean little",
                worst / 1000
            );
        }
        worst <= 50_000
    }
}

impl Drop for Steadiness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
