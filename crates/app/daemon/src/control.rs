//! What the control API sees of a daemon, and what it leaves for it to do.
//!
//! The main thread publishes a status at every turn, at most [`EVERY`] old; the API's thread reads it, leaves commands, and
//! wakes the main thread. Neither waits for the other longer than a copy takes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bondwire_api::{Clients, Control, Fault, Info, Mode, ModeAnswer, Role, Status, Streams};

use crate::wake::Waker;

/// How often a status is published at least.
pub(crate) const EVERY: Duration = Duration::from_millis(200);

/// The place where the two threads meet.
#[derive(Debug)]
pub(crate) struct Meeting {
    role: Role,
    waker: Waker,
    shared: Mutex<Shared>,
}

#[derive(Debug)]
struct Shared {
    status: Status,
    clients: Clients,
    streams: Streams,
    mode: Option<Mode>,
    stop: bool,
}

impl Meeting {
    /// A place with this first status.
    pub(crate) fn new(status: Status, waker: Waker) -> Self {
        let role = status.role;
        let shared = Shared {
            status,
            clients: Clients::default(),
            streams: Streams::default(),
            mode: None,
            stop: false,
        };
        Self { role, waker, shared: Mutex::new(shared) }
    }

    /// Shows a new status.
    pub(crate) fn publish(&self, status: Status) {
        self.lock().status = status;
    }

    /// Shows a new list of clients.
    pub(crate) fn publish_clients(&self, clients: Clients) {
        self.lock().clients = clients;
    }

    /// Shows the real-time flows as they are now.
    pub(crate) fn publish_streams(&self, streams: Streams) {
        self.lock().streams = streams;
    }

    /// The mode that was asked for since the last call.
    pub(crate) fn take_mode(&self) -> Option<Mode> {
        self.lock().mode.take()
    }

    /// Whether the daemon was asked to end.
    pub(crate) fn stop_asked(&self) -> bool {
        self.lock().stop
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // All that is kept is replaced as a whole: a panic cannot leave half of it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control for Meeting {
    fn info(&self) -> Info {
        Info { pid: std::process::id(), role: self.role, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn status(&self) -> Status {
        self.lock().status.clone()
    }

    fn clients(&self) -> Result<Clients, Fault> {
        match self.role {
            Role::Server => Ok(self.lock().clients.clone()),
            Role::Client => Err(Fault::usage(
                "there are no clients here",
                "this bondwire is a client itself",
                "ask the server: `bondwire server clients` there",
            )),
        }
    }

    fn streams(&self) -> Streams {
        self.lock().streams.clone()
    }

    fn set_mode(&self, mode: Mode) -> Result<ModeAnswer, Fault> {
        if self.role == Role::Server {
            return Err(Fault::usage(
                "the mode was not changed",
                "a server has none of its own: each client chooses its mode",
                "run `bondwire mode` on the client",
            ));
        }
        let mut shared = self.lock();
        shared.mode = Some(mode);
        shared.status.mode = Some(mode);
        drop(shared);
        self.waker.wake();
        Ok(ModeAnswer { mode, remark: mode.remark().map(str::to_owned) })
    }

    fn down(&self) {
        self.lock().stop = true;
        self.waker.wake();
    }
}
