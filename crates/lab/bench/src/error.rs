use std::io;

use bondwire_netns::{LabError, TrafficError};

/// Why a row has no figures.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The lab could not do what it was told.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A generator has no result.
    #[error(transparent)]
    Traffic(#[from] TrafficError),
    /// A QUIC transfer has no result; its words.
    #[error("the QUIC transfer has no result: {0}")]
    Quic(String),
    /// The environment: a file could not be written.
    #[error("cannot {what}: {source}")]
    File {
        /// What was to be done.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The environment: a rival's program failed.
    #[error("`{command}` failed: {why}")]
    Tool {
        /// What was called.
        command: String,
        /// What it said.
        why: String,
    },
    /// The caller: a scenario that a row cannot be measured on.
    #[error("{0}")]
    Scenario(String),
    /// Something was not as it has to be, and the fixture gave up; its words.
    #[error("{0}")]
    GaveUp(String),
}
