//! Asks the client's control socket how it stands, several times a second, so that nobody else has to wait for answers.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bondwire_api::{ControlClient, Status};

const EVERY: Duration = Duration::from_millis(200);

/// The newest answer. It stops asking when it is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    newest: Arc<Mutex<Option<Status>>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts asking.
    ///
    /// # Errors
    /// The system refuses another thread.
    pub(super) fn start(control: &ControlClient) -> io::Result<Self> {
        let newest = Arc::new(Mutex::new(None));
        let (stop, stopped) = mpsc::channel::<()>();
        let (control, theirs) = (control.clone(), Arc::clone(&newest));
        let thread = thread::Builder::new().name("status".into()).spawn(move || {
            while stopped.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
                // A daemon that does not answer shows as figures that stand still; one that is gone is noticed elsewhere.
                if let Ok(status) = control.status() {
                    *theirs.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
                }
            }
        })?;
        Ok(Self { newest, stop: Some(stop), thread: Some(thread) })
    }

    /// The newest answer; none before the first.
    pub(super) fn newest(&self) -> Option<Status> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It cannot fail, and its panic was printed.
            let _ = thread.join();
        }
    }
}
