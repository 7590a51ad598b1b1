//! The server's clients, as its files say, at any moment.
//!
//! The files are the truth: `invite` and `revoke` write them, a running server watches their folder and hears of each
//! change at once. What the server itself learns goes back into the files (the key that an invite was used with) or
//! into the state folder (timestamps). A file that cannot be read does not take the others down with it, nor the client
//! whose file it is: what was last known of it stays in force, with a warning. A disk that is full keeps nobody
//! out: what could not be written stays in memory, and is written at the next occasion.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bondwire_api::Fault;
use bondwire_bond::ClientRecord;
use bondwire_crypto::PublicKey;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};

use crate::files::FolderLock;
use crate::folders::Folders;
use crate::identity::{StoredClient, update_client};
use crate::names::ClientName;
use crate::timestamps::TimestampFolder;

/// The server's clients, watched.
#[derive(Debug)]
pub(crate) struct Directory {
    folders: Folders,
    inotify: OwnedFd,
    known: BTreeMap<ClientName, StoredClient>,
    timestamps: TimestampFolder,
    unsaved: BTreeMap<[u8; 8], PublicKey>,
}

impl Directory {
    /// Reads the clients and begins to watch them.
    pub(crate) fn open(folders: &Folders) -> Result<Self, Fault> {
        let fault = |error: rustix::io::Errno| {
            Fault::from_io(
                format!("cannot watch the clients in {}", folders.clients().display()),
                &error.into(),
                "raise fs.inotify.max_user_instances if the system has run out of them",
            )
        };
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(fault)?;
        watch(&inotify, folders)?;
        let mut known = BTreeMap::new();
        read_into(&mut known, folders)?;
        let ids: BTreeSet<[u8; 8]> = known.values().map(|client| client.invite_id).collect();
        let timestamps = TimestampFolder::open(&folders.state.join("timestamps"), &ids)?;
        Ok(Self { folders: folders.clone(), inotify, known, timestamps, unsaved: BTreeMap::new() })
    }

    /// All clients, as the bond wants them, sorted by name.
    pub(crate) fn records(&self) -> Vec<ClientRecord> {
        self.known
            .values()
            .map(|client| ClientRecord {
                name: client.name.to_string(),
                public_key: client.public_key.or_else(|| self.unsaved.get(&client.invite_id).copied()),
                invite_id: client.invite_id,
                psk: client.secret.clone(),
                invite_expires: client.invite_expires,
                v4: Some(client.v4),
                v6: client.v6,
                last_timestamp: self.timestamps.get(&client.invite_id),
                revoked: client.revoked,
            })
            .collect()
    }

    /// All clients, as their files say, sorted by name.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &StoredClient> {
        self.known.values()
    }

    /// Reads the files again if any of them changed since the last call. Whether one did.
    pub(crate) fn refresh(&mut self) -> bool {
        if !self.drain() {
            return false;
        }
        match read_into(&mut self.known, &self.folders) {
            Ok(()) => true,
            Err(fault) => {
                tracing::warn!("{fault}");
                false
            }
        }
    }

    /// Takes the notifications off the descriptor; whether there were any.
    fn drain(&mut self) -> bool {
        let mut any = false;
        let mut lost = false;
        let mut space = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.inotify, &mut space);
        while let Ok(event) = reader.next() {
            any = true;
            lost |= event.events().contains(ReadFlags::IGNORED);
        }
        if lost && let Err(fault) = watch(&self.inotify, &self.folders) {
            tracing::error!("{fault}");
        }
        any
    }

    /// A client's key was seen for the first time: it is the one from now on.
    pub(crate) fn on_pinned(&mut self, invite_id: [u8; 8], key: PublicKey) {
        self.unsaved.insert(invite_id, key);
        self.save_keys();
    }

    /// A client's largest timestamp.
    pub(crate) fn on_timestamp(&mut self, invite_id: [u8; 8], timestamp: u64) {
        if let Err(fault) = self.timestamps.note(invite_id, timestamp) {
            tracing::error!(
                "a client's handshake was not written down, and could be replayed after a restart: {fault}"
            );
        }
    }

    /// Tries again to write what could not be written.
    pub(crate) fn save_keys(&mut self) {
        let folders = &self.folders;
        let known = &self.known;
        self.unsaved.retain(|invite_id, key| {
            // One that was removed meanwhile has nothing to be written.
            if !known.values().any(|client| client.invite_id == *invite_id) {
                return false;
            }
            match update_client(folders, *invite_id, *key) {
                Ok(()) => false,
                Err(fault) => {
                    tracing::error!("the key of a new client is not written down yet: {fault}");
                    true
                }
            }
        });
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Watches the folder, and makes it if it is not there.
fn watch(inotify: &OwnedFd, folders: &Folders) -> Result<(), Fault> {
    let folder = folders.clients();
    drop(FolderLock::acquire(&folder, 0o700)?);
    let what = WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::DELETE
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::ONLYDIR;
    inotify::add_watch(inotify, &folder, what).map(drop).map_err(|errno| {
        Fault::from_io(
            format!("cannot watch the clients in {}", folder.display()),
            &errno.into(),
            "raise fs.inotify.max_user_watches if the system has run out of them",
        )
    })
}

/// Brings the list up to date; a client whose file is broken stays as it was.
fn read_into(known: &mut BTreeMap<ClientName, StoredClient>, folders: &Folders) -> Result<(), Fault> {
    let folder = folders.clients();
    let names = StoredClient::names(&folder)?;
    known.retain(|name, _| names.binary_search(name).is_ok());
    for name in names {
        match StoredClient::load(&folder, &name) {
            Ok(Some(client)) => {
                known.insert(name, client);
            }
            Ok(None) => {
                known.remove(&name);
            }
            Err(fault) => tracing::warn!("the client `{name}` stays as it was: {fault}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bondwire_crypto::SecretKey;

    use super::*;
    use crate::identity::{self, InitOptions};

    fn server(dir: &std::path::Path) -> Folders {
        let folders = Folders { config: dir.join("etc"), state: dir.join("var"), socket: dir.join("sock") };
        let options = InitOptions {
            endpoint: "192.0.2.1:4433".parse().expect("good"),
            network: "10.99.0.0/24".parse().expect("good"),
            network6: None,
        };
        identity::server_init(&folders, &options).expect("made");
        folders
    }

    fn invite(folders: &Folders, name: &str) {
        identity::invite(folders, &name.parse().expect("good"), Duration::from_secs(60)).expect("invited");
    }

    fn wait(directory: &mut Directory) {
        let mut fds = [rustix::event::PollFd::new(directory, rustix::event::PollFlags::IN)];
        let patience = rustix::time::Timespec { tv_sec: 10, tv_nsec: 0 };
        rustix::event::poll(&mut fds, Some(&patience)).expect("polled");
        assert!(directory.refresh(), "a change was heard of");
    }

    #[test]
    fn invites_and_revocations_are_heard_of() {
        let dir = tempfile::tempdir().expect("a directory");
        let folders = server(dir.path());
        let mut directory = Directory::open(&folders).expect("opened");
        assert!(directory.records().is_empty() && !directory.refresh());
        invite(&folders, "a");
        wait(&mut directory);
        assert_eq!(directory.records().len(), 1);
        identity::revoke(&folders, &"a".parse().expect("good")).expect("revoked");
        wait(&mut directory);
        assert!(directory.records()[0].revoked);
        std::fs::remove_file(folders.clients().join("a.toml")).expect("removed");
        wait(&mut directory);
        assert!(directory.records().is_empty());
    }

    #[test]
    fn what_the_server_learns_survives() {
        let dir = tempfile::tempdir().expect("a directory");
        let folders = server(dir.path());
        invite(&folders, "a");
        let mut directory = Directory::open(&folders).expect("opened");
        let id = directory.records()[0].invite_id;
        let key = SecretKey::from_bytes([3; 32]).public();
        directory.on_pinned(id, key);
        directory.on_timestamp(id, 77);
        let again = Directory::open(&folders).expect("opened");
        assert_eq!(again.records()[0].public_key, Some(key));
        assert_eq!(again.records()[0].last_timestamp, 77);
    }

    #[test]
    fn a_broken_file_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let folders = server(dir.path());
        invite(&folders, "a");
        invite(&folders, "b");
        let mut directory = Directory::open(&folders).expect("opened");
        std::fs::write(folders.clients().join("a.toml"), "oops").expect("written");
        wait(&mut directory);
        assert_eq!(directory.records().len(), 2);
        assert_eq!(Directory::open(&folders).expect("opened").records().len(), 1);
    }

    #[test]
    fn a_folder_that_was_replaced_is_watched_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let folders = server(dir.path());
        invite(&folders, "a");
        let mut directory = Directory::open(&folders).expect("opened");
        std::fs::remove_dir_all(folders.clients()).expect("removed");
        wait(&mut directory);
        assert!(directory.records().is_empty());
        invite(&folders, "b");
        wait(&mut directory);
        assert_eq!(directory.records()[0].name, "b");
    }
}
