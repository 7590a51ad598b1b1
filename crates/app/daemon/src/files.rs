//! Files that survive anything: a full disk, a folder that is read-only, a `kill -9` at any instruction.
//!
//! A file is written under another name, flushed, and renamed; readers see the old one or the new one, whole. Writers of a
//! folder exclude one another by a lock on the folder itself, so that the name of the temporary file can be fixed:
//! what a killed writer left is overwritten by the next, and never piles up.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bondwire_api::Fault;
use rustix::fs::{FlockOperation, flock};

/// The greatest file that is read, in bytes: far more than any configuration needs.
const MAX_FILE: u64 = 1 << 20;
/// Readable by the owner alone.
pub(crate) const SECRET: u32 = 0o600;
/// Readable by all.
pub(crate) const PUBLIC: u32 = 0o644;

/// The exclusive right to change the files of one folder, until it is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _folder: File,
}

impl FolderLock {
    /// Makes the folder with `mode` if it is not there, and waits for the right to change it.
    pub(crate) fn acquire(folder: &Path, mode: u32) -> Result<Self, Fault> {
        let what = || format!("cannot use the folder {}", folder.display());
        let advice = "check that its parent exists and is writable, or choose another with --config-dir or --state-dir";
        DirBuilder::new()
            .recursive(true)
            .mode(mode)
            .create(folder)
            .map_err(|error| Fault::from_io(what(), &error, advice))?;
        let file = File::open(folder).map_err(|error| Fault::from_io(what(), &error, advice))?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|errno| Fault::from_io(what(), &errno.into(), advice))?;
        Ok(Self { _folder: file })
    }
}

/// Whether a name in a folder is one of a file that is not finished.
pub(crate) fn is_unfinished(name: &str) -> bool {
    name.starts_with('.')
}

/// Replaces the file at `path` as a whole. The caller holds the lock of its folder, or is its only writer.
pub(crate) fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), Fault> {
    try_write_whole(path, text, mode).map_err(|error| {
        Fault::from_io(
            format!("cannot write {}", path.display()),
            &error,
            "make room or make the folder writable, then repeat the command; nothing was changed",
        )
    })
}

/// As [`write_whole`], with the bare error.
pub(crate) fn try_write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let temporary = temporary_of(path)?;
    let result = (|| {
        // What a killed writer left may have another mode, or be a link to somewhere.
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.set_permissions(Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    })();
    if result.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    result
}

fn temporary_of(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::other("a file needs a name"))?;
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push(".new");
    Ok(path.with_file_name(temporary))
}

/// The text of a file; none if it is not there.
pub(crate) fn read(path: &Path) -> Result<Option<String>, Fault> {
    let fault = |error: &io::Error| {
        Fault::from_io(format!("cannot read {}", path.display()), error, "check the file and its owner")
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fault(&error)),
    };
    let mut text = String::new();
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| fault(&error))?;
    if text.len() as u64 > MAX_FILE {
        return Err(fault(&io::Error::other("it is larger than 1 MiB, so it is not what its name says")));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_whole_files_and_leaves_nothing_else() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        std::fs::write(dir.path().join(".a.toml.new"), "left by a killed writer").expect("a file");
        write_whole(&path, "one", SECRET).expect("written");
        write_whole(&path, "two", SECRET).expect("written");
        assert_eq!(read(&path).expect("read").as_deref(), Some("two"));
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, SECRET);
        assert_eq!(std::fs::read_dir(dir.path()).expect("listed").count(), 1);
    }

    #[test]
    fn a_failed_write_keeps_the_old_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.toml");
        write_whole(&path, "old", PUBLIC).expect("written");
        // A folder in the way of the temporary file fails even for root.
        std::fs::create_dir(dir.path().join(".a.toml.new")).expect("a folder");
        let fault = write_whole(&path, "new", PUBLIC).expect_err("cannot be written");
        assert!(fault.what_to_do.contains("nothing was changed"));
        assert_eq!(read(&path).expect("read").as_deref(), Some("old"));
    }

    #[test]
    fn a_missing_file_is_no_error() {
        assert_eq!(read(Path::new("/nonexistent/bondwire")).expect("no error"), None);
    }

    #[test]
    fn the_lock_excludes_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let lock = FolderLock::acquire(dir.path(), 0o700).expect("free");
        let other = File::open(dir.path()).expect("opened");
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(lock);
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
