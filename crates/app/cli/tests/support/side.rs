use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use bondwire_api::{ControlClient, Status};
use bondwire_netns::Node;
use rustix::process::Signal;

use super::{Ended, Process, Snapshot, seconds, until};

/// How long a command that ends by itself may take.
const CALL: Duration = seconds(20);
/// How long a daemon may take until traffic can flow. The promise is far less; the machine may be busy.
const READY: Duration = seconds(20);
/// How long a daemon may take to end before it counts as hanging. What is promised is asserted where it is tested.
const END: Duration = seconds(10);

/// One bondwire on one machine, with configuration, state and socket of its own.
#[derive(Debug)]
pub(crate) struct Side {
    running: Option<Process>,
    node: Node,
    folder: PathBuf,
    program: PathBuf,
}

impl Side {
    /// One that keeps its files in `folder`, and has none yet.
    pub(crate) fn new(node: &Node, program: &Path, folder: PathBuf) -> Self {
        fs::create_dir_all(&folder).expect("a folder");
        Self { running: None, node: node.clone(), folder, program: program.to_owned() }
    }

    /// Its machine.
    pub(crate) fn node(&self) -> &Node {
        &self.node
    }

    /// A path below its folder: `config`, `state`, `socket`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// bondwire with these arguments and its folders.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        self.complete(&mut command, args);
        command
    }

    /// Adds these arguments and its folders to a command.
    pub(crate) fn complete(&self, command: &mut Command, args: &[&str]) {
        command.args(args).env_remove("RUST_LOG");
        command.arg("--config-dir").arg(self.path("config")).arg("--state-dir").arg(self.path("state"));
        command.arg("--socket").arg(self.path("socket"));
    }

    /// Runs a command that ends by itself.
    pub(crate) fn call(&self, args: &[&str]) -> Ended {
        Process::start(&self.node, self.command(args)).wait_end(CALL)
    }

    /// Writes a configuration file, with the tunnel's part, and `rest` in front of it.
    pub(crate) fn configure(&self, name: &str, rest: &str) {
        // An ordinary user's namespace has no right to the TUN device.
        let usable = File::options().read(true).write(true).open("/dev/net/tun").is_ok();
        let device = if usable { "tun" } else { "packet" };
        let text = format!("{rest}\n[tunnel]\ndevice = \"{device}\"\n");
        fs::write(self.path("config").join(name), text).expect("written");
    }

    /// Starts a daemon, and does not wait for anything.
    pub(crate) fn launch(&mut self, args: &[&str]) -> &mut Process {
        let process = Process::start(&self.node, self.command(args));
        self.running.insert(process)
    }

    /// Starts a daemon, and waits until it is ready.
    pub(crate) fn start(&mut self, args: &[&str]) -> &mut Process {
        let process = self.launch(args);
        process.wait_ready(READY);
        process
    }

    /// The daemon that was started last.
    pub(crate) fn process(&mut self) -> &mut Process {
        self.running.as_mut().expect("it was started")
    }

    /// Ends the daemon as `kill` does.
    pub(crate) fn stop(&mut self) -> Ended {
        self.end(Signal::TERM)
    }

    /// Ends the daemon by a signal that it may catch.
    pub(crate) fn end(&mut self, signal: Signal) -> Ended {
        let mut process = self.running.take().expect("it was started");
        process.signal(signal);
        process.wait_end(END)
    }

    /// Ends the daemon as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.running.take().expect("it was started").kill();
    }

    /// What it answers on its control socket.
    pub(crate) fn control(&self) -> ControlClient {
        ControlClient::new(self.path("socket"))
    }

    /// How it stands.
    pub(crate) fn status(&self) -> Status {
        self.control().status().expect("it runs")
    }

    /// Bytes that a link has received and sent.
    pub(crate) fn carried(&self, link: &str) -> (u64, u64) {
        let status = self.status();
        let link = status.links.iter().find(|status| status.name == link);
        link.map_or((0, 0), |link| (link.bytes_rx, link.bytes_tx))
    }

    /// Waits until so many links can carry data.
    pub(crate) fn wait_active(&self, count: usize) -> Duration {
        let active = |status: &Status| status.links.iter().filter(|link| link.state == "active").count();
        until(&format!("{count} active links"), seconds(15), || active(&self.status()) >= count)
    }

    /// How its machine's network stands.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::take(&self.node)
    }
}
