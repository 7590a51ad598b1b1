//! What the kernel is asked to do, in plain types of this crate.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bondwire_netctl::{Family, Prefix};

use crate::error::CaptureError;

/// A link's number here, below [`MAX_LINKS`]. The caller gives it, and keeps it for as long as the link is known.
pub type Slot = u8;

/// How many links there can be.
pub const MAX_LINKS: usize = 16;

/// The marks of all links begin like this; the rest is the slot plus one.
pub(crate) const MARK_BASE: u32 = 0x0b0d_0000;
/// The part of a mark that says that it is one of ours.
pub(crate) const MARK_MASK: u32 = 0xffff_0000;

/// How the marks of all links are told from others': the value, and the bits that count.
pub const MARKS: (u32, u32) = (MARK_BASE, MARK_MASK);

/// The mark (`SO_MARK`, nftables' `meta mark`) of packets that are to leave by a link. A socket that sets it itself is led there too.
pub const fn mark_of(slot: Slot) -> u32 {
    MARK_BASE + slot as u32 + 1
}

/// The link of a mark, if it is one of ours.
pub fn slot_of(mark: u32) -> Option<Slot> {
    let slot = (mark & !MARK_MASK).checked_sub(1)?;
    (mark & MARK_MASK == MARK_BASE && slot < MAX_LINKS as u32).then_some(slot as Slot)
}

/// The bounds of a plan.
pub mod limits {
    /// Rules that name a port, a protocol, a user or a command.
    pub const RULES: usize = 128;
    /// Rules that are a prefix alone.
    pub const PREFIXES: usize = 16_384;
    /// Sticky ports.
    pub const STICKY_PORTS: usize = 128;
    /// Interactive ports.
    pub const CLASS_PORTS: usize = 512;
    /// Resolvers whose questions are redirected.
    pub const RESOLVERS: usize = 64;
    /// The weights of a class add up to this at most.
    pub const WEIGHTS: u32 = 1_000;
}

/// A link and its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkName {
    /// Its slot.
    pub slot: Slot,
    /// The interface.
    pub name: String,
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Its number in an IP header.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

/// What a plan says of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPlan {
    /// Which one.
    pub slot: Slot,
    /// Its share of bulk sockets, of 1,000.
    pub bulk: u16,
    /// Its share of interactive sockets, of 1,000.
    pub interactive: u16,
    /// It takes new sockets.
    pub open: bool,
    /// Sites that stick to it stay with it. False for a link that is full or failing: they move to another.
    pub keeps_sites: bool,
    /// UDP sockets that have it keep it. False for a dead link.
    pub alive: bool,
    /// Where UDP sockets go when it is dead; without one, by weight.
    pub fallback: Option<Slot>,
    /// How long the first SYN waits for its answer before it is repeated. None is the kernel's own second. Not in the nftables way.
    pub syn_timeout: Option<Duration>,
}

impl LinkPlan {
    /// A link in good health with one share for all; its first SYN is repeated after 300 ms.
    pub const fn healthy(slot: Slot, weight: u16) -> Self {
        Self {
            slot,
            bulk: weight,
            interactive: weight,
            open: true,
            keeps_sites: true,
            alive: true,
            fallback: None,
            syn_timeout: Some(Duration::from_millis(300)),
        }
    }
}

/// A port whose sockets are interactive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassPort {
    /// The remote port.
    pub port: u16,
    /// Of this protocol alone, or of both.
    pub protocol: Option<Protocol>,
}

/// What a rule does with a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leaves it alone: it goes where the main table sends it.
    Bypass,
    /// This link; while it takes no sockets, any other.
    Use(Slot),
    /// This link, dead or alive.
    Only(Slot),
    /// Any link but this, if there is another.
    Avoid(Slot),
    /// As without rules; later ones do not count.
    Choose,
    /// None: the application is told that it may not (`EPERM`); packets of a LAN, and in the nftables way, are dropped.
    Refuse,
}

impl Action {
    pub(crate) const fn slot(self) -> Option<Slot> {
        match self {
            Self::Bypass | Self::Choose | Self::Refuse => None,
            Self::Use(slot) | Self::Only(slot) | Self::Avoid(slot) => Some(slot),
        }
    }
}

/// Which sockets, and what happens to them. What is not named is not looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The remote address.
    pub to: Option<Prefix>,
    /// The remote port.
    pub ports: Option<RangeInclusive<u16>>,
    /// The protocol.
    pub protocol: Option<Protocol>,
    /// The user. Never fits a LAN's flows.
    pub uid: Option<u32>,
    /// The name of the thread that connects or sends, of which the first 15 bytes count; most programs' threads have the program's name. Never fits
    /// a LAN's flows, nor anything in the nftables way.
    pub command: Option<String>,
    /// What happens.
    pub action: Action,
}

impl Rule {
    /// All destinations with this prefix.
    pub const fn to(prefix: Prefix, action: Action) -> Self {
        Self { to: Some(prefix), ports: None, protocol: None, uid: None, command: None, action }
    }

    /// Whether it is a prefix alone.
    pub(crate) fn is_prefix(&self) -> bool {
        let more = (&self.ports, self.protocol, self.uid, &self.command);
        self.to.is_some() && more == (&None, None, None, &None)
    }
}

/// How sockets are spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The links. One that is not named takes nothing.
    pub links: Vec<LinkPlan>,
    /// Ports whose sockets count as interactive; all others are bulk.
    pub interactive: Vec<ClassPort>,
    /// Ports, of TCP and UDP, whose sockets stay with one link for each destination address.
    pub sticky_ports: Vec<u16>,
    /// For so long after the last socket to it.
    pub sticky_for: Duration,
    /// A UDP socket that sent nothing for so long is given a link anew.
    pub udp_idle: Duration,
    /// The first one that fits decides.
    pub rules: Vec<Rule>,
    /// Families whose sockets are refused while no link takes any of them, instead of leaving by a default route that nobody asked for.
    pub refuse: Vec<Family>,
}

impl Default for Plan {
    /// No links, so nothing is captured; 443 sticks for 10 minutes, UDP sockets are idle after 3 minutes.
    fn default() -> Self {
        Self {
            links: Vec::new(),
            interactive: Vec::new(),
            sticky_ports: vec![443],
            sticky_for: Duration::from_secs(600),
            udp_idle: Duration::from_secs(180),
            rules: Vec::new(),
            refuse: Vec::new(),
        }
    }
}

impl Plan {
    /// What it says of a link.
    pub(crate) fn link(&self, slot: Slot) -> Option<&LinkPlan> {
        self.links.iter().find(|link| link.slot == slot)
    }

    /// Checks it against the bounds.
    pub(crate) fn check(&self) -> Result<(), CaptureError> {
        let fail = |what: &'static str, found: usize, limit: usize| {
            if found > limit { Err(CaptureError::TooMany { what, found, limit }) } else { Ok(()) }
        };
        let prefixes = self.rules.iter().filter(|rule| rule.is_prefix()).count();
        fail("rules that are a prefix", prefixes, limits::PREFIXES)?;
        fail("rules with ports, protocols, users or commands", self.rules.len() - prefixes, limits::RULES)?;
        fail("sticky ports", self.sticky_ports.len(), limits::STICKY_PORTS)?;
        fail("interactive ports", self.interactive.len(), limits::CLASS_PORTS)?;
        fail("links", self.links.len(), MAX_LINKS)?;
        let slots = self.links.iter().flat_map(|link| [Some(link.slot), link.fallback]).flatten();
        let slots = slots.chain(self.rules.iter().filter_map(|rule| rule.action.slot()));
        for slot in slots {
            if usize::from(slot) >= MAX_LINKS {
                return Err(CaptureError::NoSuchSlot { slot });
            }
        }
        let weight =
            |of: fn(&LinkPlan) -> u16| self.links.iter().map(|link| u32::from(of(link))).sum::<u32>();
        for total in [weight(|link| link.bulk), weight(|link| link.interactive)] {
            fail("shares of a class", total as usize, limits::WEIGHTS as usize)?;
        }
        Ok(())
    }
}

/// An address as the kernel's side holds it: IPv4 as `::ffff:a.b.c.d`.
pub(crate) fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// The length of a prefix among such addresses.
pub(crate) fn mapped_length(prefix: Prefix) -> u32 {
    u32::from(prefix.length) + if prefix.address.is_ipv4() { 96 } else { 0 }
}
