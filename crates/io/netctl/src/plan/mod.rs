//! Intentions turned into changes.
//!
//! Order of the rules (smaller comes first; `local` is 0, `main` 32766):
//!
//! | priority | rule | why |
//! |---|---|---|
//! | 5110 | `oif LINK lookup LINK's table` | a socket bound to a link leaves over it, whatever `main` and other VPNs say |
//! | 5112 | `fwmark MARK lookup main suppress_prefixlength 0` | a marked socket reaches the local networks as before |
//! | 5113 | `fwmark MARK lookup ANOTHER LINK's table` | only while the mark is moved: its link is dead |
//! | 5115 | `fwmark MARK lookup LINK's table` | a socket that was marked for a link leaves over it |
//! | 5120 | `from ADDRESS lookup main suppress_prefixlength 0` | answers to the local networks go as before |
//! | 5130 | `from ADDRESS lookup LINK's table` | answers leave by the link where they were asked for; strict `rp_filter` accepts what arrives |
//! | 5290 | `lookup main suppress_prefixlength 0` | routes that are more specific than a default stay in force |
//! | 5291 | `lookup the tunnel's table` | all the rest goes through the bond |
//!
//! bondwire's own sockets are bound to their link, so 5110 takes them before 5291 could: no loop, and no mark is needed.

mod link;
mod mark;
mod server;
mod settings;
mod tunnel;

pub use server::Forwarding;
pub use tunnel::Ipv6Policy;

use crate::changes::Changes;
use crate::error::NetError;
use crate::model::{Family, Rule};

/// The first routing table that may be taken.
pub const FIRST_TABLE: u32 = 51_800;
/// The last one.
pub const LAST_TABLE: u32 = 51_999;
/// The priorities of all rules that are made.
pub const RULE_PRIORITIES: [u32; 8] =
    [OIF, MARK_SPECIFIC, MARK_MOVED, MARK, FROM_SPECIFIC, FROM, SPECIFIC, TUNNEL];

const OIF: u32 = 5_110;
const MARK_SPECIFIC: u32 = 5_112;
const MARK_MOVED: u32 = 5_113;
const MARK: u32 = 5_115;
const FROM_SPECIFIC: u32 = 5_120;
const FROM: u32 = 5_130;
const SPECIFIC: u32 = 5_290;
const TUNNEL: u32 = 5_291;

impl Changes {
    /// A routing table that nobody uses, ours included.
    fn free_table(&mut self) -> Result<u32, NetError> {
        let used = self.netlink().tables_in_use()?;
        (FIRST_TABLE..=LAST_TABLE)
            .find(|table| !used.contains(table))
            .ok_or(NetError::NoFreeTable { first: FIRST_TABLE, last: LAST_TABLE })
    }

    /// Rules of other software that take every packet before ours see it, in words for the operator. Links cannot be told apart behind them.
    ///
    /// # Errors
    /// The kernel refuses to list the rules.
    pub fn rule_conflicts(&mut self) -> Result<Vec<String>, NetError> {
        let foreign = self.netlink().foreign_rules()?;
        let mut conflicts = Vec::new();
        for family in Family::BOTH {
            let ours = Rule::lookup(family, OIF, 0);
            for rule in foreign.iter().filter(|rule| ours.is_hidden_by(rule)) {
                let ip = if family == Family::V6 { "ip -6" } else { "ip" };
                conflicts.push(format!(
                    "the routing rule {} sends all traffic to table {} before bondwire can choose a link; if that table has a default route, remove the rule (`{ip} rule del priority {}`) or give it a priority above {TUNNEL}",
                    rule.priority, rule.table, rule.priority
                ));
            }
        }
        Ok(conflicts)
    }
}
