//! Whole bonds over netem in virtual time: what a bond makes of links, traffic and accidents, exactly repeatable, and
//! faster than real time.
//!
//! A [`World`](world::World) has a [`Network`](network::Network) (one plain link, or a whole [`Bonded`](bonded::Bonded)
//! client and server over the links of a scenario), hosts on both sides that send [`traffic`], and a
//! [`Ledger`](ledger::Ledger) that judges each delivered packet: ours, unchanged, once, in order where order is
//! promised. Time jumps from deadline to deadline; the same seed gives the same run.
//!
//! The inner [TCP](tcp) is modelled after a Linux sender, since a bond is worth what an ordinary TCP makes of it.
//! [`report`] measures goodput in the terms of the project's targets, [`random`] makes up scenarios.
#![forbid(unsafe_code)]

mod access;
pub mod bonded;
pub mod check;
pub mod ledger;
pub mod neighbour;
pub mod network;
pub mod packet;
mod quic;
pub mod random;
pub mod report;
mod shared;
pub mod sweep;
pub mod tcp;
pub mod traffic;
pub mod trial;
pub mod world;

pub use access::AccessDrops;
