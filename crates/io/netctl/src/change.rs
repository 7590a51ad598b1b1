//! One reversible change, and how to make and unmake it.

use serde::{Deserialize, Serialize};

use crate::error::NetError;
use crate::model::{Prefix, Route, Rule};
use crate::netlink::Netlink;
use crate::{nft, sysctl};

/// A change of the system's network that can be undone from its description alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "snake_case")]
pub enum Change {
    /// A route.
    Route(Route),
    /// A routing rule.
    Rule(Rule),
    /// An address on an interface.
    Address {
        /// The interface.
        device: String,
        /// The address.
        address: Prefix,
    },
    /// A kernel setting under `/proc/sys`.
    Sysctl {
        /// Its path below `/proc/sys`, such as `net/ipv4/ip_forward`.
        key: String,
        /// Its value before.
        old: String,
        /// Its value now. It is put back only while it still has this value.
        new: String,
    },
    /// An nftables table of the family `inet`.
    NftTable {
        /// Its name.
        name: String,
        /// What stands in it, in the language of `nft`; not needed to undo it, so not journaled.
        #[serde(skip)]
        body: String,
    },
    /// A pair of virtual Ethernet devices.
    VethPair {
        /// One end. The other vanishes with it.
        name: String,
        /// The other end.
        peer: String,
    },
}

impl Change {
    /// A kernel setting; none if it has that value already.
    ///
    /// # Errors
    /// The setting does not exist or cannot be read.
    pub fn sysctl(key: &str, new: &str) -> Result<Option<Self>, NetError> {
        let old = sysctl::read(key)?;
        let change = Self::Sysctl { key: key.to_owned(), old: old.clone(), new: new.to_owned() };
        Ok((old != new).then_some(change))
    }

    /// Makes it.
    pub(crate) fn apply(&self, netlink: &mut Netlink) -> Result<(), NetError> {
        match self {
            Self::Route(route) => netlink.add_route(route),
            Self::Rule(rule) => netlink.add_rule(rule),
            Self::Address { device, address } => netlink.add_address(device, *address),
            Self::Sysctl { key, new, .. } => sysctl::write(key, new),
            Self::NftTable { name, body } => nft::replace_table(name, body),
            Self::VethPair { name, peer } => netlink.add_veth(name, peer),
        }
    }

    /// Whether the kernel may take it away by itself, with the interface that it hangs on.
    pub(crate) fn is_perishable(&self) -> bool {
        matches!(self, Self::Route(_) | Self::Rule(_) | Self::Address { .. })
    }

    /// Unmakes it. What is gone already is no error.
    pub(crate) fn undo(&self, netlink: &mut Netlink) -> Result<(), NetError> {
        let result = match self {
            Self::Route(route) => netlink.delete_route(route),
            Self::Rule(rule) => netlink.delete_rule(rule),
            Self::Address { device, address } => netlink.delete_address(device, *address),
            Self::Sysctl { key, old, new } => match sysctl::read(key) {
                Ok(now) if now == *new => sysctl::write(key, old),
                // Somebody else changed it since; theirs stands.
                other => other.map(|_| ()),
            },
            Self::NftTable { name, .. } => nft::delete_table(name),
            Self::VethPair { name, .. } => netlink.delete_link(name),
        };
        match result {
            Err(error) if error.is_gone() => Ok(()),
            other => other,
        }
    }
}
