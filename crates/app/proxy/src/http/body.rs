//! Bodies, passed on as they are framed.
//!
//! A body of a stated length, or one that ends with the connection, moves as a [`Direction`] does: copied in small pieces, spliced in large ones. A
//! chunked one is copied, since its framing has to be watched.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::chunked::Chunked;
use super::head::Body;
use crate::buffered::Buffered;
use crate::relay::{Broken, Direction};
use crate::worker::Worker;

/// What one read of a chunked body takes.
const STEP: usize = 16 * 1024;

/// Passes a body on; `input` holds what was read of it already, and then what was read beyond it.
pub(super) async fn pass(
    worker: &Rc<Worker>,
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    input: &mut Buffered,
    body: Body,
    count: &Cell<u64>,
) -> Result<(), Broken> {
    let mut direction = match body {
        Body::None => return Ok(()),
        Body::Chunked => return chunked(from, to, input, count).await,
        Body::UntilClose => Direction::new(worker, input.take(usize::MAX)),
        Body::Length(length) => {
            let early = input.take(usize::try_from(length).unwrap_or(usize::MAX));
            let left = length - early.len() as u64;
            count.set(count.get() + early.len() as u64);
            Direction::limited(worker, early, left)
        }
    };
    poll_fn(|cx| direction.poll_move(cx, from, to, count)).await?;
    let short = body != Body::UntilClose && direction.missing() > 0;
    if short { Err(Broken::Source(io::ErrorKind::UnexpectedEof.into())) } else { Ok(()) }
}

async fn chunked(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    input: &mut Buffered,
    count: &Cell<u64>,
) -> Result<(), Broken> {
    let mut framing = Chunked::new();
    loop {
        let used = framing.feed(input.bytes()).map_err(|_| {
            Broken::Source(io::Error::new(io::ErrorKind::InvalidData, "a chunked body is broken"))
        })?;
        to.write_all(&input.bytes()[..used]).await.map_err(Broken::Sink)?;
        input.used(used);
        count.set(count.get() + used as u64);
        if framing.is_done() {
            return Ok(());
        }
        if !input.fill_by(from, STEP).await.map_err(Broken::Source)? {
            return Err(Broken::Source(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
