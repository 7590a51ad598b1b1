//! The local load balancer's proxy way: one port that speaks SOCKS5 and HTTP, one link per socket.
//!
//! A client connects and says where to; the [`Director`] (the policy) names a link; the connect races over more links if the
//! first does not answer; then the two sockets are joined until both have finished. The client's first byte tells which protocol it
//! speaks. [`Forwarder`] is the same for names: a DNS server whose queries race over the links.
//!
//! Life-cycle: [`Proxy::bind`] listens, [`Proxy::run`] serves on threads of its own until [`ProxyHandle::stop`];
//! the handle carries the policy's events in: [`evict`](ProxyHandle::evict) resets a link's TCP sockets so that applications
//! reconnect, [`move_flow`](ProxyHandle::move_flow) gives a UDP flow another link.
//!
//! Threads: one event loop per processor, clients stay on the thread that took them, and nothing is locked per byte. Data is spliced
//! in the kernel where it comes in large pieces and copied where it does not.
//!
//! Bounds: [`Limits`] has them all. An idle connection holds two sockets and about 2 KiB, no buffer and no pipe; one whose
//! receiver is slow holds 16 KiB or one pipe for each direction.
//!
//! No privilege is needed: sockets are tied to links by `SO_BINDTODEVICE` (Linux 5.7) and source address. See docs/balance.md.
#![forbid(unsafe_code)]

mod buffered;
mod client;
mod config;
mod connect;
mod director;
pub mod dns;
mod error;
mod http;
mod lease;
mod outbound;
mod race;
mod relay;
mod server;
mod socks;
mod worker;

pub use config::{Config, Evicted, Limits, Login, Timeouts};
pub use director::{
    Director, Failure, Links, Placement, Refusal, Request, Route, SocketId, Traffic, Transport,
};
pub use dns::Forwarder;
pub use error::BindError;
pub use server::{Counters, Proxy, ProxyHandle};
