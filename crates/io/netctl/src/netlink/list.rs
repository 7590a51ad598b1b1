//! What the kernel has: links, routes, rules.

use std::collections::BTreeMap;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType,
    RouteVia,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, PROTOCOL};
use crate::error::NetError;
use crate::kind::{self, KindHints};
use crate::link::{Gateway, Link, LinkAddress};
use crate::model::{Family, Prefix, Route, RouteKind, Rule};

/// A rule of somebody else's, as far as it matters to ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ForeignRule {
    pub(crate) priority: u32,
    pub(crate) family: Family,
    pub(crate) table: u32,
    /// It looks at nothing but the family: every packet of it.
    pub(crate) catches_all: bool,
}

impl Netlink {
    /// All interfaces with their addresses and the best default route over each, in order of their index.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub fn links(&mut self) -> Result<Vec<Link>, NetError> {
        let fail = |source| NetError::kernel("list the links", source);
        let mut links = BTreeMap::new();
        for answer in self.dump(RouteNetlinkMessage::GetLink(LinkMessage::default())).map_err(fail)? {
            if let RouteNetlinkMessage::NewLink(message) = answer
                && let Some(link) = decode_link(&message)
            {
                links.insert(link.index, link);
            }
        }
        for answer in self.dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())).map_err(fail)? {
            if let RouteNetlinkMessage::NewAddress(message) = answer
                && let Some(link) = links.get_mut(&message.header.index)
                && let Some(address) = decode_address(&message)
            {
                link.addresses.push(address);
            }
        }
        let mut links: Vec<Link> = links.into_values().collect();
        let routes = self.routes_over(&links)?;
        for link in &mut links {
            for family in Family::BOTH {
                let best = routes
                    .iter()
                    .filter(|r| r.device.as_deref() == Some(&link.name) && r.to == Prefix::default_of(family))
                    // Some managers keep each link's default in a table of its own; main's is preferred.
                    .min_by_key(|r| (r.table != Route::MAIN, r.metric))
                    .map(|r| Gateway { via: r.via, metric: r.metric, onlink: r.onlink });
                match family {
                    Family::V4 => link.gateway4 = best,
                    Family::V6 => link.gateway6 = best,
                }
            }
        }
        Ok(links)
    }

    /// One interface.
    ///
    /// # Errors
    /// There is none of that name, or the kernel refuses the request.
    pub fn link(&mut self, name: &str) -> Result<Link, NetError> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.ok_or_else(|| NetError::NoSuchLink { name: name.to_owned() })
    }

    /// The routes of all tables that are not ours, without the kernel's local, broadcast and multicast ones.
    /// A route over several gateways appears once for each.
    ///
    /// # Errors
    /// The kernel refuses the request.
    pub fn routes(&mut self) -> Result<Vec<Route>, NetError> {
        let links = self.links()?;
        self.routes_over(&links)
    }

    fn routes_over(&mut self, links: &[Link]) -> Result<Vec<Route>, NetError> {
        let mut routes = Vec::new();
        for message in self.route_messages()? {
            if message.header.protocol != RouteProtocol::Other(PROTOCOL) {
                decode_route(&message, links, &mut routes);
            }
        }
        Ok(routes)
    }

    fn route_messages(&mut self) -> Result<Vec<RouteMessage>, NetError> {
        let mut all = Vec::new();
        for family in Family::BOTH {
            let mut request = RouteMessage::default();
            request.header.address_family = family.into();
            let answers = self
                .dump(RouteNetlinkMessage::GetRoute(request))
                .map_err(|source| NetError::kernel("list the routes", source))?;
            all.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRoute(message) => Some(message),
                _ => None,
            }));
        }
        Ok(all)
    }

    /// The numbers of all tables in which there is a route or to which a rule points, anyone's.
    pub(crate) fn tables_in_use(&mut self) -> Result<Vec<u32>, NetError> {
        let mut tables: Vec<u32> = self.route_messages()?.iter().map(table_of).collect();
        tables.extend(self.rule_messages()?.iter().map(rule_table));
        tables.sort_unstable();
        tables.dedup();
        Ok(tables)
    }

    /// The rules that bondwire did not make.
    pub(crate) fn foreign_rules(&mut self) -> Result<Vec<ForeignRule>, NetError> {
        let ours = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
        let messages = self.rule_messages()?;
        Ok(messages.iter().filter(|m| !m.attributes.contains(&ours)).map(decode_rule).collect())
    }

    fn rule_messages(&mut self) -> Result<Vec<RuleMessage>, NetError> {
        let mut all = Vec::new();
        for family in Family::BOTH {
            let mut request = RuleMessage::default();
            request.header.family = family.into();
            let answers = self
                .dump(RouteNetlinkMessage::GetRule(request))
                .map_err(|source| NetError::kernel("list the routing rules", source))?;
            all.extend(answers.into_iter().filter_map(|answer| match answer {
                RouteNetlinkMessage::NewRule(message) => Some(message),
                _ => None,
            }));
        }
        Ok(all)
    }

    /// Our own rules, for tests and for `bondwire down` to show.
    #[cfg(test)]
    pub(crate) fn own_rules(&mut self) -> Result<usize, NetError> {
        let ours = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
        Ok(self.rule_messages()?.iter().filter(|m| m.attributes.contains(&ours)).count())
    }
}

fn decode_link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut hints = KindHints { layer: message.header.link_layer_type, ..KindHints::default() };
    let (mut name, mut mtu, mut hardware) = (None, 0, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(text) => name = Some(text.clone()),
            LinkAttribute::Mtu(value) => mtu = *value,
            LinkAttribute::Address(bytes) => hardware.clone_from(bytes),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        hints.driver_kind = Some(kind.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    let name = name?;
    let index = message.header.index;
    Some(Link {
        kind: kind::guess(&name, index, &hints),
        is_virtual: kind::is_virtual(&name, &hints),
        is_loopback: flags.contains(LinkFlags::Loopback),
        is_up: flags.contains(LinkFlags::Up),
        has_carrier: flags.contains(LinkFlags::LowerUp),
        index,
        name,
        mtu,
        hardware,
        addresses: Vec::new(),
        gateway4: None,
        gateway6: None,
    })
}

fn decode_address(message: &AddressMessage) -> Option<LinkAddress> {
    let (mut address, mut local, mut tentative) = (None, None, false);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Flags(flags) => {
                tentative = flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed)
                    && !flags.contains(AddressFlags::Optimistic);
            }
            _ => {}
        }
    }
    // On a point-to-point link `Address` is the peer's.
    let ip = local.or(address)?;
    let is_global = matches!(message.header.scope, AddressScope::Universe | AddressScope::Site);
    Some(LinkAddress {
        prefix: Prefix::new(ip, message.header.prefix_len),
        is_global,
        is_tentative: tentative,
    })
}

fn table_of(message: &RouteMessage) -> u32 {
    let wide = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or_else(|| u32::from(message.header.table))
}

fn plain_address(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn gateway_of(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => plain_address(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    })
}

fn decode_route(message: &RouteMessage, links: &[Link], out: &mut Vec<Route>) {
    let header = &message.header;
    let family = match header.address_family {
        AddressFamily::Inet => Family::V4,
        AddressFamily::Inet6 => Family::V6,
        _ => return,
    };
    let kind = match header.kind {
        RouteType::Unicast => RouteKind::Unicast,
        RouteType::Unreachable => RouteKind::Unreachable,
        _ => return,
    };
    let name_of = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.clone());
    let mut route = Route {
        table: table_of(message),
        to: Prefix::new(Prefix::default_of(family).address, header.destination_prefix_length),
        via: gateway_of(&message.attributes),
        device: None,
        metric: 0,
        source: None,
        kind,
        onlink: header.flags.contains(RouteFlags::Onlink),
    };
    let mut hops = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.to.address = plain_address(address).unwrap_or(route.to.address);
            }
            RouteAttribute::Oif(index) => route.device = name_of(*index),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::PrefSource(address) => route.source = plain_address(address),
            RouteAttribute::MultiPath(list) => hops = Some(list),
            _ => {}
        }
    }
    match hops {
        None => out.push(route),
        Some(hops) => out.extend(hops.iter().map(|hop| Route {
            via: gateway_of(&hop.attributes),
            device: name_of(hop.interface_index),
            onlink: hop.flags.contains(RouteNextHopFlags::Onlink),
            ..route.clone()
        })),
    }
}

fn rule_table(message: &RuleMessage) -> u32 {
    let wide = message.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or_else(|| u32::from(message.header.table))
}

fn decode_rule(message: &RuleMessage) -> ForeignRule {
    let mut priority = 0;
    let mut selective = message.header.src_len > 0
        || message.header.dst_len > 0
        || message.header.tos != 0
        || message.header.action != RuleAction::ToTable;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(value) => priority = *value,
            RuleAttribute::Table(_) | RuleAttribute::Protocol(_) => {}
            // All ones: nothing is suppressed, the kernel's way of saying that it was not given.
            RuleAttribute::SuppressPrefixLen(u32::MAX) | RuleAttribute::SuppressIfGroup(u32::MAX) => {}
            _ => selective = true,
        }
    }
    let family = if message.header.family == AddressFamily::Inet6 { Family::V6 } else { Family::V4 };
    ForeignRule { priority, family, table: rule_table(message), catches_all: !selective }
}

impl Rule {
    /// Whether a rule of somebody else's takes packets before this one sees them.
    pub(crate) fn is_hidden_by(&self, other: &ForeignRule) -> bool {
        // Table 255 holds the machine's own addresses and always comes first.
        other.catches_all
            && other.table != 255
            && other.family == self.family
            && other.priority < self.priority
    }
}
