//! A routing table for each link.

use super::{FROM, FROM_SPECIFIC, OIF};
use crate::change::Change;
use crate::changes::Changes;
use crate::error::NetError;
use crate::link::Link;
use crate::model::{Family, Prefix, Route, RouteKind, Rule};

fn group_of(link: &str) -> String {
    format!("link {link}")
}

impl Changes {
    /// Gives a link a routing table of its own with its default route, and the rules that lead there: sockets that are bound to
    /// the link or to its address use it alone. To be called again whenever the link changed. Returns the table.
    ///
    /// A link without an address, or without a default route in any table, gets what it has; sockets then reach its neighbours only.
    ///
    /// # Errors
    /// The link is gone, no permission, or no table is free.
    pub fn route_link(&mut self, name: &str) -> Result<u32, NetError> {
        let link = self.netlink().link(name)?;
        let group = group_of(name);
        let known = self.group(&group).find_map(|change| match change {
            Change::Rule(rule) if rule.oif.is_some() => Some(rule.table),
            _ => None,
        });
        let table = match known {
            Some(table) => table,
            None => self.free_table()?,
        };
        let routes = self.netlink().routes()?;
        self.sync(&group, &changes_for(&link, &routes, table))?;
        Ok(table)
    }

    /// Takes back what [`Changes::route_link`] did.
    ///
    /// # Errors
    /// The first change that the kernel will not undo.
    pub fn unroute_link(&mut self, name: &str) -> Result<(), NetError> {
        self.remove(&group_of(name))
    }
}

/// What a link's table and rules look like. Routes to neighbours come before those over gateways, since a gateway must be reachable when it is named.
fn changes_for(link: &Link, routes: &[Route], table: u32) -> Vec<Change> {
    let mut wanted = Vec::new();
    let usable = link.is_up && link.has_carrier;
    for family in Family::BOTH {
        let over_link = |route: &&Route| {
            route.device.as_deref() == Some(&link.name)
                && route.kind == RouteKind::Unicast
                && route.to.family() == family
                && !is_link_local(route.to)
        };
        let mut copies: Vec<Route> = routes
            .iter()
            .filter(over_link)
            .filter(|route| route.table == Route::MAIN && !route.to.is_default())
            .cloned()
            .collect();
        let gateway = if family == Family::V4 { link.gateway4 } else { link.gateway6 };
        copies.extend(gateway.map(|gateway| Route {
            via: gateway.via,
            onlink: gateway.onlink,
            ..Route::default_dev(family, &link.name, table)
        }));
        for copy in &mut copies {
            copy.table = table;
            copy.metric = 0;
        }
        // The same destination with another metric would be the same route in our table: the better one came first.
        copies.sort_by_key(|route| (route.via.is_some(), route.to));
        copies.dedup_by_key(|route| route.to);
        if usable {
            wanted.extend(copies.into_iter().map(Change::Route));
        }
        wanted.push(Change::Rule(Rule { oif: Some(link.name.clone()), ..Rule::lookup(family, OIF, table) }));
        for address in link.usable(family) {
            let from = Some(Prefix::host(address.address));
            wanted.push(Change::Rule(Rule {
                from,
                suppress_prefix_length: Some(0),
                ..Rule::lookup(family, FROM_SPECIFIC, Route::MAIN)
            }));
            wanted.push(Change::Rule(Rule { from, ..Rule::lookup(family, FROM, table) }));
        }
    }
    wanted
}

/// `fe80::/10` is on every interface, and never looked up in our tables.
fn is_link_local(prefix: Prefix) -> bool {
    match prefix.address {
        std::net::IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
        std::net::IpAddr::V4(v4) => v4.is_multicast(),
    }
}
