//! SIGINT, SIGTERM and SIGHUP as something that can be waited for.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Whether the demo was told to end.
#[derive(Debug)]
pub(super) struct Stop {
    told: Receiver<()>,
}

impl Stop {
    /// Takes the signals over, for the rest of the process' life.
    ///
    /// # Errors
    /// The system refuses it.
    pub(super) fn install() -> io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("signals".into()).spawn(move || {
            // The first one closes the channel, which stays so.
            if signals.forever().next().is_some() {
                drop(tell);
            }
        })?;
        Ok(Self { told })
    }

    /// Waits; returns true as soon as the demo is told to end, or was before.
    pub(super) fn wait(&self, time: Duration) -> bool {
        self.told.recv_timeout(time) == Err(RecvTimeoutError::Disconnected)
    }
}
