//! The links as the kernel has them, and what is asked of it for each.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bondwire_netctl::{Changes, Family, Link, NetError, Route, RouteKind};

use crate::error::CaptureError;
use crate::layout::{ROUTE_NEAR, ROUTE_SPECIFIC};
use crate::plan::{Slot, mapped, mapped_length, mark_of};

/// A link as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) name: String,
    /// Its table, once it was there.
    pub(crate) table: Option<u32>,
    /// Its address, if IPv4 leads to the internet over it.
    pub(crate) v4: Option<Ipv4Addr>,
    /// Its address, if IPv6 does.
    pub(crate) v6: Option<Ipv6Addr>,
}

impl Known {
    /// One that was not looked at yet.
    pub(crate) fn absent(name: &str) -> Self {
        Self { name: name.to_owned(), table: None, v4: None, v6: None }
    }

    pub(crate) const fn has(&self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4.is_some(),
            Family::V6 => self.v6.is_some(),
        }
    }
}

/// Routes and marks a link as it is now.
pub(crate) fn refresh_link(changes: &mut Changes, slot: Slot, known: &mut Known) -> Result<(), CaptureError> {
    let link = match changes.netlink().link(&known.name) {
        Ok(link) => Some(link),
        Err(NetError::NoSuchLink { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let table = match &link {
        Some(link) => Some(changes.route_link(&link.name)?),
        None => known.table,
    };
    if let Some(table) = table {
        changes.mark_link(mark_of(slot), table)?;
    }
    let usable = link.as_ref().filter(|link| link.is_up && link.has_carrier);
    known.v4 = usable.filter(|link| link.gateway4.is_some()).and_then(Link::v4);
    known.v6 = usable.filter(|link| link.gateway6.is_some()).and_then(Link::v6);
    known.table = table;
    Ok(())
}

/// Kernel settings: where the reverse path is checked, the check has to follow marks, since it is by them that packets left. A LAN's packets are forwarded.
pub(crate) fn settings(links: &BTreeMap<Slot, Known>, lan: &[String]) -> Vec<(String, &'static str)> {
    let mut settings: Vec<(String, &'static str)> =
        links.values().map(|known| (format!("net/ipv4/conf/{}/src_valid_mark", known.name), "1")).collect();
    if !lan.is_empty() {
        settings.push(("net/ipv4/ip_forward".to_owned(), "1"));
    }
    settings
}

/// The destinations that the main table sends somewhere itself.
pub(crate) fn specific(routes: &[Route]) -> impl Iterator<Item = &Route> {
    routes.iter().filter(|route| route.table == Route::MAIN && !route.to.is_default())
}

/// The same as the programs look them up, with what each is: a network that a link is connected to, or any other.
pub(crate) fn told_routes(routes: &[Route], links: &BTreeMap<Slot, Known>) -> BTreeMap<(u32, [u8; 16]), u32> {
    let is_near = |route: &Route| {
        let device = |known: &Known| route.device.as_deref() == Some(&known.name);
        route.via.is_none() && route.kind == RouteKind::Unicast && links.values().any(device)
    };
    let mut told = BTreeMap::new();
    for route in specific(routes).take(MAX_ROUTES) {
        let place = (mapped_length(route.to), mapped(route.to.network().address));
        let kind = if is_near(route) { ROUTE_NEAR } else { ROUTE_SPECIFIC };
        // The same network on a link and elsewhere: the better route came first.
        told.entry(place).or_insert(kind);
    }
    told
}

/// As many as the programs' map has room for.
const MAX_ROUTES: usize = 16_384;
