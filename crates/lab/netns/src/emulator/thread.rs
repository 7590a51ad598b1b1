use std::io;
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::Duration;

use bondwire_netem::PipeConfig;
use bondwire_rawlink::set_realtime;
use bondwire_units::Timestamp;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::thread::{nanosleep, set_current_timer_slack};

use super::histogram::Histogram;
use super::line::Line;
use super::report::EmulatorReport;
use crate::clock;

/// While packets flow the thread sleeps at least this long, so that packets are handled in batches: at 400 Mbit/s one
/// wake-up per packet would be 35,000 a second. Arrival times come from the kernel, so only departures are later by it.
const NAP: Duration = Duration::from_micros(50);
/// Above all ordinary threads, below the kernel's own.
const PRIORITY: i32 = 20;

/// What the emulator is told. `line` is a link's position.
#[derive(Debug)]
pub(crate) enum Command {
    SetConfigs {
        line: usize,
        up: Box<PipeConfig>,
        down: Box<PipeConfig>,
    },
    SetUp {
        line: usize,
        up: bool,
    },
    RebindNat {
        line: usize,
        public: Option<std::net::Ipv4Addr>,
    },
    ResetLateness,
    Report(SyncSender<EmulatorReport>),
    /// Answered when all commands before it have taken effect.
    Barrier(SyncSender<()>),
    Stop,
}

/// The emulator's loop: read what arrived, send what is due, sleep until the next thing is.
pub(crate) struct EmulatorThread {
    lines: Vec<Line>,
    commands: Receiver<Command>,
    wake: Arc<OwnedFd>,
    lateness: Histogram,
    realtime: bool,
}

impl EmulatorThread {
    pub(crate) fn new(lines: Vec<Line>, commands: Receiver<Command>, wake: Arc<OwnedFd>) -> Self {
        Self { lines, commands, wake, lateness: Histogram::new(), realtime: false }
    }

    /// Runs until it is told to stop, or nobody is left to tell it.
    pub(crate) fn run(mut self, want_realtime: bool) {
        self.realtime = want_realtime && set_realtime(PRIORITY).is_ok();
        if let Err(error) = set_current_timer_slack(NonZeroU64::new(1)) {
            tracing::debug!(%error, "timers stay 50 µs lax");
        }
        loop {
            let now = clock::now();
            let offset = clock::realtime_offset();
            let mut busy = false;
            for line in &mut self.lines {
                busy |= line.read(offset, now);
            }
            // After reading, with the time from before: a packet of a quick link leaves in the round that read it.
            for line in &mut self.lines {
                line.write(now, &mut self.lateness);
            }
            if !self.obey(now) {
                return;
            }
            if busy {
                nap();
            } else if let Err(error) = self.wait() {
                tracing::error!(%error, "the emulator cannot wait for packets");
                return;
            }
        }
    }

    /// Carries out the waiting commands; whether to go on.
    fn obey(&mut self, now: Timestamp) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
                Ok(command) => self.carry_out(command, now),
            }
        }
    }

    fn carry_out(&mut self, command: Command, now: Timestamp) {
        match command {
            Command::SetConfigs { line, up, down } => {
                self.on_line(line, |line| line.set_configs(*up, *down, now))
            }
            Command::SetUp { line, up } => self.on_line(line, |line| line.set_up(up, now)),
            Command::RebindNat { line, public } => self.on_line(line, |line| line.rebind_nat(public)),
            Command::ResetLateness => self.lateness = Histogram::new(),
            Command::Report(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(self.report());
            }
            Command::Barrier(reply) => {
                let _ = reply.send(());
            }
            Command::Stop => {}
        }
    }

    fn on_line(&mut self, at: usize, change: impl FnOnce(&mut Line)) {
        if let Some(line) = self.lines.get_mut(at) {
            change(line);
        }
    }

    fn report(&mut self) -> EmulatorReport {
        EmulatorReport {
            lateness_us: self.lateness.percentiles(),
            realtime: self.realtime,
            links: self.lines.iter_mut().map(Line::report).collect(),
        }
    }

    /// Sleeps until a frame arrives, a command comes, or a packet is due.
    fn wait(&mut self) -> io::Result<()> {
        let deadline = self.lines.iter().filter_map(Line::deadline).min();
        let timeout = deadline.map(|at| timespec(at.since(clock::now())));
        let sockets: Vec<_> = self.lines.iter().flat_map(Line::sockets).collect();
        let mut fds: Vec<_> = sockets.iter().map(|socket| PollFd::new(*socket, PollFlags::IN)).collect();
        fds.push(PollFd::from_borrowed_fd(self.wake.as_fd(), PollFlags::IN));
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let (wake, packet_fds) = fds.split_last().expect("the wake-up descriptor was just added");
        for (fd, socket) in packet_fds.iter().zip(&sockets) {
            if fd.revents().contains(PollFlags::ERR) {
                // An interface was taken down: the error has been told, and must not keep the thread awake.
                let _ = socket.take_error();
            }
        }
        if wake.revents().contains(PollFlags::IN) {
            let mut count = [0; 8];
            // Only its being readable matters.
            let _ = rustix::io::read(&*self.wake, &mut count);
        }
        Ok(())
    }
}

fn nap() {
    let _ = nanosleep(&timespec(NAP));
}

fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: i64::from(span.subsec_nanos()) }
}
