//! Where cgroup2 is mounted: at `/sys/fs/cgroup` on most systems, below it where version 1 is in use too, and out of sight in some
//! namespaces. Then it is mounted without a place, which leaves nothing behind: only a descriptor of its root is needed.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FsWord, Mode, OFlags, fstatfs, openat};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};

use crate::error::CaptureError;

/// `CGROUP2_SUPER_MAGIC`.
const MAGIC: FsWord = 0x6367_7270;

/// The outermost cgroup that this process can see.
pub(crate) fn root() -> Result<OwnedFd, CaptureError> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    if let Some(found) = places(&mounts).iter().find_map(|place| opened(place)) {
        return Ok(found);
    }
    mounted().map_err(|source| CaptureError::NoCgroup { source })
}

/// What is mounted at a place may be hidden by another mount.
fn opened(place: &Path) -> Option<OwnedFd> {
    let directory = openat(CWD, place, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let kind = fstatfs(&directory).ok()?.f_type;
    (kind == MAGIC).then_some(directory)
}

/// A mount of its own, without a place, gone with its descriptor.
fn mounted() -> io::Result<OwnedFd> {
    let context = fsopen("cgroup2", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(&context)?;
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    Ok(openat(&mount, ".", OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// The mount points, the shortest first: the outermost.
fn places(mounts: &str) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            let place = words.next()?;
            (words.next() == Some("cgroup2")).then(|| PathBuf::from(unescape(place)))
        })
        .collect();
    places.sort_by_key(|place| place.as_os_str().len());
    places
}

/// Blanks and backslashes stand as octal numbers.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_found_beside_version_1() {
        let mounts = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n\
            cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
            cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0\n";
        assert_eq!(places(mounts), [PathBuf::from("/sys/fs/cgroup/unified")]);
    }

    #[test]
    fn the_outermost_comes_first_and_names_are_read_as_written() {
        let mounts = "none /mnt/a\\040place/deep cgroup2 rw 0 0\nnone /mnt/a\\040place cgroup2 rw 0 0\n";
        assert_eq!(places(mounts), [PathBuf::from("/mnt/a place"), PathBuf::from("/mnt/a place/deep")]);
        assert!(places("proc /proc proc rw 0 0\n").is_empty());
    }
}
