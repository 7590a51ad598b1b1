use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TrySendError};
use std::thread::JoinHandle;
use std::time::Duration;

use bondwire_tun::Device;
use bondwire_udp::OpenError;
use bondwire_units::LinkId;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::OwnedFd;

use crate::clock::Clock;
use crate::error::EngineError;
use crate::status::{Board, EngineStatus};
use crate::worker::{Side, Worker};

/// Events that wait for the control plane at most; later ones are counted and dropped.
pub const EVENTS: usize = 4_096;
/// Commands that wait for the data plane at most; a caller waits for room.
pub const COMMANDS: usize = 256;
/// The data plane has so long to say goodbye.
const FAREWELL: Duration = Duration::from_secs(1);

/// What the data plane tells.
#[derive(Debug)]
pub enum EngineEvent<E> {
    /// The bond's own event.
    Bond(E),
    /// A link's sockets could not be opened; it stays unused until the next `LinkUp`.
    LinkFailed {
        /// The link.
        id: LinkId,
        /// Its name.
        name: String,
        /// Why.
        error: OpenError,
    },
}

#[derive(Debug)]
pub(crate) enum Message<C> {
    Command(C),
    Close,
}

/// The control plane's end of a running data plane.
///
/// Dropping it closes the session and lets the thread end by itself; [`EngineHandle::stop`] waits for that.
#[derive(Debug)]
pub struct EngineHandle<C, E, B> {
    commands: SyncSender<Message<C>>,
    wake: Arc<OwnedFd>,
    board: Arc<Board<EngineStatus<B>>>,
    events: Option<Receiver<EngineEvent<E>>>,
    done: Receiver<Result<(), EngineError>>,
    thread: Option<JoinHandle<()>>,
}

impl<C, E, B> EngineHandle<C, E, B> {
    /// Starts the thread.
    pub(crate) fn spawn<S>(mut side: S, device: Device) -> Result<Self, EngineError>
    where
        S: Side<Command = C, Event = E, Status = B> + Send + 'static,
        C: Send + 'static,
        E: Send + 'static,
        B: Send + Sync + 'static,
    {
        let system =
            |what| move |source: rustix::io::Errno| EngineError::System { what, source: source.into() };
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(system("make an event descriptor"))?;
        let wake = Arc::new(wake);
        let (command_sender, commands) = mpsc::sync_channel(COMMANDS);
        let (events, event_receiver) = mpsc::sync_channel(EVENTS);
        let (done_sender, done) = mpsc::sync_channel(1);
        let now = Clock.now();
        let first = EngineStatus { at: now, bond: side.status(now), io: Default::default() };
        let board = Arc::new(Board::new(first));
        let worker = Worker::new(side, device, commands, Arc::clone(&wake), events, Arc::clone(&board));
        let body = move || {
            let result = catch_unwind(AssertUnwindSafe(|| worker.run()));
            let result = result.unwrap_or_else(|panic| Err(EngineError::Panicked(words_of(&*panic))));
            // The handle may be gone: then nobody asks.
            let _ = done_sender.send(result);
        };
        let thread = std::thread::Builder::new()
            .name("bondwire-data".to_owned())
            .spawn(body)
            .map_err(|source| EngineError::System { what: "start the data plane's thread", source })?;
        Ok(Self {
            commands: command_sender,
            wake,
            board,
            events: Some(event_receiver),
            done,
            thread: Some(thread),
        })
    }

    /// Sends a command. False if the data plane has ended.
    pub fn send(&self, command: C) -> bool {
        self.post(Message::Command(command))
    }

    /// Asks the data plane to end the session and itself, without waiting for it.
    pub fn close(&self) {
        // A full queue of commands is emptied first, a closed one means that the end has come already.
        self.post(Message::Close);
    }

    fn post(&self, message: Message<C>) -> bool {
        // Woken before and after: a full queue is emptied by a thread that is awake.
        let delivered = match self.commands.try_send(message) {
            Ok(()) => true,
            Err(TrySendError::Full(message)) => {
                self.wake();
                self.commands.send(message).is_ok()
            }
            Err(TrySendError::Disconnected(_)) => false,
        };
        self.wake();
        delivered
    }

    fn wake(&self) {
        // Only an overflow of 2^64 could fail, and then it is awake.
        let _ = rustix::io::write(&*self.wake, &1u64.to_ne_bytes());
    }

    /// The newest status, at most some 100 ms old. Never waits for the data plane.
    pub fn status(&self) -> Arc<EngineStatus<B>> {
        self.board.read()
    }

    /// The queue of events; to be taken once. It closes when the data plane ends, by whatever cause.
    pub fn take_events(&mut self) -> Option<Receiver<EngineEvent<E>>> {
        self.events.take()
    }

    /// Whether the data plane has ended.
    pub fn is_finished(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the session, and waits for the data plane to end; at most a second.
    ///
    /// # Errors
    /// Why it ended before it was asked to, or that it does not end.
    pub fn stop(mut self) -> Result<(), EngineError> {
        self.close();
        match self.done.recv_timeout(FAREWELL) {
            Ok(result) => {
                if let Some(thread) = self.thread.take() {
                    // It has told its result and is past its last step; a panic was caught inside.
                    let _ = thread.join();
                }
                result
            }
            Err(RecvTimeoutError::Timeout) => Err(EngineError::Stuck),
            Err(RecvTimeoutError::Disconnected) => Err(EngineError::Panicked("no reason known".to_owned())),
        }
    }
}

impl<C, E, B> Drop for EngineHandle<C, E, B> {
    fn drop(&mut self) {
        if !self.is_finished() {
            self.close();
        }
    }
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no words".to_owned())
}
