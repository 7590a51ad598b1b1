//! The data plane: one thread that drives the bond with sockets and the tunnel device.
//!
//! A turn of the thread: wait for packets, a command or the bond's deadline → take commands → read each socket that has something, once → read the
//! tunnel, once → let the bond do what is due → hand its inner packets to the tunnel and its datagrams to the sockets → publish the status when it is time.
//! Every step is bounded, so neither side starves the other, and the tunnel is always drained: what the bond cannot take it drops by its own rules.
//! Nothing waits for the control plane: status goes out by exchanging a pointer, if nobody holds it just then; events go into a bounded queue.
//!
//! [`spawn_client`] and [`spawn_server`] start it and return an [`EngineHandle`], through which commands go in and
//! status and events come out. When the thread ends by itself, by an error or by a panic, the event queue closes and [`EngineHandle::stop`] tells why.
//!
//! Bounds: [`EVENTS`] events and [`COMMANDS`] commands wait at most; batches of the sizes in `worker`; all else is the bond's.
#![forbid(unsafe_code)]

mod client;
mod clock;
mod error;
mod handle;
mod server;
mod status;
mod worker;

#[cfg(test)]
mod tests;

pub use client::{ClientCommand, ClientHandle, ClientSetup, LinkSetup, Persist, spawn_client};
pub use clock::{Clock, unix_micros, unix_seconds};
pub use error::EngineError;
pub use handle::{COMMANDS, EVENTS, EngineEvent, EngineHandle};
pub use server::{ServerCommand, ServerHandle, ServerSetup, spawn_server};
pub use status::{EngineStatus, IoCounters};
