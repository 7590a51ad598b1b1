use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use bondwire_api::LinkStatus;
use bondwire_netns::traffic::{Bulk, BulkOptions, BulkServer, Direction, Probe, ProbeOptions, Timeline};
use bondwire_netns::{Lab, Node, now};
use bondwire_scenario::{Link, Scenario};
use bondwire_units::Timestamp;
use rustix::process::Signal;

use crate::fixture::{Bond, Options, Process, seconds};
use crate::{BenchError, Quic, QuicOptions, Settings};

/// How long links may take to carry data before a row goes on without them.
const ACTIVE: Duration = seconds(10);
/// How often a counter is read.
const READING: Duration = Duration::from_millis(20);

/// A lab, a bonding server that runs in it, and a client that can be started with any of the links.
#[derive(Debug)]
pub struct Stand {
    bond: Bond,
    settings: Settings,
}

/// How traffic gets from the client to the web host. The default: as the client's routes have it, which is through the
/// bond while one is up.
#[derive(Debug, Default)]
pub struct Way {
    /// The interface that flows are bound to.
    pub interface: Option<String>,
    /// The server that speaks Multipath TCP; then TCP is that, and UDP, which has no such thing, goes by `interface`.
    pub multipath: Option<BulkServer>,
    /// What has to run meanwhile, and what is to be undone afterwards.
    pub cleanup: Cleanup,
}

/// Ends processes, and then runs commands, when it is dropped.
#[derive(Debug, Default)]
pub struct Cleanup {
    /// They get SIGTERM, together a second, and SIGKILL.
    pub processes: Vec<Process>,
    /// On which machine, and the command's words. Its failure is nobody's business.
    pub commands: Vec<(Node, Vec<String>)>,
}

impl Drop for Cleanup {
    fn drop(&mut self) {
        for process in &mut self.processes {
            if process.is_running() {
                process.signal(Signal::TERM);
            }
        }
        let end = Instant::now() + seconds(1);
        while self.processes.iter_mut().any(Process::is_running) && Instant::now() < end {
            thread::sleep(READING);
        }
        self.processes.clear();
        for (node, words) in self.commands.drain(..) {
            let mut command = Command::new(&words[0]);
            command.args(&words[1..]).stdout(Stdio::null()).stderr(Stdio::null());
            let _ = node.spawn(command).and_then(|mut child| child.wait());
        }
    }
}

impl Way {
    /// By one link, or another interface of the client.
    pub fn interface(name: &str) -> Self {
        Self { interface: Some(name.to_owned()), ..Self::default() }
    }
}

impl Stand {
    /// Builds it, and starts the server.
    ///
    /// # Panics
    /// If there can be no lab, or `bondwire` does not start; [`crate::run`] takes that for a failed run.
    pub fn build(scenario: &Scenario, settings: &Settings) -> Self {
        let (program, folder) = (settings.program.clone(), settings.folder.clone());
        let options = Options { program, folder, ..Options::default() };
        let mut bond = Bond::build(scenario.clone(), options);
        bond.start_server();
        Self { bond, settings: settings.clone() }
    }

    /// The lab.
    pub fn lab(&self) -> &Lab {
        &self.bond.lab
    }

    /// What it was built from.
    pub fn scenario(&self) -> &Scenario {
        &self.bond.scenario
    }

    /// What is measured with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The names of all links.
    pub fn links(&self) -> Vec<String> {
        self.scenario().links.iter().map(|link| link.name.clone()).collect()
    }

    /// Runs `job` while a bond over these links is up.
    ///
    /// # Errors
    /// Those of `job`.
    ///
    /// # Panics
    /// If the client does not connect or does not end.
    pub fn bonded<T>(
        &mut self,
        mode: &str,
        links: &[String],
        job: impl FnOnce(&Self) -> Result<T, BenchError>,
    ) -> Result<T, BenchError> {
        let names: Vec<&str> = links.iter().map(String::as_str).collect();
        let args = self.bond.up_with(mode, &names);
        self.bond.client.start(&args.iter().map(String::as_str).collect::<Vec<_>>());
        let since = now();
        while self.link_states().iter().filter(|link| link.state == "active").count() < links.len() {
            if now().since(since) > ACTIVE {
                eprintln!("  not all of {} are active after {} s", links.join(", "), ACTIVE.as_secs());
                break;
            }
            thread::sleep(READING);
        }
        let result = job(self);
        self.bond.client.stop();
        result
    }

    /// How the client's links stand; a bond has to be up.
    pub fn link_states(&self) -> Vec<LinkStatus> {
        self.bond.client.status().links
    }

    /// Starts one TCP connection that moves as much as goes for `limit`.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn bulk(&self, way: &Way, direction: Direction, limit: Duration) -> Result<Bulk, BenchError> {
        let multipath = way.multipath.is_some();
        let options = BulkOptions {
            direction,
            limit,
            congestion: Some(self.settings.congestion.clone()),
            // Multipath TCP chooses the interface itself, by the client's routes and endpoints.
            interface: way.interface.clone().filter(|_| !multipath),
            multipath,
            verify: false,
            ..BulkOptions::default()
        };
        let server = way.multipath.as_ref().unwrap_or(&self.bond.web);
        Ok(Bulk::start(self.lab().client(), server, options)?)
    }

    /// What arrived when, of one TCP connection.
    ///
    /// # Errors
    /// If there was no connection.
    pub fn transfer(&self, way: &Way, direction: Direction, limit: Duration) -> Result<Timeline, BenchError> {
        Ok(self.bulk(way, direction, limit)?.finish()?.timeline)
    }

    /// The goodput of one TCP connection over the last two thirds of the usual time, in bit/s.
    ///
    /// # Errors
    /// If there was no connection.
    pub fn goodput(&self, way: &Way, direction: Direction) -> Result<f64, BenchError> {
        let length = self.settings.length;
        Ok(late_goodput(&self.transfer(way, direction, length)?, length))
    }

    /// The same of one QUIC connection.
    ///
    /// # Errors
    /// If there was no connection, or it broke.
    pub fn quic(&self, way: &Way, direction: Direction) -> Result<f64, BenchError> {
        let limit = self.settings.length;
        let options =
            QuicOptions { direction, limit, interface: way.interface.clone(), ..QuicOptions::default() };
        let address = SocketAddr::new(self.lab().web_addr_v4().into(), 0);
        let transfer = Quic::start(self.lab().client(), self.lab().web(), address, options)?;
        Ok(late_goodput(&transfer.finish()?.timeline, limit))
    }

    /// Starts a UDP flow of 200 packets a second.
    ///
    /// # Errors
    /// If the system refuses a socket or thread.
    pub fn probe(&self, way: &Way, direction: Direction, duration: Duration) -> Result<Probe, BenchError> {
        self.flow(way, ProbeOptions { direction, duration, ..ProbeOptions::default() })
    }

    /// Starts any UDP flow.
    ///
    /// # Errors
    /// As [`Stand::probe`].
    pub fn flow(&self, way: &Way, options: ProbeOptions) -> Result<Probe, BenchError> {
        let address = SocketAddr::new(self.lab().web_addr_v4().into(), 0);
        let options = ProbeOptions { interface: way.interface.clone(), ..options };
        Ok(Probe::start(self.lab().client(), self.lab().web(), address, options)?)
    }

    /// Bytes that a link has taken in and carried to its end, in one direction.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn carried(&self, link: &str, direction: Direction) -> Result<(u64, u64), BenchError> {
        let report = self.lab().emulator().report()?;
        let link = report.link(link).ok_or_else(|| BenchError::Scenario(format!("no link `{link}`")))?;
        let way = if direction == Direction::Up { &link.up } else { &link.down };
        Ok((way.bytes_in, way.bytes_out))
    }

    /// Reads what a link has taken in and carried until `end`.
    ///
    /// # Errors
    /// If the emulator is gone.
    pub fn watch(
        &self,
        link: &str,
        direction: Direction,
        end: Timestamp,
    ) -> Result<Vec<(Timestamp, u64, u64)>, BenchError> {
        let mut readings = Vec::new();
        while now() < end {
            let (taken, carried) = self.carried(link, direction)?;
            readings.push((now(), taken, carried));
            thread::sleep(READING.min(end.since(now())));
        }
        Ok(readings)
    }

    /// The rates of all links in one direction, in bit/s, added up.
    pub fn sum(&self, direction: Direction) -> f64 {
        self.scenario().links.iter().map(|link| rate(link, direction)).sum()
    }

    /// The link with the highest rate in one direction, of several the one with the least delay.
    pub fn best(&self, direction: Direction) -> Link {
        let links = &self.scenario().links;
        let key = |link: &&Link| (rate(link, direction) as u64, std::cmp::Reverse(link.delay));
        links.iter().max_by_key(key).cloned().expect("a scenario has links")
    }
}

/// A link's rate in one direction in bit/s; 0 for one without limit, of which nothing can be said.
pub(crate) fn rate(link: &Link, direction: Direction) -> f64 {
    let rate = if direction == Direction::Up { link.up } else { link.down };
    rate.map_or(0.0, |rate| rate.as_bps() as f64)
}

/// The goodput over the last two thirds of `length`, in bit/s.
pub(crate) fn late_goodput(timeline: &Timeline, length: Duration) -> f64 {
    timeline.goodput(length / 3, length).as_bps() as f64
}

/// Waits for a time by the lab's clock.
pub(crate) fn sleep_until(time: Timestamp) {
    thread::sleep(time.since(now()));
}
