//! Whose socket it is: the process that has its inode open.
//!
//! The kernel does not say, so `/proc/PID/fd` of all processes is searched; for as many descriptors as a machine may have, that is
//! too much for each question. So answers are kept while the inode is asked for, a search happens only when an inode is new, at most
//! every [`PAUSE`], and looks at no more than [`MAX_LOOKS`] descriptors; the next one goes on where it ended. An inode
//! that several processes share belongs to the one that was found first.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::MAX_SOCKETS;

/// The time between two searches at least.
const PAUSE: Duration = Duration::from_millis(500);
/// The descriptors that one search looks at: some 30 ms of work.
const MAX_LOOKS: usize = 16_384;
/// Searches that have to miss an inode until it counts as nobody's: those of other users cannot be seen.
const TRIES: u8 = 4;

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// Its name, at most 15 bytes, as the kernel has it (`comm`).
    pub name: String,
}

/// What is known of an inode.
#[derive(Clone, Debug)]
enum Owner {
    /// So many searches have missed it.
    Missed(u8),
    Found(Process),
}

/// Finds the processes behind inodes.
#[derive(Debug, Default)]
pub struct Owners {
    known: BTreeMap<u64, Owner>,
    searched: Option<Instant>,
    /// The process at which the last search had done enough.
    resume: u32,
}

impl Owners {
    /// Nothing is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The process of an inode, as far as it was found by [`Owners::refresh`].
    pub fn of(&self, inode: u64) -> Option<&Process> {
        match self.known.get(&inode)? {
            Owner::Found(process) => Some(process),
            Owner::Missed(_) => None,
        }
    }

    /// Looks for the owners of these inodes, and forgets all others. At most [`MAX_SOCKETS`] are taken.
    pub fn refresh(&mut self, inodes: impl IntoIterator<Item = u64>) {
        let wanted: BTreeSet<u64> =
            inodes.into_iter().filter(|inode| *inode != 0).take(MAX_SOCKETS).collect();
        self.known.retain(|inode, _| wanted.contains(inode));
        for inode in wanted {
            self.known.entry(inode).or_insert(Owner::Missed(0));
        }
        let is_open = |owner: &Owner| matches!(owner, Owner::Missed(tries) if *tries < TRIES);
        let due = self.searched.is_none_or(|last| last.elapsed() >= PAUSE);
        if due && self.known.values().any(is_open) {
            self.searched = Some(Instant::now());
            self.search(Path::new("/proc"));
        }
    }

    fn search(&mut self, proc: &Path) {
        let mut pids: Vec<u32> = fs::read_dir(proc)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect();
        pids.sort_unstable();
        let start = pids.partition_point(|pid| *pid < self.resume);
        pids.rotate_left(start);
        let mut looks = 0;
        self.resume = 0;
        for pid in pids {
            if looks >= MAX_LOOKS {
                self.resume = pid;
                break;
            }
            looks += self.search_process(proc, pid, MAX_LOOKS - looks);
        }
        if self.resume == 0 {
            for owner in self.known.values_mut() {
                if let Owner::Missed(tries) = owner {
                    *tries = tries.saturating_add(1);
                }
            }
        }
    }

    /// Looks through one process. How many descriptors it has, at most `most`.
    fn search_process(&mut self, proc: &Path, pid: u32, most: usize) -> usize {
        let folder = proc.join(pid.to_string());
        let mut looks = 1;
        let mut process = None;
        // Other users' processes cannot be looked into, and processes end: neither is an error.
        for entry in fs::read_dir(folder.join("fd")).into_iter().flatten().flatten().take(most) {
            looks += 1;
            let inode = fs::read_link(entry.path()).ok().and_then(|target| inode_of(target.to_str()?));
            let Some(owner) = inode.and_then(|inode| self.known.get_mut(&inode)) else { continue };
            if matches!(owner, Owner::Found(_)) {
                continue;
            }
            let process = process.get_or_insert_with(|| {
                let name = fs::read_to_string(folder.join("comm")).unwrap_or_default();
                Process { pid, name: name.trim_end().to_owned() }
            });
            *owner = Owner::Found(process.clone());
        }
        looks
    }
}

/// `socket:[12345]`
fn inode_of(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let link = fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a descriptor");
        let inode = inode_of(link.to_str().expect("text")).expect("a socket");
        let mut owners = Owners::new();
        owners.refresh([inode, u64::MAX]);
        let process = owners.of(inode).expect("found");
        assert_eq!(process.pid, std::process::id());
        assert!(!process.name.is_empty());
        assert_eq!(owners.of(u64::MAX), None);
        owners.refresh([]);
        assert_eq!(owners.of(inode), None, "what is not asked for is forgotten");
    }

    #[test]
    fn only_sockets_have_such_inodes() {
        assert_eq!(inode_of("socket:[77]"), Some(77));
        for other in ["pipe:[77]", "socket:[]", "socket:[x]", "/dev/null", ""] {
            assert_eq!(inode_of(other), None, "{other}");
        }
    }
}
