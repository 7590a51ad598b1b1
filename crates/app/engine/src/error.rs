use std::io;

/// Why the data plane ended, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The tunnel device is gone or broken.
    #[error("the tunnel device failed: {0}\n  another program may have removed it; start bondwire again")]
    Device(#[source] io::Error),
    /// The handshake's timestamp could not be stored, so no handshake may be sent.
    #[error(
        "cannot store the time of the last handshake: {0}\n  without it the server could refuse this client for ever; check that the state directory is writable and not full"
    )]
    Persist(#[source] io::Error),
    /// The kernel refused what every process may have.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The thread panicked.
    #[error(
        "the data plane stopped by an internal error: {0}\n  this is a bug in bondwire: please report it with this message"
    )]
    Panicked(String),
    /// The thread did not end in time.
    #[error("the data plane did not stop within a second\n  this is a bug in bondwire: please report it")]
    Stuck,
}
