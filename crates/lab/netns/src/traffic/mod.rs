//! Traffic generators for the lab's machines, bounded in time and memory.
//!
//! - [`BulkServer`] and [`Bulk`]: one TCP connection that moves as much as it can, or a given amount, in one direction;
//!   what arrives is compared with what was sent, and goes into a [`Timeline`].
//! - [`Probe`]: a UDP flow of constant rate and size whose packets carry a number and the time of sending. All machines
//!   share one clock, so one-way delays are simply differences.
//!
//! Both ends run in this process, on threads in the machines' namespaces; the receiving end's results are there as soon
//! as it has ended, whatever happened to the network.

mod bulk;
mod content;
mod probe;
mod probe_report;
mod server;
mod socket;
mod timeline;

pub use bulk::{Bulk, BulkOptions, BulkReport};
pub use content::Content;
pub use probe::{Probe, ProbeOptions};
pub use probe_report::{ProbeReport, Received};
pub use server::BulkServer;
pub use timeline::Timeline;

/// Which way the payload goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the machine that opens the connection or flow.
    Up,
    /// To the machine that opens the connection or flow.
    Down,
}
