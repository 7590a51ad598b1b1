//! The things that a daemon's main thread waits for, besides the kernel's news: a word from another thread, a signal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use bondwire_api::Fault;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// Wakes the main thread from any other. Clones wake the same one.
#[derive(Clone, Debug)]
pub(crate) struct Waker {
    event: Arc<OwnedFd>,
}

impl Waker {
    /// A new one.
    pub(crate) fn new() -> Result<Self, Fault> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
            .map_err(|errno| shortage(&errno.into()))?;
        Ok(Self { event: Arc::new(event) })
    }

    /// Wakes it. Any number of calls before it wakes count as one.
    pub(crate) fn wake(&self) {
        // It fails only if nobody has listened 2^64 - 2 times.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Goes back to sleep.
    pub(crate) fn rest(&self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.event, &mut count);
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// Tells that SIGINT, SIGTERM or SIGHUP came.
#[derive(Debug)]
pub(crate) struct StopSignal {
    pipe: UnixStream,
}

impl StopSignal {
    /// Catches the signals from now on. One for each process.
    pub(crate) fn catch() -> Result<Self, Fault> {
        let (reader, writer) = UnixStream::pair().map_err(|error| shortage(&error))?;
        reader.set_nonblocking(true).map_err(|error| shortage(&error))?;
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
        {
            let writer = writer.try_clone().map_err(|error| shortage(&error))?;
            signal_hook::low_level::pipe::register(signal, writer).map_err(|error| shortage(&error))?;
        }
        Ok(Self { pipe: reader })
    }

    /// Whether one came.
    pub(crate) fn came(&self) -> bool {
        let mut byte = [0; 1];
        matches!(rustix::io::read(&self.pipe, &mut byte), Ok(1))
    }
}

impl AsFd for StopSignal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Waits until one of these is readable, or the time is over.
pub(crate) fn wait(sources: &[BorrowedFd<'_>], patience: Duration) -> Result<(), Fault> {
    let mut fds: Vec<PollFd<'_>> =
        sources.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let patience =
        Timespec { tv_sec: patience.as_secs() as i64, tv_nsec: i64::from(patience.subsec_nanos()) };
    match poll(&mut fds, Some(&patience)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(shortage(&errno.into())),
    }
}

fn shortage(error: &std::io::Error) -> Fault {
    Fault::from_io(
        "the system gives too little to run",
        error,
        "look at its limits for open files and memory",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_from_another_thread_is_heard() {
        let waker = Waker::new().expect("made");
        let other = waker.clone();
        let thread = std::thread::spawn(move || other.wake());
        wait(&[waker.as_fd()], Duration::from_secs(10)).expect("waited");
        thread.join().expect("ended");
        waker.rest();
        let before = std::time::Instant::now();
        wait(&[waker.as_fd()], Duration::from_millis(5)).expect("waited");
        assert!(before.elapsed() >= Duration::from_millis(5), "it sleeps again");
    }
}
