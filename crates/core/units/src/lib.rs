//! Units as types: a number that has a dimension carries it in its type, never in a suffix of its name.
//!
//! Time is [`Timestamp`], nanoseconds since an origin that the caller chooses (the core never reads a clock);
//! spans of time are [`core::time::Duration`]. Rates are [`Bitrate`] (bits per second), sizes are [`ByteCount`].
//! Identifiers ([`LinkId`], [`PathId`], [`SessionId`]) are newtypes that cannot be swapped for one another.
#![forbid(unsafe_code)]

mod ids;
mod rate;
mod time;

pub use ids::{LinkId, PathId, SessionId};
pub use rate::{Bitrate, ByteCount, ParseBitrateError};
pub use time::{Deadline, Timestamp};
