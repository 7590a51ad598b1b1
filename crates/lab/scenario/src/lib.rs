//! The scenario file: links and what happens to them, read by the simulation, the lab and the benchmarks alike.
//!
//! ```toml
//! name = "example"
//! seed = 7
//!
//! [[links]]
//! name = "wan0"
//! kind = "cellular"
//! up = "10 Mbit/s"
//! down = "50 Mbit/s"
//! delay = "20 ms"         # one way
//! jitter = "5 ms"         # uniform ±, the order is kept
//! loss = "0.1 %"          # in both directions
//! burst = { p = 0.001, r = 0.25 }
//!
//! [[events]]
//! at = "4 s"
//! link = "wan0"
//! do = "silence"
//! ```
//!
//! Rates count IP bytes and are those of the access link; what each term means exactly stands with
//! [`bondwire_netem::PipeConfig`], into which [`Link::pipes`] translates. Unknown keys are refused, and every error
//! names line and column. A [`Scenario`] that exists is valid: its links have distinct names, its events name links
//! that exist and are sorted by time.
#![forbid(unsafe_code)]

mod builtin;
mod error;
mod event;
mod link;
mod raw;
mod scenario;
mod values;

pub use builtin::{BUILTIN, PUBLIC_PROFILES};
pub use error::ScenarioError;
pub use event::{Action, Change, Event};
pub use link::{Link, LinkKind, Queue};
pub use scenario::{MAX_LINKS, Scenario};

#[cfg(test)]
mod tests;
