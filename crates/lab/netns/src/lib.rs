//! A private internet in network namespaces, on one machine, without root where user namespaces are allowed.
//!
//! ```text
//!            wan0 ┌──────────┐        ┌──────────┐
//!          ┌──────┤ emulator ├────────┤ provider ├──────┐       ┌────────┐
//! ┌────────┤      └──────────┘        └──────────┘   ┌──┴───┐ ┌─┤ server │
//! │ client │wan1  ┌──────────┐        ┌──────────┐   │ core ├─┘ └────────┘
//! └────────┤ ─────┤ emulator ├────────┤ provider ├───┤      ├─┐ ┌─────┐
//!          └──────┤          ├───…    └──────────┘   └──────┘ └─┤ web │
//!                 └──────────┘                                  └─────┘
//! ```
//!
//! [`Lab::build`] makes it from a scenario: a client with one interface per link, each with its own network, gateway and
//! default route; a provider per link, if the scenario says so with NAT; a core router; a bonding server and a web
//! host. Between the client and each provider stands the [`Emulator`], which does to packets what the scenario says.
//! Links can be cut, restored and changed while it runs, by hand or by the scenario's events ([`Lab::play`]).
//!
//! A machine is a [`Node`]: it runs closures, threads and processes in its namespace. [`traffic`] has generators to run
//! on nodes: TCP transfers and UDP probes that measure goodput, gaps, delay and loss.
//!
//! **Life-cycle.** A program calls [`enter`] first, a test wraps its body in [`isolated_test`]: both put the process
//! into a PID, mount, network and, without root, user namespace of its own. The lab's namespaces have no names and are
//! held by threads and processes alone, so that nothing is left behind, however the program ends.
//!
//! **Bounds.** At most 16 links; each holds two rings of 4 MiB for frames that arrive, and what its queues and delays
//! hold. Needs `unshare` (util-linux), veth and packet sockets; no `ip`, no `tc`, no kernel emulator, no /dev/net/tun.
#![forbid(unsafe_code)]

mod clock;
mod emulator;
mod error;
mod isolate;
mod lab;
mod netlink;
mod node;
pub mod traffic;

pub use clock::now;
pub use emulator::{DirectionReport, Emulator, EmulatorReport, LinkReport, Percentiles};
pub use error::{LabError, TrafficError};
pub use isolate::{IsolationError, enter, isolated_test};
pub use lab::{Host, Lab, LabOptions, LinkAddresses, Player};
pub use node::Node;
