//! Who has which address. Everything follows from a link's position in the scenario.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bondwire_scenario::Link;

use crate::netlink::{Mac, Prefix};

/// The bonding server's public address.
pub(crate) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 10);
pub(crate) const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x10);
/// The web host's.
pub(crate) const WEB_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const WEB_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 0x10);

/// How many addresses a link's client end goes through before the first one comes again.
pub(crate) const CLIENT_ADDRESSES: u8 = 100;
/// How many public addresses a link's NAT goes through.
pub(crate) const NAT_ADDRESSES: u8 = 2;

/// The addresses of one link. Its client end and its NAT change theirs when told to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkPlan {
    /// Counts from 1.
    number: u8,
    pub(crate) v4: bool,
    pub(crate) v6: bool,
    pub(crate) nat: bool,
    /// How often the client's address has changed.
    pub(crate) client_turn: u8,
}

impl LinkPlan {
    pub(crate) fn new(position: usize, link: &Link) -> Self {
        Self { number: position as u8 + 1, v4: link.v4, v6: link.v6, nat: link.nat, client_turn: 0 }
    }

    fn v4(&self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 168, self.number, host)
    }

    fn v6(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, 0x100 + u16::from(self.number), 0, 0, 0, 0, host.into())
    }

    pub(crate) fn client_v4(&self) -> Ipv4Addr {
        self.v4(2 + self.client_turn % CLIENT_ADDRESSES)
    }

    pub(crate) fn client_v6(&self) -> Ipv6Addr {
        self.v6(2 + self.client_turn % CLIENT_ADDRESSES)
    }

    pub(crate) fn gateway_v4(&self) -> Ipv4Addr {
        self.v4(1)
    }

    pub(crate) fn gateway_v6(&self) -> Ipv6Addr {
        self.v6(1)
    }

    /// The client's addresses, with their prefixes, of the families that the link carries.
    pub(crate) fn client(&self) -> Vec<Prefix> {
        self.families(Prefix::new(self.client_v4(), 24), Prefix::new(self.client_v6(), 64))
    }

    /// The provider's addresses on the link.
    pub(crate) fn gateway(&self) -> Vec<Prefix> {
        self.families(Prefix::new(self.gateway_v4(), 24), Prefix::new(self.gateway_v6(), 64))
    }

    /// What the core has to send to this provider: its customers, or what they look like from outside.
    pub(crate) fn customers(&self) -> Vec<Prefix> {
        let v6 = Prefix::new(self.v6(0), 64);
        let v4 = if self.nat { Prefix::new(self.public_block(), 31) } else { Prefix::new(self.v4(0), 24) };
        self.families(v4, v6)
    }

    fn families(&self, v4: Prefix, v6: Prefix) -> Vec<Prefix> {
        [self.v4.then_some(v4), self.v6.then_some(v6)].into_iter().flatten().collect()
    }

    fn public_block(&self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, 32 + self.number * 2)
    }

    /// The address that the link's NAT shows after `turn` rebindings.
    pub(crate) fn public_v4(&self, turn: u8) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.public_block().to_bits() + u32::from(turn % NAT_ADDRESSES))
    }

    pub(crate) fn client_mac(&self) -> Mac {
        [2, 0, 0, 1, self.number, 2]
    }

    pub(crate) fn provider_mac(&self) -> Mac {
        [2, 0, 0, 1, self.number, 1]
    }

    /// The cable from the core to this provider.
    pub(crate) fn uplink(&self) -> Cable {
        Cable::new(
            Ipv4Addr::new(172, 31, self.number, 0),
            0xfe00 + u16::from(self.number),
            2,
            [0, self.number],
        )
    }
}

/// A cable between the core router and something else: a /24 and a /64 of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cable {
    v4: Ipv4Addr,
    v6: u16,
    far_host: u8,
    id: [u8; 2],
}

impl Cable {
    fn new(v4: Ipv4Addr, v6: u16, far_host: u8, id: [u8; 2]) -> Self {
        Self { v4, v6, far_host, id }
    }

    pub(crate) fn server() -> Self {
        Self::new(Ipv4Addr::new(198, 51, 100, 0), 0xa, 0x10, [1, 1])
    }

    pub(crate) fn web() -> Self {
        Self::new(Ipv4Addr::new(203, 0, 113, 0), 0xb, 0x10, [1, 2])
    }

    /// The cable of the `n`-th host that was added later.
    pub(crate) fn host(n: u8) -> Self {
        Self::new(Ipv4Addr::new(100, 64, n, 0), 0xc000 + u16::from(n), 0x10, [2, n])
    }

    fn v4(&self, host: u8) -> Ipv4Addr {
        // 0x10 in an IPv6 address and 10 in an IPv4 address look alike, which is why the far host has both.
        let host = if host == 0x10 { 10 } else { host };
        Ipv4Addr::from_bits(self.v4.to_bits() + u32::from(host))
    }

    fn v6(&self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0x2001, 0xdb8, self.v6, 0, 0, 0, 0, host.into())
    }

    pub(crate) fn core(&self) -> [IpAddr; 2] {
        [self.v4(1).into(), self.v6(1).into()]
    }

    pub(crate) fn far_v4(&self) -> Ipv4Addr {
        self.v4(self.far_host)
    }

    pub(crate) fn far_v6(&self) -> Ipv6Addr {
        self.v6(self.far_host)
    }

    pub(crate) fn far(&self) -> [IpAddr; 2] {
        [self.far_v4().into(), self.far_v6().into()]
    }

    pub(crate) fn core_mac(&self) -> Mac {
        [2, 0, 0, 2, self.id[0] << 6 | 1, self.id[1]]
    }

    pub(crate) fn far_mac(&self) -> Mac {
        [2, 0, 0, 2, self.id[0] << 6 | 2, self.id[1]]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bondwire_scenario::Scenario;

    use super::*;

    #[test]
    fn the_named_addresses_are_those_of_their_cables() {
        assert_eq!(Cable::server().far(), [IpAddr::from(SERVER_V4), SERVER_V6.into()]);
        assert_eq!(Cable::web().far(), [IpAddr::from(WEB_V4), WEB_V6.into()]);
    }

    #[test]
    fn sixteen_links_share_no_address() {
        let link = Scenario::builtin("twin").unwrap().links[0].clone();
        let link = Link { nat: true, v6: true, ..link };
        let mut seen = BTreeSet::new();
        for position in 0..16 {
            let plan = LinkPlan::new(position, &link);
            for prefix in plan.client().into_iter().chain(plan.gateway()) {
                assert!(seen.insert(prefix.address), "{prefix:?}");
            }
            for turn in 0..NAT_ADDRESSES {
                assert!(seen.insert(plan.public_v4(turn).into()));
            }
            for address in plan.uplink().core().into_iter().chain(plan.uplink().far()) {
                assert!(seen.insert(address), "{address}");
            }
        }
    }
}
