//! One client: its first byte tells what it speaks.
//!
//! 5 is SOCKS5 (RFC 1928), 4 is SOCKS4, which is refused in its own words; a letter begins an HTTP method (RFC 9112). Everything
//! else is closed. The state of the talk before data flows is boxed and freed, so that an open connection costs little.

use std::io;
use std::rc::Rc;

use tokio::net::TcpStream;

use crate::buffered::Buffered;
use crate::connect::Upstream;
use crate::worker::{Presence, Worker};
use crate::{http, relay, socks};

/// What a client's request came to.
pub(crate) enum Outcome {
    /// A connection to be joined with the client, and what the client sent early.
    Joined(TcpStream, Upstream, Vec<u8>),
    /// The client was served, or sent away.
    Done,
}

/// Serves one client to its end.
pub(crate) async fn serve(presence: Presence, stream: TcpStream) {
    let worker = presence.worker.clone();
    let outcome = Box::pin(greet(&worker, stream, presence.has_room())).await;
    match outcome {
        Ok(Outcome::Joined(client, upstream, early)) => relay::relay(worker, client, upstream, early).await,
        Ok(Outcome::Done) => {}
        Err(error) => tracing::trace!(%error, "a client left before its request was served"),
    }
    drop(presence);
}

async fn greet(worker: &Rc<Worker>, mut stream: TcpStream, room: bool) -> io::Result<Outcome> {
    let mut input = Buffered::default();
    let first = async {
        input.need(&mut stream, 1).await?;
        io::Result::Ok(input.bytes()[0])
    };
    let first = tokio::time::timeout(worker.shared.config.timeouts.request, first).await??;
    match first {
        5 => socks::serve(worker, stream, input, room).await,
        4 => socks::refuse_version_4(&stream),
        b'A'..=b'Z' | b'a'..=b'z' => Box::pin(http::serve(worker, stream, input, room)).await,
        other => {
            tracing::debug!(first = other, "a client speaks neither SOCKS5 nor HTTP; closed");
            Ok(Outcome::Done)
        }
    }
}
