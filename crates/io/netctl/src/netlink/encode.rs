//! Our routes, rules and addresses as rtnetlink messages.

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, PROTOCOL};
use crate::error::NetError;
use crate::model::{Family, Prefix, Route, RouteKind, Rule};

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}

impl Netlink {
    /// Adds a route.
    ///
    /// # Errors
    /// No permission, no such interface, an unreachable gateway, or the route is there already.
    pub(crate) fn add_route(&mut self, route: &Route) -> Result<(), NetError> {
        let message = self.route_message(route)?;
        self.create(RouteNetlinkMessage::NewRoute(message))
            .map_err(|source| NetError::kernel(format!("add the route {route}"), source))
    }

    /// Deletes a route that was added by [`Netlink::add_route`].
    pub(crate) fn delete_route(&mut self, route: &Route) -> Result<(), NetError> {
        let message = self.route_message(route)?;
        self.execute(RouteNetlinkMessage::DelRoute(message))
            .map_err(|source| NetError::kernel(format!("delete the route {route}"), source))
    }

    fn route_message(&mut self, route: &Route) -> Result<RouteMessage, NetError> {
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = route.to.family().into();
        header.destination_prefix_length = route.to.length;
        header.table = RouteHeader::RT_TABLE_UNSPEC;
        header.protocol = RouteProtocol::Other(PROTOCOL);
        header.kind = match route.kind {
            RouteKind::Unicast => RouteType::Unicast,
            RouteKind::Unreachable => RouteType::Unreachable,
        };
        // IPv6 knows no scope; an IPv4 route without a gateway reaches the link only.
        let on_link = route.via.is_none() && route.kind == RouteKind::Unicast && route.to.address.is_ipv4();
        header.scope = if on_link { RouteScope::Link } else { RouteScope::Universe };
        if route.onlink {
            header.flags = RouteFlags::Onlink;
        }
        message.attributes.push(RouteAttribute::Table(route.table));
        if !route.to.is_default() {
            message.attributes.push(RouteAttribute::Destination(route.to.address.into()));
        }
        if let Some(via) = route.via {
            message.attributes.push(match Family::of(via) == route.to.family() {
                true => RouteAttribute::Gateway(RouteAddress::from(via)),
                false => RouteAttribute::Via(via.into()),
            });
        }
        if let Some(device) = &route.device {
            message.attributes.push(RouteAttribute::Oif(self.index_of(device)?));
        }
        if route.metric != 0 {
            message.attributes.push(RouteAttribute::Priority(route.metric));
        }
        if let Some(source) = route.source {
            message.attributes.push(RouteAttribute::PrefSource(source.into()));
        }
        Ok(message)
    }

    /// Adds a rule.
    pub(crate) fn add_rule(&mut self, rule: &Rule) -> Result<(), NetError> {
        self.create(RouteNetlinkMessage::NewRule(rule_message(rule)))
            .map_err(|source| NetError::kernel(format!("add the rule {rule}"), source))
    }

    /// Deletes a rule that was added by [`Netlink::add_rule`].
    pub(crate) fn delete_rule(&mut self, rule: &Rule) -> Result<(), NetError> {
        self.execute(RouteNetlinkMessage::DelRule(rule_message(rule)))
            .map_err(|source| NetError::kernel(format!("delete the rule {rule}"), source))
    }

    /// Gives an interface an address, without duplicate detection. One that it has already is no error.
    ///
    /// # Errors
    /// No permission or no such interface.
    pub fn add_address(&mut self, device: &str, address: Prefix) -> Result<(), NetError> {
        let message = self.address_message(device, address)?;
        match self.create(RouteNetlinkMessage::NewAddress(message)) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            other => other.map_err(|source| NetError::kernel(format!("add {address} to `{device}`"), source)),
        }
    }

    /// Takes an address from an interface. One that it does not have is no error.
    ///
    /// # Errors
    /// No permission or no such interface.
    pub fn delete_address(&mut self, device: &str, address: Prefix) -> Result<(), NetError> {
        let message = self.address_message(device, address)?;
        match self.execute(RouteNetlinkMessage::DelAddress(message)) {
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(()),
            other => {
                other.map_err(|source| NetError::kernel(format!("delete {address} from `{device}`"), source))
            }
        }
    }

    fn address_message(&mut self, device: &str, address: Prefix) -> Result<AddressMessage, NetError> {
        let mut message = AddressMessage::default();
        message.header.family = address.family().into();
        message.header.prefix_len = address.length;
        message.header.index = self.index_of(device)?;
        message.header.scope = AddressScope::Universe;
        message.attributes.push(AddressAttribute::Local(address.address));
        message.attributes.push(AddressAttribute::Address(address.address));
        if address.address.is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        Ok(message)
    }
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rule.family.into();
    message.header.action = RuleAction::ToTable;
    message.attributes.push(RuleAttribute::Priority(rule.priority));
    message.attributes.push(RuleAttribute::Table(rule.table));
    message.attributes.push(RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    if let Some(from) = rule.from {
        message.header.src_len = from.length;
        message.attributes.push(RuleAttribute::Source(from.address));
    }
    if let Some(oif) = &rule.oif {
        message.attributes.push(RuleAttribute::Oifname(oif.clone()));
    }
    if let Some(mark) = rule.mark {
        message.attributes.push(RuleAttribute::FwMark(mark));
        message.attributes.push(RuleAttribute::FwMask(u32::MAX));
    }
    if let Some(length) = rule.suppress_prefix_length {
        message.attributes.push(RuleAttribute::SuppressPrefixLen(length));
    }
    message
}
