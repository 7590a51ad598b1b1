use std::path::Path;

use crate::change::Change;
use crate::error::NetError;
use crate::journal::{Journal, Recovery};
use crate::netlink::Netlink;
use crate::nft;

/// A change that could not be undone.
#[derive(Debug)]
pub struct UndoFailure {
    /// The change.
    pub change: Change,
    /// Why.
    pub error: NetError,
}

/// All changes that this process has made to the system's network, and the guard that undoes them.
///
/// Changes belong to named groups. [`Changes::sync`] makes a group equal to what is wanted: it undoes what is no longer
/// wanted, makes what is new, and makes again what the kernel took away with an interface. To sync the same twice changes nothing.
///
/// What was there before is not ours: it is left alone, and stays when the group goes.
/// Dropping the value undoes everything in reverse order; [`Changes::undo`] does the same and tells what failed.
#[derive(Debug)]
pub struct Changes {
    netlink: Netlink,
    journal: Option<Journal>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Made {
    group: String,
    change: Change,
    number: u64,
    /// It stood there before us, and will stay.
    foreign: bool,
}

impl Changes {
    /// Undoes what an earlier run has left in this state directory, and starts a journal there.
    ///
    /// # Errors
    /// The earlier run still lives, the journal cannot be read or written, or the kernel gives no netlink socket.
    pub fn open(state_dir: &Path) -> Result<(Self, Recovery), NetError> {
        let netlink = Netlink::open()?;
        let (journal, recovery) = Journal::open(state_dir)?;
        Ok((Self { netlink, journal: Some(journal), made: Vec::new() }, recovery))
    }

    /// Without a journal: for a network namespace that dies with the process.
    ///
    /// # Errors
    /// The kernel gives no netlink socket.
    pub fn unjournaled() -> Result<Self, NetError> {
        Ok(Self { netlink: Netlink::open()?, journal: None, made: Vec::new() })
    }

    /// The connection to the kernel, for questions and for devices that die with the process.
    pub fn netlink(&mut self) -> &mut Netlink {
        &mut self.netlink
    }

    /// Makes a group of changes equal to `wanted`, in that order.
    ///
    /// # Errors
    /// The first change that the kernel refuses. The ones before it stand, and belong to the group.
    pub fn sync(&mut self, group: &str, wanted: &[Change]) -> Result<(), NetError> {
        self.replace_tables(group, wanted)?;
        self.undo_where(|made| made.group == group && !wanted.contains(&made.change))?;
        let (standing, new): (Vec<&Change>, Vec<&Change>) = wanted
            .iter()
            .partition(|change| self.made.iter().any(|made| made.group == group && made.change == **change));
        for change in standing.into_iter().filter(|change| change.is_perishable()) {
            match change.apply(&mut self.netlink) {
                Err(error) if !error.is_exists() => return Err(error),
                _ => {}
            }
        }
        let new: Vec<Change> = new.into_iter().cloned().collect();
        let numbers = match &mut self.journal {
            Some(journal) => journal.intend(&new)?,
            None => vec![0; new.len()],
        };
        for (index, (change, number)) in new.into_iter().zip(&numbers).enumerate() {
            let result = change.apply(&mut self.netlink);
            let foreign = match &result {
                Ok(()) => false,
                Err(error) if error.is_exists() => true,
                Err(_) => {
                    self.conclude(&numbers[index..])?;
                    return result;
                }
            };
            if foreign {
                self.conclude(&[*number])?;
            }
            self.made.push(Made { group: group.to_owned(), change, number: *number, foreign });
        }
        Ok(())
    }

    /// Gives nftables tables that stand already their new content, so that no packet sees them missing.
    fn replace_tables(&mut self, group: &str, wanted: &[Change]) -> Result<(), NetError> {
        for change in wanted {
            let Change::NftTable { name, .. } = change else { continue };
            let same_name = |made: &&mut Made| {
                made.group == group && matches!(&made.change, Change::NftTable { name: n, .. } if n == name)
            };
            if let Some(made) = self.made.iter_mut().find(same_name)
                && made.change != *change
            {
                change.apply(&mut self.netlink)?;
                made.change = change.clone();
            }
        }
        Ok(())
    }

    /// Runs `nft` commands on tables of ours, in one transaction: for elements of sets and maps, which come and go with their table.
    ///
    /// # Errors
    /// `nft` is missing or refuses. Nothing is changed then.
    pub fn nft_commands(&mut self, what: &str, script: &str) -> Result<(), NetError> {
        nft::commands(what, script)
    }

    /// Undoes a group.
    ///
    /// # Errors
    /// The first change that the kernel will not undo; the others are undone all the same.
    pub fn remove(&mut self, group: &str) -> Result<(), NetError> {
        self.undo_where(|made| made.group == group)
    }

    /// The changes of a group, as they were asked for.
    pub fn group(&self, group: &str) -> impl Iterator<Item = &Change> {
        self.made.iter().filter(move |made| made.group == group).map(|made| &made.change)
    }

    /// Undoes everything in reverse order, and removes the journal if nothing is left.
    pub fn undo(mut self) -> Vec<UndoFailure> {
        self.undo_everything()
    }

    fn conclude(&mut self, numbers: &[u64]) -> Result<(), NetError> {
        self.journal.as_mut().map_or(Ok(()), |journal| journal.conclude(numbers))
    }

    fn undo_where(&mut self, chosen: impl Fn(&Made) -> bool) -> Result<(), NetError> {
        let mut first_error = None;
        for index in (0..self.made.len()).rev() {
            if !chosen(&self.made[index]) {
                continue;
            }
            let made = self.made.remove(index);
            if made.foreign {
                continue;
            }
            match made.change.undo(&mut self.netlink) {
                Ok(()) => self.conclude(&[made.number])?,
                Err(error) => {
                    first_error.get_or_insert(error);
                    // It stays in the journal, for the next start to try again.
                }
            }
        }
        first_error.map_or(Ok(()), Err)
    }

    fn undo_everything(&mut self) -> Vec<UndoFailure> {
        let mut failures = Vec::new();
        while let Some(made) = self.made.pop() {
            if made.foreign {
                continue;
            }
            match made.change.undo(&mut self.netlink) {
                Ok(()) => {
                    if let Err(error) = self.conclude(&[made.number]) {
                        tracing::warn!(%error, "the journal cannot be written while changes are undone");
                    }
                }
                Err(error) => failures.push(UndoFailure { change: made.change, error }),
            }
        }
        if failures.is_empty()
            && let Some(journal) = self.journal.take()
            && let Err(error) = journal.remove()
        {
            tracing::warn!(%error, "the journal stays behind, with nothing left to undo");
        }
        failures
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        for failure in self.undo_everything() {
            tracing::warn!(error = %failure.error, "a change of the network could not be undone");
        }
    }
}
