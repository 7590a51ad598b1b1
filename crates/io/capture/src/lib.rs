//! Leads sockets to links inside the kernel: whoever opens one has to know nothing, and no byte passes through user space.
//!
//! [`Capture::attach`] gives each link a routing table and a mark, and then marks sockets for links in one of two [ways](Way):
//! programs of a cgroup that see each `connect` and each `sendto` (`bpf/capture.bpf.c`), or, where those are not allowed, nftables
//! rules that see each flow's first packet. Flows of a LAN behind this machine always go the second way. A [`Plan`] says
//! which link takes how much; the kernel follows it by itself, and tells of each socket by [`Capture::poll_event`].
//!
//! **Life-cycle.** `attach`, then [`Capture::apply`] as often as the plan changes, [`Capture::refresh`] when links or routes change,
//! [`Capture::move_link`] when a link dies and [`Capture::restore_link`] when it is back; [`Capture::detach`] or a drop ends it.
//! Until the first plan nothing is captured. Every change of the machine goes through [`bondwire_netctl::Changes`], so that it is undone
//! after `kill -9` too; the programs hang on descriptors of this process and vanish with it.
//!
//! **Left alone**: other network namespaces; loopback, link-local, multicast and broadcast destinations; destinations for which the main
//! table has a route that is more specific than a default; sockets that are bound to an address or an interface, or that
//! carry a mark; UDP servers (sockets that received before they sent); UDP sockets that only send and were open before; this process itself.
//!
//! **Bounds.** 16 links, 128 rules with ports, protocols, users or commands, 16,384 rules that are a prefix alone, 128 sticky ports, 512 interactive
//! ones, 16,384 sites (the least recently used goes first), 16,384 routes, 32 addresses of links that lost them, 1 MiB of events (about 8,700; what does not fit is
//! counted). 64 bytes of kernel memory for each captured socket, which go with it.

#![deny(unsafe_code)]

mod capture;
mod cgroup;
mod compile;
mod error;
mod event;
mod hook;
mod kept;
#[allow(unsafe_code, reason = "the kernel's maps take plain memory")]
mod layout;
mod links;
mod nft;
mod plan;
mod socket;
mod support;

#[cfg(test)]
mod tests;

pub use capture::{Capture, Config, DnsRedirect, SharedChanges};
pub use error::CaptureError;
pub use event::{CapturedSocket, Event, Reason};
pub use plan::{
    Action, ClassPort, LinkName, LinkPlan, MARKS, MAX_LINKS, Plan, Protocol, Rule, Slot, limits, mark_of,
    slot_of,
};
pub use support::{Support, Way};
