//! What bondwire asks of the system's network: links are observed, and routes, rules, sysctls and nftables are changed so that they can be put back.
//!
//! [`Netlink`] is a small synchronous rtnetlink client: it lists links, routes and rules, and sets up the tunnel device. [`Watcher`] tells
//! when links come, change and go. [`Changes`] is the only way to alter what outlives the process:
//! each [`Change`] is written to a [`journal`](Journal) and synced to disk before it is made, and undone in reverse order by
//! [`Changes::undo`], when the value is dropped, or after a crash by [`Journal::recover`].
//!
//! The plans turn an intention into changes: [`Changes::route_link`] gives a link a routing table of its own,
//! [`Changes::default_through`] leads the machine's traffic into the tunnel without touching its default routes,
//! [`Changes::forwarding_and_nat`] makes a server forward, [`Changes::mark_link`] leads marked sockets to a link, [`forget_marked`] makes
//! connection tracking forget the flows of a link that died, and [`tracked_flows`] lists those that it knows.
//!
//! All of it works in any network namespace where the caller has `CAP_NET_ADMIN`, so also in a user namespace without root.
//! Bounds: lists are as long as the kernel's; the journal grows by one short line per change and is removed when all are undone.

#![deny(unsafe_code)]

mod change;
mod changes;
mod conntrack;
mod error;
mod firewall;
mod journal;
mod kind;
mod link;
mod model;
mod netlink;
mod nft;
mod plan;
mod sysctl;
mod tracked;
mod watch;

#[cfg(test)]
mod tests;

pub use change::Change;
pub use changes::{Changes, UndoFailure};
pub use conntrack::forget_marked;
pub use error::NetError;
pub use firewall::{FirewallWarning, foreign_firewalls};
pub use journal::{Journal, Recovery};
pub use kind::LinkKind;
pub use link::{Gateway, Link, LinkAddress};
pub use model::{Family, Prefix, Route, RouteKind, Rule};
pub use netlink::Netlink;
pub use nft::probe as probe_nft;
pub use plan::{FIRST_TABLE, Forwarding, Ipv6Policy, LAST_TABLE, RULE_PRIORITIES};
pub use tracked::{FlowStage, MAX_FLOWS, TrackedFlow, tracked_flows};
pub use watch::{LinkEvent, Watcher};
