//! The control API: what a running bondwire tells, and what it can be told, over HTTP and JSON on a unix socket.
//!
//! Three parts stand on the same types ([`Status`], [`Clients`], [`Streams`], [`Sockets`], [`Mode`], [`Fault`]):
//!
//! - [`ControlServer`] binds the socket, owner-only, and answers from a [`Control`] that the daemon implements.
//!   It runs on a thread and a runtime of its own, so that the data plane never waits for it.
//! - [`ControlClient`] is the other end, one blocking call per request; the command line uses nothing else.
//! - [`Fault`] is the one form of every error that a person sees: what happened, why, and what to do.
//!
//! Routes, all below `/v1`: `GET info`, `GET status`, `GET clients`, `GET links`, `PATCH links`, `GET streams`, `GET sockets`, `PUT mode`, `POST down`.
//! Rates are bits per second, times milliseconds, ratios 0 to 1; the unit stands in the JSON name, since JSON has no types.
//!
//! Bounds: at most [`MAX_CONNECTIONS`] connections at a time and [`MAX_BODY`] bytes of request body.
#![forbid(unsafe_code)]

mod client;
mod fault;
mod links;
mod listener;
mod server;
mod sockets;
mod streams;
mod types;

pub use client::ControlClient;
pub use fault::{Fault, FaultKind};
pub use links::{LinkAnswer, LinkChange, LinkEntry, LinkKey, LinkRequest, Links, Priority};
pub use listener::{MAX_CONNECTIONS, SocketLock};
pub use server::{Control, ControlServer, MAX_BODY};
pub use sockets::{SocketEntry, Sockets};
pub use streams::{StreamDirection, StreamEntry, Streams};
pub use types::{
    ClientEntry, ClientState, Clients, Info, LinkStatus, Mode, ModeAnswer, ModeChange, Role, Status, Totals,
};

#[cfg(test)]
mod tests;
