//! What is known of flows over UDP: which of them are *real-time* (calls, games, live video), which are *bulk*, and how they fare.
//!
//! A flow becomes real-time by what it says (its DSCP), by what the user says ([`Rules`]), by what the peer says
//! (docs/protocol.md, FLOW-1), or by how it behaves (`behaviour`): both directions are watched, each packet costs a few
//! comparisons, and twice a second the last half second is judged. It keeps the class while it behaves so, and loses it some
//! seconds after it stopped, or at once when it takes more than its share ([`Streams::on_misuse`]).
//!
//! [`Streams`] is the table of all of them, one record for both directions of a flow; `arrivals` watches what comes in, without
//! looking into each packet; `preference` is the choice of the path that they take; `stats` counts what became of their packets.
//!
//! Bounds: [`MAX_STREAMS`] records of about half a kilobyte; those that were idle for longest give way to new ones.

mod arrivals;
mod behaviour;
mod format;
mod ports;
mod preference;
mod rhythm;
mod rules;
mod stats;
mod status;
mod streams;
#[cfg(test)]
mod tests;

pub(crate) use arrivals::Arrivals;
pub(crate) use preference::{Preference, score};
pub use rules::{MAX_RULES, Rule, RuleClass, Rules};
pub(crate) use stats::Save;
pub use status::{DirectionStatus, StreamChange, StreamReason, StreamStatus};
pub use streams::MAX_STREAMS;
pub(crate) use streams::{Fate, NO_STREAM, Standing, Streams};
