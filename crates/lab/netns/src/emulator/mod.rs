//! The emulator: one thread between the clients' and the providers' ends of all links.
//!
//! Each link is cut in two: one veth pair from the client to the emulator's namespace, another from there to the
//! provider. The emulator reads whole frames at one end, takes them through a [`bondwire_netem::Pipe`], and sends them
//! at the other. The kernel stamps each frame on arrival, so that a late reader changes nothing but, at worst, the time
//! of departure. How late departures are is measured ([`EmulatorReport::lateness_us`]), and so are packets that the
//! kernel had to drop: a figure from an overloaded machine can be recognised as such.

mod frame;
mod histogram;
mod line;
mod report;
mod thread;

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bondwire_netem::PipeConfig;
use bondwire_rawlink::{PacketSocket, RingConfig};
use rustix::event::{EventfdFlags, eventfd};

pub use histogram::Percentiles;
pub(crate) use line::LineConfig;
pub use report::{DirectionReport, EmulatorReport, LinkReport};

use crate::clock;
use crate::error::LabError;
use crate::node::Node;
use line::Line;
use thread::{Command, EmulatorThread};

/// A handle to the running emulator, for any thread. The emulator stops with its last handle.
#[derive(Clone)]
pub struct Emulator {
    inner: Arc<Inner>,
}

struct Inner {
    commands: Sender<Command>,
    wake: Arc<OwnedFd>,
    names: Vec<String>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// The interfaces of the `line`-th link in the emulator's namespace: at the client's end, at the provider's.
pub(crate) fn interface_names(line: usize) -> (String, String) {
    (format!("c{line}"), format!("p{line}"))
}

impl Emulator {
    /// Starts the emulator in the namespace of `node`, whose interfaces must be there and up.
    pub(crate) fn start(node: &Node, configs: Vec<LineConfig>, realtime: bool) -> Result<Self, LabError> {
        let fail = |what: &str| {
            let what = what.to_owned();
            move |source: io::Error| LabError::Emulator { what, source }
        };
        let names = configs.iter().map(|config| config.name.clone()).collect();
        let lines = node.run(move || open_lines(configs)).map_err(fail("open packet sockets"))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let wake = Arc::new(eventfd(0, flags).map_err(io::Error::from).map_err(fail("make a wake-up"))?);
        let (commands, inbox) = mpsc::channel();
        let emulator = EmulatorThread::new(lines, inbox, Arc::clone(&wake));
        let thread =
            node.thread("emulator", move || emulator.run(realtime)).map_err(fail("start its thread"))?;
        Ok(Self { inner: Arc::new(Inner { commands, wake, names, thread: Mutex::new(Some(thread)) }) })
    }

    /// What it did so far, and how late it was.
    ///
    /// # Errors
    /// [`LabError::EmulatorGone`].
    pub fn report(&self) -> Result<EmulatorReport, LabError> {
        let (reply, report) = mpsc::sync_channel(1);
        self.tell(Command::Report(reply))?;
        report.recv().map_err(|_| LabError::EmulatorGone)
    }

    /// Forgets the lateness measured so far, so that the next report's is that of what follows.
    ///
    /// # Errors
    /// [`LabError::EmulatorGone`].
    pub fn reset_lateness(&self) -> Result<(), LabError> {
        self.tell(Command::ResetLateness)
    }

    /// Sets what the two directions of a link do to packets from now on.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`], [`LabError::EmulatorGone`].
    pub fn set_configs(&self, link: &str, up: PipeConfig, down: PipeConfig) -> Result<(), LabError> {
        let line = self.position(link)?;
        self.tell_and_wait(Command::SetConfigs { line, up: Box::new(up), down: Box::new(down) })
    }

    /// Makes a link silent (`false`): what is in it, and what enters it, vanishes, and nobody is told. Or brings it back.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`], [`LabError::EmulatorGone`].
    pub fn set_up(&self, link: &str, up: bool) -> Result<(), LabError> {
        let line = self.position(link)?;
        self.tell_and_wait(Command::SetUp { line, up })
    }

    /// Gives all flows through a link's NAT new ports, and another public address if one is given.
    pub(crate) fn rebind_nat(&self, link: &str, public: Option<Ipv4Addr>) -> Result<(), LabError> {
        let line = self.position(link)?;
        self.tell_and_wait(Command::RebindNat { line, public })
    }

    fn position(&self, link: &str) -> Result<usize, LabError> {
        let names = &self.inner.names;
        let unknown = || LabError::UnknownLink { name: link.to_owned(), known: names.clone() };
        names.iter().position(|name| name == link).ok_or_else(unknown)
    }

    /// Tells the emulator something, and returns when it has taken effect.
    fn tell_and_wait(&self, command: Command) -> Result<(), LabError> {
        let (reply, done) = mpsc::sync_channel(1);
        self.tell(command)?;
        self.tell(Command::Barrier(reply))?;
        done.recv().map_err(|_| LabError::EmulatorGone)
    }

    fn tell(&self, command: Command) -> Result<(), LabError> {
        self.inner.tell(command)
    }
}

impl Inner {
    fn tell(&self, command: Command) -> Result<(), LabError> {
        self.commands.send(command).map_err(|_| LabError::EmulatorGone)?;
        rustix::io::write(&*self.wake, &1_u64.to_ne_bytes()).map_err(|_| LabError::EmulatorGone)?;
        Ok(())
    }
}

impl fmt::Debug for Emulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Emulator({})", self.inner.names.join(", "))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // If it has stopped already there is nothing to tell.
        let _ = self.tell(Command::Stop);
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

fn open_lines(configs: Vec<LineConfig>) -> io::Result<Vec<Line>> {
    let now = clock::now();
    let open = |(at, config): (usize, LineConfig)| {
        let (client, provider) = interface_names(at);
        let max_frame = (config.mtu.max(1500) + frame::HEADER) as u32;
        let ring = RingConfig { max_frame, ..RingConfig::default() };
        Ok(Line::new(config, PacketSocket::open(&client, ring)?, PacketSocket::open(&provider, ring)?, now))
    };
    configs.into_iter().enumerate().map(open).collect()
}
