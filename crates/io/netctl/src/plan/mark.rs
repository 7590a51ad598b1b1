//! Marked sockets: each link's mark leads to its table, and while the link is dead to another one's.

use super::{MARK, MARK_MOVED, MARK_SPECIFIC};
use crate::change::Change;
use crate::changes::Changes;
use crate::error::NetError;
use crate::model::{Family, Route, Rule};

fn group_of(mark: u32) -> String {
    format!("mark {mark:#x}")
}

fn moved_group(mark: u32) -> String {
    format!("moved mark {mark:#x}")
}

impl Changes {
    /// Leads all packets with a mark over a link, whose table [`Changes::route_link`] gave. Destinations for which `main` has a route that is
    /// more specific than a default go there as before.
    ///
    /// # Errors
    /// No permission.
    pub fn mark_link(&mut self, mark: u32, table: u32) -> Result<(), NetError> {
        let mut wanted = Vec::new();
        for family in Family::BOTH {
            wanted.push(Change::Rule(Rule {
                mark: Some(mark),
                suppress_prefix_length: Some(0),
                ..Rule::lookup(family, MARK_SPECIFIC, Route::MAIN)
            }));
            wanted.push(Change::Rule(Rule { mark: Some(mark), ..Rule::lookup(family, MARK, table) }));
        }
        self.sync(&group_of(mark), &wanted)
    }

    /// Takes back what [`Changes::mark_link`] and [`Changes::move_mark`] did.
    ///
    /// # Errors
    /// The first change that the kernel will not undo.
    pub fn unmark_link(&mut self, mark: u32) -> Result<(), NetError> {
        self.remove(&moved_group(mark))?;
        self.remove(&group_of(mark))
    }

    /// Leads a mark's packets to another link's table, or with `None` back to its own. One rule more or less: each packet
    /// goes one way or the other, and none is without a way.
    ///
    /// # Errors
    /// No permission.
    pub fn move_mark(&mut self, mark: u32, table: Option<u32>) -> Result<(), NetError> {
        let group = moved_group(mark);
        let Some(table) = table else { return self.remove(&group) };
        let wanted = Family::BOTH
            .map(|family| Change::Rule(Rule { mark: Some(mark), ..Rule::lookup(family, MARK_MOVED, table) }));
        // The new rules stand before the old ones go.
        let before: Vec<Change> = self.group(&group).cloned().collect();
        let new = wanted.iter().filter(|change| !before.contains(change)).cloned();
        let both: Vec<Change> = before.iter().cloned().chain(new).collect();
        self.sync(&group, &both)?;
        self.sync(&group, &wanted)
    }
}
