//! The journal: what was changed, on disk before it is changed.
//!
//! A file of JSON objects, one a line. The first names the boot and the network namespace that it speaks of; then
//! `{"do":N,"change":…}` before a change is made, `{"done":N}` when it is undone (or was there before and so is not ours).
//! Each group of lines is synced to disk before the kernel is asked for anything. A crash leaves at worst a last line that is
//! cut off, whose change was never made. The file is locked while its owner lives, and removed when nothing is left to undo.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::changes::UndoFailure;
use crate::error::NetError;
use crate::netlink::Netlink;

/// The file of a state directory.
const FILE_NAME: &str = "network.journal";

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Header {
        bondwire_journal: u32,
        boot: String,
        namespace: u64,
    },
    Do {
        r#do: u64,
        #[serde(flatten)]
        change: Change,
    },
    Done {
        done: u64,
    },
}

/// An open, locked journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    next: u64,
}

/// What was found and undone of an earlier run.
#[derive(Debug, Default)]
pub struct Recovery {
    /// Changes that were undone, or found gone.
    pub undone: usize,
    /// Changes that could not be undone. They stay in the journal.
    pub failed: Vec<UndoFailure>,
    /// The journal spoke of another network namespace, and was put aside here.
    pub set_aside: Option<PathBuf>,
}

impl Journal {
    /// Undoes, in reverse order, what a run that ended without doing so has left. Without a journal there is nothing to do.
    ///
    /// A journal from before the last boot is discarded: nothing of what it lists has survived. One of another network namespace is put aside.
    ///
    /// # Errors
    /// The run is still alive, or the file cannot be read. What could not be undone is in [`Recovery::failed`].
    pub fn recover(state_dir: &Path) -> Result<Recovery, NetError> {
        let path = state_dir.join(FILE_NAME);
        let file = match OpenOptions::new().read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Recovery::default()),
            Err(source) => return Err(NetError::Journal { what: "open", path, source }),
        };
        Self { path, file, next: 0 }.locked()?.undo_all()
    }

    /// Recovers what an earlier run left, and begins a new journal.
    ///
    /// # Errors
    /// As [`Journal::recover`], or the file cannot be written. With changes that could not be undone the journal goes on where it was.
    pub fn open(state_dir: &Path) -> Result<(Self, Recovery), NetError> {
        let recovery = Self::recover(state_dir)?;
        let path = state_dir.join(FILE_NAME);
        let fail = |what, source| NetError::Journal { what, path: path.clone(), source };
        fs::create_dir_all(state_dir).map_err(|source| fail("make the directory of", source))?;
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| fail("open", source))?;
        let mut journal = Self { path: path.clone(), file, next: 1 }.locked()?;
        let standing = journal.read()?;
        journal.next = standing.last_number + 1;
        if standing.header.is_none() {
            let (boot, namespace) = here();
            journal.write(&[Line::Header { bondwire_journal: 1, boot, namespace }])?;
            // The name itself has to survive a power cut as well.
            File::open(state_dir).and_then(|dir| dir.sync_all()).map_err(|source| fail("sync", source))?;
        }
        Ok((journal, recovery))
    }

    /// Writes down that these changes are about to be made, and gives their numbers.
    pub(crate) fn intend(&mut self, changes: &[Change]) -> Result<Vec<u64>, NetError> {
        let numbers: Vec<u64> = (self.next..).take(changes.len()).collect();
        let lines: Vec<Line> = numbers
            .iter()
            .zip(changes)
            .map(|(number, change)| Line::Do { r#do: *number, change: change.clone() })
            .collect();
        self.write(&lines)?;
        self.next += changes.len() as u64;
        Ok(numbers)
    }

    /// Writes down that these changes are undone, or were never ours.
    pub(crate) fn conclude(&mut self, numbers: &[u64]) -> Result<(), NetError> {
        let lines: Vec<Line> = numbers.iter().map(|number| Line::Done { done: *number }).collect();
        self.write(&lines)
    }

    /// Removes the file: nothing is left to undo.
    pub(crate) fn remove(self) -> Result<(), NetError> {
        fs::remove_file(&self.path).map_err(|source| self.fail("remove", source))
    }

    fn fail(&self, what: &'static str, source: io::Error) -> NetError {
        NetError::Journal { what, path: self.path.clone(), source }
    }

    fn locked(self) -> Result<Self, NetError> {
        match self.file.try_lock() {
            Ok(()) => Ok(self),
            Err(TryLockError::WouldBlock) => Err(NetError::JournalInUse { path: self.path }),
            Err(TryLockError::Error(source)) => Err(self.fail("lock", source)),
        }
    }

    fn write(&mut self, lines: &[Line]) -> Result<(), NetError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|source| self.fail("write", source.into()))?;
            text.push(b'\n');
        }
        // One write: a crash cuts off the end and never mixes lines.
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| self.fail("write", source))
    }

    fn read(&mut self) -> Result<Standing, NetError> {
        let mut text = String::new();
        let mut file = File::open(&self.path).map_err(|source| self.fail("read", source))?;
        file.read_to_string(&mut text).map_err(|source| self.fail("read", source))?;
        let mut standing = Standing::default();
        for line in text.lines() {
            // A line that was cut off announces a change that was never made.
            match serde_json::from_str(line) {
                Ok(Line::Header { boot, namespace, .. }) => standing.header = Some((boot, namespace)),
                Ok(Line::Do { r#do, change }) => {
                    standing.last_number = standing.last_number.max(r#do);
                    standing.changes.insert(r#do, change);
                }
                Ok(Line::Done { done }) => {
                    standing.changes.remove(&done);
                }
                Err(_) => {}
            }
        }
        Ok(standing)
    }

    fn undo_all(mut self) -> Result<Recovery, NetError> {
        let standing = self.read()?;
        let (boot, namespace) = here();
        let mut recovery = Recovery::default();
        match &standing.header {
            Some((journal_boot, _)) if *journal_boot != boot => {}
            Some((_, journal_namespace))
                if *journal_namespace != namespace && !standing.changes.is_empty() =>
            {
                let aside = self.path.with_extension("journal.other-namespace");
                fs::rename(&self.path, &aside).map_err(|source| self.fail("put aside", source))?;
                recovery.set_aside = Some(aside);
                return Ok(recovery);
            }
            _ if standing.changes.is_empty() => {}
            _ => {
                let mut netlink = Netlink::open()?;
                for (number, change) in standing.changes.iter().rev() {
                    match change.undo(&mut netlink) {
                        Ok(()) => {
                            self.conclude(&[*number])?;
                            recovery.undone += 1;
                        }
                        Err(error) => recovery.failed.push(UndoFailure { change: change.clone(), error }),
                    }
                }
            }
        }
        if recovery.failed.is_empty() {
            self.remove()?;
        }
        Ok(recovery)
    }
}

/// What a journal's text amounts to.
#[derive(Default)]
struct Standing {
    header: Option<(String, u64)>,
    changes: BTreeMap<u64, Change>,
    last_number: u64,
}

/// This boot and this network namespace. What cannot be read is the same everywhere, and so never a difference.
fn here() -> (String, u64) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let namespace = fs::metadata("/proc/thread-self/ns/net").map_or(0, |metadata| metadata.ino());
    (boot.trim().to_owned(), namespace)
}
