//! Routes, rules and prefixes as plain values: what the journal stores and what the plans are made of.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// An address with the length of its network's prefix, as in `10.99.0.1/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    /// The address; host bits may be set.
    pub address: IpAddr,
    /// At most 32 or 128.
    pub length: u8,
}

impl Prefix {
    /// An address with a prefix length.
    pub const fn new(address: IpAddr, length: u8) -> Self {
        Self { address, length }
    }

    /// One host.
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: if address.is_ipv4() { 32 } else { 128 } }
    }

    /// Everything.
    pub const fn default_of(family: Family) -> Self {
        match family {
            Family::V4 => Self::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
            Family::V6 => Self::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Whether it is everything.
    pub const fn is_default(&self) -> bool {
        self.length == 0
    }

    /// The same with the host bits cleared.
    pub fn network(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.length.min(32))).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.length.min(128))).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
            }
        };
        Self { address, ..*self }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Prefix {
    type Err = String;

    /// Parses `ADDRESS/LENGTH`.
    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("`{text}` is not an address with a prefix length, such as 10.99.0.0/24");
        let (address, length) = text.split_once('/').ok_or_else(fail)?;
        let address: IpAddr = address.parse().map_err(|_| fail())?;
        let length: u8 = length.parse().map_err(|_| fail())?;
        let prefix = Self { address, length };
        if length > Self::host(address).length { Err(fail()) } else { Ok(prefix) }
    }
}

/// What a route does with a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RouteKind {
    /// Sends it on.
    #[default]
    Unicast,
    /// Refuses it, with an ICMP message.
    Unreachable,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Route {
    /// The table it stands in; 254 is `main`.
    pub table: u32,
    /// Its destination.
    pub to: Prefix,
    /// The gateway; none for what is on the link itself.
    pub via: Option<IpAddr>,
    /// The interface.
    pub device: Option<String>,
    /// The smaller one wins. IPv6 takes 0 for 1,024.
    pub metric: u32,
    /// The source address that packets get.
    pub source: Option<IpAddr>,
    /// What it does.
    pub kind: RouteKind,
    /// The gateway is on the link although no route says so.
    pub onlink: bool,
}

impl Route {
    /// The table where ordinary routes stand.
    pub const MAIN: u32 = 254;

    /// `default dev DEVICE` in a table.
    pub fn default_dev(family: Family, device: &str, table: u32) -> Self {
        Self {
            table,
            to: Prefix::default_of(family),
            via: None,
            device: Some(device.to_owned()),
            metric: 0,
            source: None,
            kind: RouteKind::Unicast,
            onlink: false,
        }
    }

    /// `unreachable default` in a table.
    pub fn unreachable_default(family: Family, table: u32) -> Self {
        Self { device: None, kind: RouteKind::Unreachable, ..Self::default_dev(family, "", table) }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == RouteKind::Unreachable {
            f.write_str("unreachable ")?;
        }
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        write!(f, " table {}", self.table)
    }
}

/// A routing rule: which packets look into which table.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rule {
    /// The family whose packets it sees.
    pub family: Family,
    /// Smaller ones come first.
    pub priority: u32,
    /// Only packets from there.
    pub from: Option<Prefix>,
    /// Only packets of sockets bound to that interface.
    pub oif: Option<String>,
    /// Only packets with exactly that mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// The table that is looked into.
    pub table: u32,
    /// Ignore routes of the table whose prefix is not longer than this.
    pub suppress_prefix_length: Option<u32>,
}

impl Rule {
    /// `lookup TABLE` for all packets.
    pub fn lookup(family: Family, priority: u32, table: u32) -> Self {
        Self { family, priority, from: None, oif: None, mark: None, table, suppress_prefix_length: None }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.priority)?;
        match self.from {
            Some(from) => write!(f, " from {from}")?,
            None => f.write_str(" from all")?,
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        if let Some(mark) = self.mark {
            write!(f, " fwmark {mark:#x}")?;
        }
        write!(f, " lookup {}", self.table)?;
        if let Some(length) = self.suppress_prefix_length {
            write!(f, " suppress_prefixlength {length}")?;
        }
        Ok(())
    }
}
