use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::kind::LinkKind;
use crate::model::{Family, Prefix};

/// An interface, as the kernel describes it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index, which names it for as long as it exists.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// In bytes.
    pub mtu: u32,
    /// A guess; the user may know better.
    pub kind: LinkKind,
    /// It is a tunnel, bridge or the like: its packets leave over another interface.
    pub is_virtual: bool,
    /// It is the loopback interface.
    pub is_loopback: bool,
    /// It is switched on.
    pub is_up: bool,
    /// The cable is plugged in, the radio is associated.
    pub has_carrier: bool,
    /// Its hardware address, empty if it has none.
    pub hardware: Vec<u8>,
    /// All its addresses, in the kernel's order.
    pub addresses: Vec<LinkAddress>,
    /// The best IPv4 default route over it.
    pub gateway4: Option<Gateway>,
    /// The best IPv6 default route over it.
    pub gateway6: Option<Gateway>,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// The address and its network.
    pub prefix: Prefix,
    /// It is valid beyond the link.
    pub is_global: bool,
    /// It may not be used yet, or turned out to be another machine's.
    pub is_tentative: bool,
}

/// Where a default route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// The router; none on a link with one neighbour only.
    pub via: Option<IpAddr>,
    /// The route's metric.
    pub metric: u32,
    /// The router is on the link although no route says so.
    pub onlink: bool,
}

impl Link {
    /// The addresses that a socket may be bound to.
    pub fn usable(&self, family: Family) -> impl Iterator<Item = Prefix> {
        self.addresses
            .iter()
            .filter(move |a| a.is_global && !a.is_tentative && a.prefix.family() == family)
            .map(|a| a.prefix)
    }

    /// The first usable IPv4 address.
    pub fn v4(&self) -> Option<Ipv4Addr> {
        self.usable(Family::V4).find_map(|prefix| match prefix.address {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    /// The first usable IPv6 address.
    pub fn v6(&self) -> Option<Ipv6Addr> {
        self.usable(Family::V6).find_map(|prefix| match prefix.address {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        })
    }

    /// It has all that a path needs: switched on, carrier, an address.
    pub fn is_usable(&self) -> bool {
        self.is_up && self.has_carrier && (self.v4().is_some() || self.v6().is_some())
    }

    /// It is a way to the internet that is taken without being named: usable, with a default route of its own, and no tunnel.
    pub fn is_candidate(&self) -> bool {
        self.is_usable()
            && !self.is_virtual
            && !self.is_loopback
            && (self.gateway4.is_some() || self.gateway6.is_some())
    }
}
