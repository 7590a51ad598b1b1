//! The bond: one connection over many paths, as state machines without a clock, a socket or a thread.
//!
//! [`Client`] and [`Server`] are the two ends. Both speak in four verbs: `handle_*` tells them what the world did (datagrams and inner packets
//! arrive in batches), `poll_*` asks what they want of it, commands change them, and time comes in as the last argument. Between them stands a
//! *session* under one set of keys, with up to sixteen *paths*.
//!
//! A packet's way out: the tunnel's batch → its flow's queue (`ingress`) → a path by earliest arrival (`session::schedule`) → kept for repair if its flow is ordered
//! (`store`) → sealed in place in the batch to be sent (`session::send`). And in: opened in place (`session::receive`) → copies dropped, order restored per flow
//! (`order`) → the batch for the tunnel.
//!
//! Bounds: each session's memory is given at construction and divided between its queues; what each of them holds at most stands in
//! its module.
#![forbid(unsafe_code)]

mod client;
mod codel;
mod ingress;
mod meter;
mod order;
mod pool;
mod random;
mod realtime;
mod reassembly;
mod server;
mod session;
mod smoothing;
mod store;
mod types;
mod waiting;

pub use bondwire_path::PathState;
pub use bondwire_wire::LinkPriority;
pub use client::{Client, ClientConfig, MAX_LINKS};
pub use ingress::{IngressCounters, MAX_FLOWS};
pub use order::OrderCounters;
pub use realtime::{
    DirectionStatus, MAX_RULES, MAX_STREAMS, Rule, RuleClass, Rules, StreamChange, StreamReason, StreamStatus,
};
pub use server::{Server, ServerConfig};
pub use types::{
    Arrival, ArrivalBatch, ClientEvent, ClientRecord, ClientState, ClientStatus, Counters, DatagramBatch,
    DropCounters, DropReason, LinkAttempt, LinkRules, LinkUp, Parameters, PathChange, PathStatus, Route,
    ServerEvent, ServerStatus, SessionStatus,
};
