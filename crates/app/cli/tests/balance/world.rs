//! A lab with two links, a web host that sees where connections come from, and a bondwire that balances.

use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bondwire_netns::{Lab, LabOptions};
use bondwire_scenario::Scenario;
use tempfile::TempDir;

use crate::support::{Ended, MEGABYTE, Options, Process, Side, seconds};
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
            &[&["-sS", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", "--max-time", "30"], args]
                .concat(),
        )
    }

    /// Runs curl, and has its own word on how long it took: what its start costs on a busy machine is no connect's time.
    pub(crate) fn time_curl(&self, steadiness: &Steadiness, args: &[&str]) -> (Ended, Took) {
        let (ended, took) = steadiness.time(|| self.start_curl(args).wait_end(seconds(40)));
        let own = ended.stdout.split(' ').nth(1).and_then(|text| text.trim().parse().ok());
        (ended, Took { time: own.map_or(took.time, Duration::from_secs_f64), ..took })
    }

    /// Runs curl; the bytes that it got.
    #[track_caller]
    pub(crate) fn curl(&self, args: &[&str]) -> u64 {
        let ended = self.start_curl(args).wait_end(seconds(40));
        ended.assert_done();
        let size = ended.stdout.split(' ').next().and_then(|text| text.parse().ok());
        size.expect("curl's format")
    }

    /// One object over eight connections of aria2: it comes over both links, and whole.
    #[track_caller]
    pub(crate) fn aria2(&self, args: &[&str]) {
        const SIZE: u64 = 30 * MEGABYTE;
        let folder = tempfile::tempdir().expect("a folder");
        let (name, place) = ("object", format!("--dir={}", folder.path().display()));
        let out = format!("--out={name}");
        let url = self.url(HTTP, SIZE);
        let fixed = [
            "--no-conf",
            "--quiet",
            "--split=8",
            "--max-connection-per-server=8",
            "--min-split-size=1M",
            "--file-allocation=none",
            place.as_str(),
            out.as_str(),
        ];
        let ended = self.run("aria2c", &[&fixed, args, &[&url]].concat());
        ended.assert_done();
        let shares = self.shares();
        println!("requests over each link: {shares:?}; done after {:?}", ended.took);
        assert!(shares.iter().all(|count| *count >= 2), "eight connections: {shares:?}");
        let object = std::fs::read(folder.path().join(name)).expect("the object");
        assert_eq!(object.len() as u64, SIZE);
        let wrong = (0..SIZE).zip(&object).find(|(at, byte)| crate::web::byte_at(*at) != **byte);
        assert_eq!(wrong, None, "the object is not what was sent");
    }

    /// Waits until a link that has come back at this moment has its share of new sockets: two at least of six that `open` opens.
    /// Within the promised 5 s.
    #[track_caller]
    pub(crate) fn wait_share(&self, steadiness: &Steadiness, link: &str, open: impl Fn()) {
        let address = self.address(link);
        let ((), took) = steadiness.time(|| {
            crate::support::until(&format!("{link} has its share again"), Duration::from_secs(20), || {
                self.web.forget();
                (0..6).for_each(|_| open());
                self.web.count(address) >= 2
            });
        });
        println!("{link}'s share came back within {:?}", took.time);
        took.assert_within(seconds(5), "a share after a link's return");
    }

    /// Waits until a link is in this state.
    pub(crate) fn wait_state(&self, link: &str, states: &[&str], limit: Duration) -> Duration {
        crate::support::until(&format!("{link} is {states:?}"), limit, || {
            let status = self.side.status();
            status.links.iter().any(|status| status.name == link && states.contains(&status.state.as_str()))
        })
    }
}

/// How long this machine makes programs wait for a processor: a promise in milliseconds holds beyond that, and no less strictly.
pub(crate) struct Steadiness {
    state: Arc<Stalls>,
}

#[derive(Default)]
struct Stalls {
    /// When the watcher ran last, and how long it has waited too long in all: microseconds since it was started.
    seen_us: AtomicU64,
    waited_us: AtomicU64,
    stop: AtomicBool,
}

/// How long something took, and for how much of that time programs stood still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Took {
    pub(crate) time: Duration,
    pub(crate) stalled: Duration,
}

/// From one look of the watcher to the next, and what is no wait worth speaking of.
const STEP: Duration = Duration::from_millis(5);
const SLACK: Duration = Duration::from_millis(20);

impl Steadiness {
    /// Looks from now on.
    pub(crate) fn watch() -> Self {
        let state = Arc::<Stalls>::default();
        let watched = Arc::clone(&state);
        let start = Instant::now();
        std::thread::spawn(move || {
            while !watched.stop.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(STEP);
                watched.note(before.elapsed().saturating_sub(STEP));
                watched.seen_us.store(micros(start.elapsed()), Ordering::Relaxed);
            }
        });
        Self { state }
    }

    /// Measures one thing, from its beginning to its end: what stood still before does not count.
    pub(crate) fn time<T>(&self, job: impl FnOnce() -> T) -> (T, Took) {
        let before = self.state.waited_us.load(Ordering::Relaxed);
        let start = Instant::now();
        let result = job();
        let time = start.elapsed();
        // A wait that lasts is counted when the watcher runs again.
        let seen = self.state.seen_us.load(Ordering::Relaxed);
        let turn = Instant::now();
        while self.state.seen_us.load(Ordering::Relaxed) == seen && turn.elapsed() < SLACK * 50 {
            std::thread::yield_now();
        }
        let stalled = self.state.waited_us.load(Ordering::Relaxed).saturating_sub(before);
        (result, Took { time, stalled: Duration::from_micros(stalled) })
    }
}

impl Stalls {
    fn note(&self, late: Duration) {
        if late > SLACK {
            self.waited_us.fetch_add(micros(late), Ordering::Relaxed);
        }
    }
}

impl Took {
    /// It took no longer than `limit` beside the time in which nobody ran.
    #[track_caller]
    pub(crate) fn assert_within(self, limit: Duration, what: &str) {
        if self.stalled > Duration::ZERO {
            println!("{what}: {:?}, of which this machine stood still for {:?}", self.time, self.stalled);
        }
        assert!(self.time <= limit + self.stalled, "{what}: {self:?}, promised are {limit:?}");
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Drop for Steadiness {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
    }
}
