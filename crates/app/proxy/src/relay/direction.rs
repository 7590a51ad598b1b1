//! One direction of a connection: from one socket's input to another's output.
//!
//! Data that comes in small pieces is copied through the thread's one buffer; data that comes in large ones is spliced, which
//! moves pages and copies nothing. What the last read brought decides about the next. What the receiver does not take at once
//! stays here, and nothing more is read until it has gone: that is the back-pressure. Bounds: [`COPY`] bytes, or one pipe.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{SpliceFlags, splice};
use tokio::io::{AsyncRead, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::relay::pipe::Pipe;
use crate::worker::Worker;

/// The most that one copying read takes.
const COPY: usize = 16 * 1024;
/// A read that brought as much as this is followed by a splice.
const BULK: usize = 8 * 1024;
/// The most that one splice moves: large pieces cost least,
const SPLICE: usize = 512 * 1024;
/// and small ones keep nobody waiting, for as long as clients are being connected, which takes several turns each.
const SPLICE_BESIDE_CONNECTS: usize = 128 * 1024;
/// Bytes after which other connections have their turn: some 50 µs at what one processor moves.
const TURN: u64 = 128 * 1024;

/// Which side broke.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The socket that is read.
    Source(io::Error),
    /// The socket that is written.
    Sink(io::Error),
}

/// The state of one direction.
pub(crate) struct Direction {
    worker: Rc<Worker>,
    /// What was read and not yet written, from `start` on.
    held: Vec<u8>,
    start: usize,
    pipe: Option<Pipe>,
    bulk: bool,
    /// Bytes that may still be read.
    left: u64,
    ended: bool,
}

impl Direction {
    /// A direction that ends with its source, and begins with bytes that were read before.
    pub(crate) fn new(worker: &Rc<Worker>, held: Vec<u8>) -> Self {
        Self { worker: worker.clone(), held, start: 0, pipe: None, bulk: false, left: u64::MAX, ended: false }
    }

    /// The same, but ending after this many more bytes.
    pub(crate) fn limited(worker: &Rc<Worker>, held: Vec<u8>, left: u64) -> Self {
        let mut direction = Self::new(worker, held);
        direction.left = left;
        direction
    }

    /// Bytes that were promised and did not come before the source ended.
    pub(crate) fn missing(&self) -> u64 {
        self.left
    }

    /// Moves data until the source's end or the limit; what was read has been written then. `count` grows by what is read.
    pub(crate) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &WriteHalf<'_>,
        count: &Cell<u64>,
    ) -> Poll<Result<(), Broken>> {
        let turn = count.get() + TURN;
        while count.get() < turn {
            ready!(self.poll_flush(cx, to.as_ref())).map_err(Broken::Sink)?;
            if self.ended || self.left == 0 {
                self.give_back();
                return Poll::Ready(Ok(()));
            }
            match self.poll_fill(cx, from, to) {
                Poll::Ready(Ok(0)) => self.ended = true,
                Poll::Ready(Ok(read)) => {
                    count.set(count.get() + read as u64);
                    self.left = if self.left == u64::MAX { u64::MAX } else { self.left - read as u64 };
                    self.bulk = read >= BULK;
                }
                Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                Poll::Pending => {
                    self.give_back();
                    return Poll::Pending;
                }
            }
        }
        // Woken after the sockets were looked at, so that every other one that is ready has its turn first.
        pin!(tokio::task::yield_now()).poll(cx).map(Ok)
    }

    fn give_back(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.worker.pipes.borrow_mut().put(pipe, &self.worker.shared);
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        while let Some(pipe) = self.pipe.as_mut().filter(|pipe| pipe.filled > 0) {
            ready!(to.poll_write_ready(cx))?;
            let moved = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&pipe.read, None, to, None, pipe.filled, SpliceFlags::NONBLOCK)?)
            });
            match moved {
                Ok(moved) => pipe.filled -= moved,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while self.start < self.held.len() {
            ready!(to.poll_write_ready(cx))?;
            match to.try_write(&self.held[self.start..]) {
                Ok(written) => self.start += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        if self.start > 0 {
            self.start = 0;
            self.held = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &WriteHalf<'_>,
    ) -> Poll<Result<usize, Broken>> {
        if self.bulk {
            if self.pipe.is_none() {
                self.pipe = self.worker.pipes.borrow_mut().take(&self.worker.shared);
            }
            if self.pipe.is_some() {
                return self.poll_splice(cx, from.as_ref()).map_err(Broken::Source);
            }
        }
        self.poll_copy(cx, from, to.as_ref())
    }

    /// Called with an empty pipe only, so that "would block" speaks of the socket and not of the pipe.
    fn poll_splice(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(pipe) = &mut self.pipe else { return Poll::Ready(Ok(0)) };
        let piece = if self.worker.connecting.get() == 0 { SPLICE } else { SPLICE_BESIDE_CONNECTS };
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(piece);
        loop {
            ready!(from.poll_read_ready(cx))?;
            let moved = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &pipe.write, None, most, SpliceFlags::NONBLOCK)?)
            });
            match moved {
                Ok(moved) => {
                    pipe.filled = moved;
                    return Poll::Ready(Ok(moved));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn poll_copy(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut ReadHalf<'_>,
        to: &TcpStream,
    ) -> Poll<Result<usize, Broken>> {
        let mut scratch = self.worker.scratch.borrow_mut();
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(COPY);
        let mut buffer = ReadBuf::new(&mut scratch[..most]);
        ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(Broken::Source)?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = match to.try_write(read) {
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Poll::Ready(Err(Broken::Sink(error))),
        };
        if written < read.len() {
            self.held = read[written..].to_vec();
        }
        Poll::Ready(Ok(read.len()))
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.give_back();
    }
}
