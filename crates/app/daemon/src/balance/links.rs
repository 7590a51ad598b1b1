//! Links as the policy and the proxy take them.

use bondwire_api::Priority;
use bondwire_balance::LinkConfig;
use bondwire_netctl::{Link, LinkKind};
use bondwire_units::LinkId;

use crate::link_settings::Resolved;

/// What the policy is told of a link.
pub(super) fn config_of(link: &Link, wanted: &Resolved) -> LinkConfig {
    LinkConfig {
        kind: kind_for(wanted.kind),
        priority: priority_for(wanted.setting),
        limit_up: wanted.limit_up,
        limit_down: wanted.limit_down,
        ..LinkConfig::new(LinkId(link.index), &link.name)
    }
}

fn kind_for(kind: LinkKind) -> bondwire_balance::LinkKind {
    match kind {
        LinkKind::Ethernet => bondwire_balance::LinkKind::Ethernet,
        LinkKind::Wifi => bondwire_balance::LinkKind::Wifi,
        LinkKind::Cellular => bondwire_balance::LinkKind::Cellular,
        LinkKind::Satellite => bondwire_balance::LinkKind::Satellite,
        LinkKind::Tethered => bondwire_balance::LinkKind::Tethered,
        LinkKind::Unknown => bondwire_balance::LinkKind::Unknown,
    }
}

fn priority_for(priority: Priority) -> bondwire_balance::Priority {
    match priority {
        Priority::Automatic => bondwire_balance::Priority::Automatic,
        Priority::Always => bondwire_balance::Priority::Always,
        Priority::Secondary => bondwire_balance::Priority::Secondary,
        Priority::Backup => bondwire_balance::Priority::Backup,
        Priority::Never => bondwire_balance::Priority::Never,
    }
}

/// Addresses that a link had and has no more: sockets that use them are dead.
pub(super) fn lost_addresses(before: &Link, now: &Link) -> Vec<std::net::IpAddr> {
    let has = |link: &Link, ip| link.addresses.iter().any(|address| address.prefix.address == ip);
    let all = before.addresses.iter().map(|address| address.prefix.address);
    all.filter(|ip| !has(now, *ip)).collect()
}
