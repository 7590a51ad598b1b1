//! Pipes for splicing, pooled.
//!
//! A pipe is taken while data moves and goes back when it is empty, so thousands of idle connections hold none. Their
//! number is bounded over all threads. The kernel grants an ordinary user 64 MiB of pipe pages in all (`pipe-user-pages-soft`);
//! beyond that a pipe cannot grow, and later new ones hold a page or two: such a pipe is worse than copying and is
//! not used.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use rustix::pipe::{PipeFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with};

use crate::worker::Shared;

/// The size asked for. Larger ones save nothing: a slot holds a whole received segment, not only a page.
const WANTED: usize = 512 * 1024;
/// A smaller pipe is not used.
const LEAST: usize = 64 * 1024;
/// Empty pipes that a thread keeps for the next burst.
const KEPT: usize = 16;

/// Both ends of a pipe, and how much it holds.
pub(crate) struct Pipe {
    pub(crate) read: OwnedFd,
    pub(crate) write: OwnedFd,
    pub(crate) filled: usize,
}

/// The empty pipes of one thread.
#[derive(Default)]
pub(crate) struct Pipes {
    empty: Vec<Pipe>,
}

impl Pipes {
    /// An empty pipe, or `None` when no more may be made.
    pub(crate) fn take(&mut self, shared: &Shared) -> Option<Pipe> {
        if let Some(pipe) = self.empty.pop() {
            return Some(pipe);
        }
        let counted = shared.pipes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < shared.config.limits.pipes).then_some(count + 1)
        });
        counted.ok()?;
        let made = make();
        if made.is_none() {
            shared.pipes.fetch_sub(1, Ordering::Relaxed);
        }
        made
    }

    /// Takes a pipe back. One that still holds data is closed: its connection is gone.
    pub(crate) fn put(&mut self, pipe: Pipe, shared: &Shared) {
        if pipe.filled == 0 && self.empty.len() < KEPT {
            self.empty.push(pipe);
        } else {
            shared.pipes.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

fn make() -> Option<Pipe> {
    let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
    let size = fcntl_setpipe_size(&write, WANTED).or_else(|_| fcntl_getpipe_size(&write)).ok()?;
    (size >= LEAST).then_some(Pipe { read, write, filled: 0 })
}
