//! Bytes read from a client or server whose meaning is not yet known.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpStream;

/// A read takes about this much.
const STEP: usize = 1024;

/// What was read and not yet used. Holds no memory when empty after [`release`](Self::release).
#[derive(Default)]
pub(crate) struct Buffered {
    bytes: Vec<u8>,
}

impl Buffered {
    /// All that is there.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads more. False: the other side finished.
    pub(crate) async fn fill(&mut self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        self.fill_by(stream, STEP).await
    }

    /// Reads more, at least this much if it is there.
    pub(crate) async fn fill_by(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        step: usize,
    ) -> io::Result<bool> {
        self.bytes.reserve(step);
        Ok(stream.read_buf(&mut self.bytes).await? > 0)
    }

    /// Reads until this much is there.
    ///
    /// # Errors
    /// Also when the other side finishes before.
    pub(crate) async fn need(&mut self, stream: &mut TcpStream, length: usize) -> io::Result<()> {
        while self.bytes.len() < length {
            if !self.fill(stream).await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Forgets the first bytes.
    pub(crate) fn used(&mut self, length: usize) {
        self.bytes.drain(..length.min(self.bytes.len()));
    }

    /// Takes at most this much from the front.
    pub(crate) fn take(&mut self, most: usize) -> Vec<u8> {
        let rest = self.bytes.split_off(most.min(self.bytes.len()));
        std::mem::replace(&mut self.bytes, rest)
    }

    /// Frees the memory if nothing is in it.
    pub(crate) fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}
