//! The Local Load Balancer's policy: which link a socket takes. Pure: no clock, no sockets, no threads.
//!
//! One state machine, [`Balancer`], serves both ways in (a proxy, or a program in the kernel). It hears of each
//! socket from its opening to its end, of the bytes on each link, and of the answers to its own probes; it says
//! where a new socket goes, which links work, and what the kernel may decide by itself.
//!
//! Life of a TCP socket: [`Balancer::open`] (or [`Balancer::adopt`], if the kernel chose) → `handle_connecting` →
//! `handle_connected`, or no answer within its patience → [`Balancer::next_link`] → … → `handle_bytes` now and
//! then → `handle_closing` → `handle_closed`. A UDP flow has no connect, ends by age, and may be moved.
//!
//! Drive it like this: after any call look at [`Balancer::poll_event`] and [`Balancer::poll_probe`] until both
//! are empty, and call [`Balancer::handle_timeout`] when [`Balancer::poll_timeout`] says so. Feed
//! [`Balancer::handle_link_counters`] every 100 to 250 ms: capacity, load, and the quick finding of a dead link
//! come from there.
//!
//! Bounds: 32 links, [`Config::max_sockets`] sockets, [`Stickiness::max_sites`] sites, 1,024 rules, 4,096 addresses
//! of names, 256 probes under way, 512 events (beyond that the oldest is lost; a snapshot shows what they led to). No event costs
//! more than O(log n) of them; remaking the plan and the snapshot cost O(links + rules).
#![forbid(unsafe_code)]

mod balancer;
mod chains;
mod config;
mod delay;
mod event;
mod flows;
mod health;
mod link;
mod meter;
mod plan;
mod ports;
mod probes;
mod request;
mod rules;
mod shares;
mod sites;
#[cfg(test)]
mod tests;

pub use balancer::Balancer;
pub use config::{
    Action, Config, LinkConfig, LinkKind, MAX_LINKS, MAX_RULES, MAX_TARGETS, Match, Ports, Prefix, Priority,
    ProbeConfig, ProbeMethod, Rule, Stickiness, Target, interactive_ports,
};
pub use event::{Event, Evidence, LinkState, LinkStatus, Probe, ProbeId, Snapshot, SocketStatus};
pub use plan::{KernelAction, KernelPlan, KernelRule, PlanLink, WEIGHTS};
pub use request::{
    ConnectFailure, Placement, Reason, Refusal, Request, SocketId, Stage, TcpSample, Transport,
};
