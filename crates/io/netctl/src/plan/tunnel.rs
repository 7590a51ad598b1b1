//! The machine's traffic through the tunnel.

use super::{SPECIFIC, TUNNEL};
use crate::change::Change;
use crate::changes::Changes;
use crate::error::NetError;
use crate::model::{Family, Route, Rule};

const GROUP: &str = "default route";

/// What happens to IPv6 traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ipv6Policy {
    /// It goes through the tunnel: the server gave an address.
    Through,
    /// It is refused, so that it does not leave around the tunnel. Default when the server has no IPv6.
    #[default]
    Refuse,
    /// It goes as before, around the tunnel.
    Leave,
}

impl Changes {
    /// Leads the machine's traffic into the tunnel, without touching its default routes. Routes that are more specific than a default stay
    /// in force. Each link of the bond has to be routed by [`Changes::route_link`] first, or the tunnel's own packets would
    /// look for their way inside the tunnel. To be called again when the policy changes.
    ///
    /// # Errors
    /// The device is gone or down, no permission, or no table is free.
    pub fn default_through(&mut self, tunnel: &str, ipv6: Ipv6Policy) -> Result<(), NetError> {
        let known = self.group(GROUP).find_map(|change| match change {
            Change::Route(route) => Some(route.table),
            _ => None,
        });
        let table = match known {
            Some(table) => table,
            None => self.free_table()?,
        };
        let mut wanted = vec![Change::Route(Route::default_dev(Family::V4, tunnel, table))];
        wanted.extend(rules(Family::V4, table));
        if ipv6 != Ipv6Policy::Leave {
            wanted.push(Change::Route(match ipv6 {
                Ipv6Policy::Through => Route::default_dev(Family::V6, tunnel, table),
                _ => Route::unreachable_default(Family::V6, table),
            }));
            wanted.extend(rules(Family::V6, table));
        }
        self.sync(GROUP, &wanted)
    }

    /// Takes back what [`Changes::default_through`] did.
    ///
    /// # Errors
    /// The first change that the kernel will not undo.
    pub fn default_restore(&mut self) -> Result<(), NetError> {
        self.remove(GROUP)
    }
}

fn rules(family: Family, table: u32) -> [Change; 2] {
    let specific = Rule { suppress_prefix_length: Some(0), ..Rule::lookup(family, SPECIFIC, Route::MAIN) };
    [Change::Rule(specific), Change::Rule(Rule::lookup(family, TUNNEL, table))]
}
