//! Where a bondwire keeps its things.

use std::path::{Path, PathBuf};

use bondwire_api::{Fault, SocketLock};

/// The three places that every command accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders {
    /// `--config-dir`: configuration, identity, keys, clients.
    pub config: PathBuf,
    /// `--state-dir`: what a running daemon has to remember: the journal, timestamps.
    pub state: PathBuf,
    /// `--socket`: the control socket.
    pub socket: PathBuf,
}

impl Folders {
    /// A file of the configuration folder.
    pub fn config_file(&self, name: &str) -> PathBuf {
        self.config.join(name)
    }

    /// The folder of the server's clients.
    pub fn clients(&self) -> PathBuf {
        self.config.join("clients")
    }

    /// Takes the state folder for this process, so that two daemons never write one journal.
    ///
    /// # Errors
    /// Another process has it (the message names its pid), or the folder cannot be used.
    pub fn lock_state(&self) -> Result<SocketLock, Fault> {
        match SocketLock::acquire(&self.state_lock()) {
            Ok(Ok(lock)) => Ok(lock),
            Ok(Err(pid)) => Err(Fault::failed(
                "bondwire is running already",
                format!("another bondwire (process {pid}) uses the state folder {}", self.state.display()),
                "stop it with `bondwire down`, or run a second one with its own --state-dir, --socket and --config-dir",
            )),
            Err(error) => Err(Fault::from_io(
                format!("cannot use the state folder {}", self.state.display()),
                &error,
                "choose another with --state-dir",
            )),
        }
    }

    fn state_lock(&self) -> PathBuf {
        Path::new(&self.state).join("lock")
    }
}
