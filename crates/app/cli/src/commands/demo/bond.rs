//! What is demonstrated: this very program as server and as client, each on its machine of the lab; or, in mode `balance`, as a client
//! alone.
//!
//! Configuration, state and sockets lie in a temporary folder. The lab's core already routes the inner network to the
//! server, so no address is translated.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bondwire_api::{ControlClient, Fault, Mode};
use bondwire_netns::{Lab, Node};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

const PORT: u16 = 4433;
const NETWORK: &str = "10.99.0.0/24";
const TUN: &str = "/dev/net/tun";
/// How long a daemon may take until traffic can flow.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a daemon may take to end.
const FAREWELL: Duration = Duration::from_secs(3);
/// How much of a daemon's log is shown when it fails, in lines.
const TAIL: usize = 8;

/// A server and a client, connected, or a balancer. They end when it is dropped.
#[derive(Debug)]
pub(super) struct Bond {
    // In the order in which they have to end.
    client: Daemon,
    /// None in mode `balance`.
    server: Option<Daemon>,
    control: ControlClient,
    _folder: TempDir,
}

impl Bond {
    /// Sets a server and a client up, starts them, and waits until traffic can flow.
    ///
    /// # Errors
    /// A command failed or did not get ready in time; the fault holds the end of its log.
    pub(super) fn start(lab: &Lab, links: &[String], mode: Mode) -> Result<Self, Fault> {
        let folder = tempfile::Builder::new().prefix("bondwire-demo-").tempdir().map_err(|error| {
            Fault::from_io("cannot make a temporary folder", &error, "make room in it, or set TMPDIR")
        })?;
        if mode == Mode::Balance {
            return Self::balance(lab, links, folder);
        }
        let server = Place::new("server", folder.path());
        let client = Place::new("client", folder.path());
        let endpoint = format!("{}:{PORT}", lab.server_addr_v4());
        server.call(&["server", "init", "--endpoint", &endpoint, "--network", NETWORK])?;
        server.configure(&format!(
            "endpoints = [\"{endpoint}\"]\nnat = false\n[network]\nv4 = \"{NETWORK}\"\n{}",
            tunnel()
        ))?;
        let invite = server.call(&["server", "invite", "demo"])?;
        let running_server = Daemon::start(lab.server(), &server, &["server", "run"])?;
        client.call(&["join", invite.trim()])?;
        client.configure(&tunnel())?;
        let mut up = vec!["up", "--wait", "15", "--mode", mode.name()];
        links.iter().for_each(|link| up.extend(["--link", link]));
        let running_client = Daemon::start(lab.client(), &client, &up)?;
        let control = ControlClient::new(client.socket());
        Ok(Self { client: running_client, server: Some(running_server), control, _folder: folder })
    }

    /// Starts a balancer of this machine's sockets. It asks the lab's machines whether links work.
    fn balance(lab: &Lab, links: &[String], folder: TempDir) -> Result<Self, Fault> {
        let client = Place::new("client", folder.path());
        fs::create_dir_all(client.folder.join("config")).map_err(|error| {
            Fault::from_io("cannot make a temporary folder", &error, "make room in it, or set TMPDIR")
        })?;
        let (server, web) = (lab.server_addr_v4(), lab.web_addr_v4());
        client.configure(&format!("[balance]\nprobes = [\"ping {server}\", \"ping {web}\"]\n"))?;
        let mut args = vec!["balance", "--transparent"];
        links.iter().for_each(|link| args.extend(["--link", link]));
        let running = Daemon::start(lab.client(), &client, &args)?;
        let control = ControlClient::new(client.socket());
        Ok(Self { client: running, server: None, control, _folder: folder })
    }

    /// The client's control socket.
    pub(super) fn control(&self) -> &ControlClient {
        &self.control
    }

    /// Whether both still run.
    ///
    /// # Errors
    /// One has ended; the fault holds the end of its log.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        self.client.check()?;
        self.server.as_mut().map_or(Ok(()), Daemon::check)
    }
}

/// The tunnel's part of a configuration: an ordinary user's namespace has no right to the TUN device.
fn tunnel() -> String {
    let usable = File::options().read(true).write(true).open(TUN).is_ok();
    format!("[tunnel]\ndevice = \"{}\"\n", if usable { "tun" } else { "packet" })
}

/// Where one side keeps its files.
#[derive(Debug)]
struct Place {
    name: &'static str,
    folder: PathBuf,
}

impl Place {
    fn new(name: &'static str, folder: &Path) -> Self {
        Self { name, folder: folder.join(name) }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("control.sock")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    /// This program, told to keep its files here.
    fn command(&self, args: &[&str]) -> Result<Command, Fault> {
        let failed = |error: io::Error| {
            Fault::from_io("cannot start bondwire in the demo", &error, "check free memory and disk space")
        };
        let program = std::env::current_exe().map_err(failed)?;
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut command = Command::new(program);
        command.args(args).arg("--config-dir").arg(self.folder.join("config"));
        command.arg("--state-dir").arg(self.folder.join("state")).arg("--socket").arg(self.socket());
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs a command that ends by itself, and returns what it printed.
    fn call(&self, args: &[&str]) -> Result<String, Fault> {
        let what = format!("`bondwire {}` failed in the demo", args.join(" "));
        let output = self.command(args)?.output().map_err(|error| Fault::from_io(&what, &error, ""))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(our_fault(what, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// Replaces the configuration file.
    fn configure(&self, text: &str) -> Result<(), Fault> {
        let path = self.folder.join("config").join(format!("{}.toml", self.name));
        fs::write(&path, text).map_err(|error| {
            Fault::from_io(format!("cannot write {}", path.display()), &error, "make room for it")
        })
    }
}

/// A running `bondwire`.
#[derive(Debug)]
struct Daemon {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Daemon {
    /// Starts a command on a machine, and waits for its line `ready`.
    fn start(node: &Node, place: &Place, args: &[&str]) -> Result<Self, Fault> {
        let name = format!("bondwire {}", args.join(" "));
        let failed = |error: io::Error| {
            Fault::from_io(
                format!("cannot start `{name}` in the demo"),
                &error,
                "check free memory and disk space",
            )
        };
        let mut command = place.command(args)?;
        let log = File::create(place.log()).map_err(failed)?;
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = node.spawn(command).map_err(failed)?;
        let output = child.stdout.take();
        let mut daemon = Self { child, name, log: place.log() };
        let (tell, told) = mpsc::channel();
        if let Some(output) = output {
            // It reads on after `ready`, so that the daemon never writes into a closed pipe.
            thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = tell.send(line);
                }
            });
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.trim() == "ready" => return Ok(daemon),
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => {
                    // Its output is closed, so it ends now or has ended.
                    daemon.end();
                    return Err(our_fault(
                        format!("`{}` ended before it was ready", daemon.name),
                        &daemon.tail(),
                    ));
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let what = format!("`{}` was not ready within {} s", daemon.name, PATIENCE.as_secs());
                    return Err(our_fault(what, &daemon.tail()));
                }
            }
        }
    }

    fn check(&mut self) -> Result<(), Fault> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                Err(our_fault(format!("`{}` ended during the demo ({status})", self.name), &self.tail()))
            }
            Err(error) => Err(our_fault(format!("cannot watch `{}`", self.name), &error.to_string())),
        }
    }

    /// The end of its log.
    fn tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    /// Asks it to end, waits a little, and ends it.
    fn end(&mut self) {
        if let Some(pid) = Pid::from_raw(self.child.id().cast_signed()) {
            // It is waited for below, so the number is still its own; it may have ended, which is fine too.
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = Instant::now() + FAREWELL;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

fn our_fault(what: String, log: &str) -> Fault {
    let why = if log.is_empty() { "it said nothing" } else { log };
    Fault::failed(
        what,
        why,
        "run it again; if it happens twice, report it with the lines above and the output of `uname -a`",
    )
}
