//! The largest handshake timestamps, on disk (docs/protocol.md, HS-5).
//!
//! A client persists the one that it is about to use, a server the largest that each client has used. A state folder that is
//! lost is no disaster: the server tells a client whose clock is behind what to go on from, and a server without a memory
//! accepts at worst one old handshake, which yields no session without the client's keys.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bondwire_api::Fault;

use crate::files;

/// One timestamp in one file.
#[derive(Clone, Debug)]
pub(crate) struct TimestampFile {
    path: PathBuf,
}

impl TimestampFile {
    /// The file at `path`.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What it holds; 0 if it is not there or holds something else.
    pub(crate) fn load(&self) -> Result<u64, Fault> {
        Ok(files::read(&self.path)?.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
    }

    /// Writes it.
    pub(crate) fn save(&self, timestamp: u64) -> Result<(), Fault> {
        files::write_whole(&self.path, &format!("{timestamp}\n"), files::SECRET)
    }
}

/// One file per client of a server, named by its invite.
#[derive(Debug)]
pub(crate) struct TimestampFolder {
    folder: PathBuf,
    known: BTreeMap<[u8; 8], u64>,
}

impl TimestampFolder {
    /// Reads the folder, which is made if it is not there, and forgets those who are no clients any more.
    pub(crate) fn open(folder: &Path, clients: &BTreeSet<[u8; 8]>) -> Result<Self, Fault> {
        std::fs::create_dir_all(folder).map_err(|error| {
            Fault::from_io(
                format!("cannot use the folder {}", folder.display()),
                &error,
                "choose another with --state-dir",
            )
        })?;
        let mut this = Self { folder: folder.to_owned(), known: BTreeMap::new() };
        for id in clients {
            let timestamp = TimestampFile::new(this.path(id)).load()?;
            if timestamp > 0 {
                this.known.insert(*id, timestamp);
            }
        }
        this.forget_others(clients);
        Ok(this)
    }

    /// The largest timestamp of a client; 0 if it has none.
    pub(crate) fn get(&self, id: &[u8; 8]) -> u64 {
        self.known.get(id).copied().unwrap_or(0)
    }

    /// Notes a timestamp, and writes it if it is the largest.
    pub(crate) fn note(&mut self, id: [u8; 8], timestamp: u64) -> Result<(), Fault> {
        if timestamp <= self.get(&id) {
            return Ok(());
        }
        self.known.insert(id, timestamp);
        TimestampFile::new(self.path(&id)).save(timestamp)
    }

    /// Removes the files of those who are no clients any more: the folder is never larger than the list of clients.
    fn forget_others(&self, clients: &BTreeSet<[u8; 8]>) {
        let wanted: BTreeSet<PathBuf> = clients.iter().map(|id| self.path(id)).collect();
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return };
        for path in entries.flatten().map(|entry| entry.path()).filter(|path| !wanted.contains(path)) {
            let _ = std::fs::remove_file(path);
        }
    }

    fn path(&self, id: &[u8; 8]) -> PathBuf {
        self.folder.join(format!("{:016x}", u64::from_be_bytes(*id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_remembered() {
        let dir = tempfile::tempdir().expect("a directory");
        let clients = BTreeSet::from([[1; 8], [2; 8]]);
        let mut folder = TimestampFolder::open(dir.path(), &clients).expect("opened");
        folder.note([1; 8], 100).expect("written");
        folder.note([1; 8], 50).expect("ignored");
        folder.note([2; 8], 7).expect("written");
        let folder = TimestampFolder::open(dir.path(), &BTreeSet::from([[1; 8]])).expect("opened");
        assert_eq!((folder.get(&[1; 8]), folder.get(&[2; 8])), (100, 0));
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn rubbish_counts_as_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = TimestampFile::new(dir.path().join("t"));
        assert_eq!(file.load().expect("missing"), 0);
        std::fs::write(dir.path().join("t"), "12x").expect("written");
        assert_eq!(file.load().expect("rubbish"), 0);
        file.save(12).expect("written");
        assert_eq!(file.load().expect("good"), 12);
    }
}
