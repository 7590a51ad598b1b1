//! The tables of the project's targets: bonds, single links and rivals, measured on the same emulated links in one run.
//!
//! A [`Stand`] is a lab with a server and a client in it, built from a scenario. Each row of the targets is one function
//! of [`rows`]: it starts what it compares, one after the other, on the stand's links, and returns [`Figure`]s, each with
//! its target. [`run`] takes all rows through all profiles, directions and runs into a [`Report`], which says medians,
//! ranges and on what machine, and how late the emulator was: a late emulator measures the machine and not the bond.
//!
//! [`fixture`] is what the stand is made of, and what the end-to-end tests of the `bondwire` command use too.
//!
//! **Life-cycle.** [`bondwire_netns::enter`] comes first; all runs inside. Every transfer and wait has a limit, and all
//! processes and namespaces end with the program.
//!
//! **Bounds.** One stand at a time; a timeline takes 800 bytes per second, a probe 32 bytes per packet.
#![forbid(unsafe_code)]

pub mod balance;
mod error;
mod figure;
pub mod fixture;
mod machine;
mod measure;
mod peers;
mod plan;
mod quic;
mod report;
pub mod rows;
mod series;
mod stand;

pub use error::BenchError;
pub use figure::{Figure, Target, Unit, median};
pub use machine::{Conditions, Machine};
pub use measure::run;
pub use peers::Peer;
pub use plan::{Plan, Settings};
pub use quic::{Quic, QuicOptions, QuicReport};
pub use report::{Measurement, Report};
pub use series::Series;
pub use stand::{Cleanup, Stand, Way};
