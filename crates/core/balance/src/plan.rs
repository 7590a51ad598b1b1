//! What the kernel's program needs to choose by itself.
//!
//! The program sees a socket at connect time and has no time for more than a table look-up, so the plan is a
//! table: weights for the sockets of the next moments, which are the same choice as [`crate::Balancer::open`]
//! would make, taken ahead. It is remade when load, health or rules change.

use core::net::IpAddr;
use core::ops::RangeInclusive;
use core::time::Duration;

use bondwire_units::LinkId;

use crate::config::{Ports, Prefix, Priority};
use crate::event::LinkState;
use crate::request::Transport;

/// The sum of a class's weights.
pub const WEIGHTS: u16 = 1000;

/// A plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KernelPlan {
    /// Rises with each change.
    pub version: u64,
    /// Weights for sockets of unknown size, summing to [`WEIGHTS`]; empty if no link may be used.
    pub bulk: Vec<(LinkId, u16)>,
    /// Weights for interactive sockets, the same way.
    pub interactive: Vec<(LinkId, u16)>,
    /// Which sockets are interactive.
    pub interactive_ports: Vec<Ports>,
    /// Which sockets keep their site's link.
    pub sticky_ports: Vec<Ports>,
    /// For how long after the last one.
    pub sticky_time: Duration,
    /// In order; the first that matches decides.
    pub rules: Vec<KernelRule>,
    /// Every link, in the order of their numbers.
    pub links: Vec<PlanLink>,
}

/// A link in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLink {
    /// The link.
    pub link: LinkId,
    /// Its health.
    pub state: LinkState,
    /// Its priority.
    pub priority: Priority,
    /// Whether sticky sites stay on it: it works, and is not so full that they should look elsewhere.
    pub keeps_sites: bool,
    /// Where its mark should point while it is lost: failed and not yet trusted again, gone, or `never`. None while it may work (failing is a
    /// doubt), or if no other link works. It stays with one link for as long as that works.
    pub fallback: Option<LinkId>,
}

/// A rule that the kernel can decide. Rules by host name stand here with the addresses that the name resolved
/// to ([`crate::Balancer::handle_name`]).
#[derive(Clone, Debug, PartialEq)]
pub struct KernelRule {
    /// The remote address.
    pub prefix: Option<Prefix>,
    /// The remote port.
    pub ports: Option<RangeInclusive<u16>>,
    /// The transport.
    pub transport: Option<Transport>,
    /// The process's name, as the kernel has it: at most 15 bytes.
    pub process: Option<String>,
    /// The process's user.
    pub uid: Option<u32>,
    /// What to do.
    pub then: KernelAction,
}

impl KernelRule {
    /// The rule for one address.
    pub(crate) fn narrowed(mut self, address: IpAddr) -> Self {
        let length = if address.is_ipv4() { 32 } else { 128 };
        self.prefix = Some(Prefix { address, length });
        self
    }
}

/// What the kernel does with a socket that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelAction {
    /// Mark it for this link.
    Link(LinkId),
    /// Choose as usual, without this link.
    Avoid(LinkId),
    /// Choose as usual: the rule names a link that does not work, or is not there. Later rules do not count.
    Choose,
    /// Leave it alone.
    Bypass,
    /// Refuse it (EPERM): its rule names one link only, which does not work.
    Refuse,
}

impl KernelPlan {
    /// `weights` as a sequence of `length` choices in which each link's are spread evenly: a program that takes
    /// one after the other has the right shares after few sockets, which dice have after many.
    pub fn sequence(weights: &[(LinkId, u16)], length: usize) -> Vec<LinkId> {
        let total: i64 = weights.iter().map(|&(_, weight)| i64::from(weight)).sum();
        let mut credit = vec![0_i64; weights.len()];
        let mut sequence = Vec::with_capacity(length);
        while total > 0 && sequence.len() < length {
            for (credit, &(_, weight)) in credit.iter_mut().zip(weights) {
                *credit += i64::from(weight);
            }
            let best = (0..credit.len()).max_by_key(|&i| (credit[i], usize::MAX - i)).unwrap_or_default();
            credit[best] -= total;
            sequence.push(weights[best].0);
        }
        sequence
    }
}
