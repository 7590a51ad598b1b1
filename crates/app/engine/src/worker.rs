//! The thread itself: the same for client and server, which differ in their [`Side`].

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use bondwire_bond::{ArrivalBatch, DatagramBatch, Route};
use bondwire_packet::PacketBatch;
use bondwire_tun::Device;
use bondwire_udp::{MAX_BATCH, SendErrorKind, SendOutcome};
use bondwire_units::{Deadline, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::clock::Clock;
use crate::error::EngineError;
use crate::handle::{EngineEvent, Message};
use crate::status::{Board, EngineStatus, IoCounters};

/// Packets read from the tunnel in one turn.
const TUNNEL_READ: usize = 128;
/// Datagrams gathered from the bond before they are sent.
const GATHER: usize = 64;
/// Batches read from a socket in one turn: timers are looked at after that, and must not find what an unread acknowledgement disproves.
const SOCKET_READS: usize = 4;
/// For how long, and how many, datagrams are sent in one turn: after that the sockets and the tunnel are looked at again. Where a datagram costs
/// as much time as the pace leaves to it there is always one more to send; acknowledgements and calls must not wait for the end of that.
const SEND_TIME: Duration = Duration::from_millis(1);
const SEND_PER_TURN: usize = 512;
/// How often the status is published.
const PUBLISH: Duration = Duration::from_millis(100);
/// So many turns in a row without any work, and with a deadline that is over, are a fault that must not burn a core.
const IDLE_TURNS: u32 = 100;
const IDLE_PAUSE: Duration = Duration::from_millis(1);
/// Timers are exact to this. The default of 50 µs is half a packet's time at 200 Mbit/s.
const TIMER_SLACK: u64 = 1;

/// What client and server do differently.
pub(crate) trait Side {
    type Command;
    type Event;
    type Status;

    /// The sockets, in an order that stays until the next command.
    fn sockets<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>);
    /// Reads one of them, once.
    fn receive(&mut self, socket: usize, out: &mut ArrivalBatch) -> io::Result<usize>;
    /// Sends what goes over one link: datagrams `first..end` of the batch.
    fn send(&mut self, batch: &DatagramBatch, first: usize, end: usize) -> SendOutcome;
    /// The kernel refused a datagram of that size.
    fn handle_refusal(&mut self, route: Route, size: usize, kind: SendErrorKind, now: Timestamp);
    fn handle_datagrams(&mut self, batch: &mut ArrivalBatch, deliver: &mut PacketBatch, now: Timestamp);
    fn handle_packets(&mut self, batch: &PacketBatch, now: Timestamp);
    fn handle_timeout(&mut self, deliver: &mut PacketBatch, now: Timestamp);
    fn poll_transmit(&mut self, out: &mut DatagramBatch, now: Timestamp);
    fn poll_deadline(&mut self, now: Timestamp) -> Option<Deadline>;
    /// The next event, after the side has done its own part about it.
    fn poll_event(&mut self) -> Result<Option<EngineEvent<Self::Event>>, EngineError>;
    fn command(&mut self, command: Self::Command, now: Timestamp);
    fn close(&mut self, now: Timestamp);
    fn status(&mut self, now: Timestamp) -> Self::Status;
}

pub(crate) struct Worker<S: Side> {
    side: S,
    device: Device,
    commands: Receiver<Message<S::Command>>,
    wake: Arc<OwnedFd>,
    events: SyncSender<EngineEvent<S::Event>>,
    board: Arc<Board<EngineStatus<S::Status>>>,
    counters: IoCounters,
    arrivals: ArrivalBatch,
    datagrams: DatagramBatch,
    packets: PacketBatch,
    deliver: PacketBatch,
    publish_at: Timestamp,
    idle_turns: u32,
    closing: bool,
}

/// What has something to read.
#[derive(Default)]
struct Ready {
    commands: bool,
    device: bool,
    sockets: Vec<usize>,
}

impl<S: Side> Worker<S> {
    pub(crate) fn new(
        side: S,
        device: Device,
        commands: Receiver<Message<S::Command>>,
        wake: Arc<OwnedFd>,
        events: SyncSender<EngineEvent<S::Event>>,
        board: Arc<Board<EngineStatus<S::Status>>>,
    ) -> Self {
        Self {
            side,
            device,
            commands,
            wake,
            events,
            board,
            counters: IoCounters::default(),
            arrivals: ArrivalBatch::default(),
            datagrams: DatagramBatch::default(),
            packets: PacketBatch::default(),
            deliver: PacketBatch::default(),
            publish_at: Timestamp::ZERO,
            idle_turns: 0,
            closing: false,
        }
    }

    pub(crate) fn run(mut self) -> Result<(), EngineError> {
        // Without it timers are a little late, which pacing bears.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(TIMER_SLACK));
        let mut ready = Ready::default();
        let mut backlog = false;
        while !self.closing {
            let timeout = if backlog { Duration::ZERO } else { self.timeout() };
            self.wait(timeout, &mut ready)?;
            self.counters.turns += 1;
            if ready.commands {
                self.take_commands();
            }
            let received = self.receive(&ready)?;
            let now = Clock.now();
            let due = self.side.poll_deadline(now).is_some_and(|deadline| deadline.at <= now);
            if due {
                self.side.handle_timeout(&mut self.deliver, now);
                self.write_device();
            }
            // Before anything is sent: a timestamp has to be stored first.
            self.tell()?;
            let (sent, more) = self.transmit()?;
            backlog = more;
            let idle = received == 0 && sent == 0 && due;
            self.idle_turns = if idle { self.idle_turns.saturating_add(1) } else { 0 };
            self.publish(Clock.now());
        }
        self.side.close(Clock.now());
        // A bounded farewell: who does not hear it will notice by the silence.
        for _ in 0..8 {
            if self.transmit()?.0 == 0 {
                break;
            }
        }
        self.tell()?;
        self.publish_at = Timestamp::ZERO;
        self.publish(Clock.now());
        Ok(())
    }

    fn timeout(&mut self) -> Duration {
        let now = Clock.now();
        let publish = self.publish_at.since(now);
        let Some(deadline) = self.side.poll_deadline(now) else { return publish };
        let wait = deadline.at.since(now).min(publish);
        if wait.is_zero() && self.idle_turns >= IDLE_TURNS {
            if self.idle_turns == IDLE_TURNS {
                tracing::warn!(
                    why = deadline.why,
                    "the bond asks to be called again and again, and does nothing"
                );
            }
            return IDLE_PAUSE;
        }
        wait
    }

    /// Waits until something can be read or the time is over.
    fn wait(&self, timeout: Duration, ready: &mut Ready) -> Result<(), EngineError> {
        let mut descriptors = vec![self.wake.as_fd(), self.device.as_fd()];
        self.side.sockets(&mut descriptors);
        let mut polled: Vec<PollFd<'_>> = descriptors
            .iter()
            .map(|descriptor| PollFd::from_borrowed_fd(*descriptor, PollFlags::IN))
            .collect();
        let limit = Timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos().into() };
        match poll(&mut polled, Some(&limit)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(EngineError::System { what: "wait for packets", source: error.into() }),
        }
        // Errors count as readable: reading fetches them.
        let is_ready = |index: usize| polled.get(index).is_some_and(|fd| !fd.revents().is_empty());
        ready.commands = is_ready(0);
        ready.device = is_ready(1);
        ready.sockets.clear();
        ready.sockets.extend((2..polled.len()).filter(|index| is_ready(*index)).map(|index| index - 2));
        Ok(())
    }

    fn take_commands(&mut self) {
        // Emptied first: a command that comes after this wakes the thread again.
        let _ = rustix::io::read(&*self.wake, &mut [0; 8]);
        let now = Clock.now();
        while let Ok(message) = self.commands.try_recv() {
            match message {
                Message::Command(command) => self.side.command(command, now),
                Message::Close => self.closing = true,
            }
        }
        self.publish_at = now;
    }

    /// Reads every source that has something. How much there was.
    fn receive(&mut self, ready: &Ready) -> Result<usize, EngineError> {
        let mut total = 0;
        // A command may have closed sockets since the wait; reading another one that has nothing costs a call.
        for &socket in ready.sockets.iter().filter(|_| !ready.commands) {
            for _ in 0..SOCKET_READS {
                self.arrivals.clear();
                match self.side.receive(socket, &mut self.arrivals) {
                    Ok(count) => total += count,
                    Err(error) => tracing::debug!(%error, socket, "a socket failed to receive"),
                }
                self.counters.datagrams_in += self.arrivals.len() as u64;
                if !self.arrivals.is_empty() {
                    self.side.handle_datagrams(&mut self.arrivals, &mut self.deliver, Clock.now());
                    self.write_device();
                }
                if self.arrivals.len() < MAX_BATCH {
                    break;
                }
            }
        }
        if ready.device {
            self.packets.clear();
            let count =
                self.device.recv_batch(&mut self.packets, TUNNEL_READ).map_err(EngineError::Device)?;
            self.counters.packets_in += count as u64;
            total += count;
            if count > 0 {
                self.side.handle_packets(&self.packets, Clock.now());
            }
        }
        Ok(total)
    }

    fn write_device(&mut self) {
        if self.deliver.is_empty() {
            return;
        }
        let written = self.device.send_batch(&self.deliver);
        self.counters.packets_out += written.packets as u64;
        self.counters.packets_refused += written.dropped as u64;
        self.deliver.clear();
    }

    /// Sends what the bond has, until it has nothing or the turn is over. How many datagrams, and whether there may be more.
    fn transmit(&mut self) -> Result<(usize, bool), EngineError> {
        let mut total = 0;
        let mut more = true;
        let mut now = Clock.now();
        let end = now + SEND_TIME;
        while more && total < SEND_PER_TURN && now < end {
            self.datagrams.clear();
            while self.datagrams.len() < GATHER {
                let before = self.datagrams.len();
                self.side.poll_transmit(&mut self.datagrams, now);
                // A new handshake begins by an event that has to be dealt with before it is sent.
                if self.tell()? {
                    now = Clock.now();
                }
                more = self.datagrams.len() > before;
                if !more {
                    break;
                }
            }
            total += self.datagrams.len();
            self.send_batch();
            now = Clock.now();
        }
        Ok((total, more))
    }

    /// Sends the gathered datagrams, each run of one link at a time.
    fn send_batch(&mut self) {
        let mut first = 0;
        while let Some((_, route)) = self.datagrams.get(first) {
            let link = route.link;
            let same = self.datagrams.iter().skip(first).take_while(|(_, route)| route.link == link).count();
            let outcome = self.side.send(&self.datagrams, first, first + same);
            self.account(&outcome);
            first += same;
        }
    }

    fn account(&mut self, outcome: &SendOutcome) {
        self.counters.datagrams_out += outcome.sent as u64;
        self.counters.blocked += outcome.blocked as u64;
        let mut last: Option<Route> = None;
        for error in &outcome.errors {
            let counters = &mut self.counters;
            match error.kind {
                SendErrorKind::WouldBlock => counters.blocked += 1,
                SendErrorKind::MessageTooLong => counters.too_large += 1,
                SendErrorKind::Unreachable | SendErrorKind::AddressGone => counters.unreachable += 1,
                SendErrorKind::Firewall => counters.firewalled += 1,
                SendErrorKind::Other(_) => counters.refused += 1,
            }
            let Some((datagram, route)) = self.datagrams.get(error.index) else { continue };
            // A route that is down is told once a batch; sizes are told each, since they differ.
            if error.kind == SendErrorKind::MessageTooLong || last != Some(*route) {
                self.side.handle_refusal(*route, datagram.len(), error.kind, Clock.now());
                last = Some(*route);
            }
        }
    }

    /// Passes the bond's events on. Whether there were any: one of them may have waited for the disk.
    fn tell(&mut self) -> Result<bool, EngineError> {
        let mut told = false;
        while let Some(event) = self.side.poll_event()? {
            told = true;
            self.publish_at = Timestamp::ZERO;
            if self.events.try_send(event).is_err() {
                self.counters.events_lost += 1;
            }
        }
        Ok(told)
    }

    fn publish(&mut self, now: Timestamp) {
        if now < self.publish_at {
            return;
        }
        let status = EngineStatus { at: now, bond: self.side.status(now), io: self.counters };
        if self.board.publish(Arc::new(status)) {
            self.publish_at = now + PUBLISH;
        }
    }
}
