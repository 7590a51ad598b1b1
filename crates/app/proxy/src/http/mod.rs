//! HTTP: tunnels by CONNECT (RFC 9110, 9.3.6), and plain requests in absolute form (RFC 9112, 3.2.2) passed on one by one.
//!
//! A client's connection may carry many plain requests to many hosts; each request is placed for itself, and the connection to the
//! last host is kept for the next request to it. No `Via` is written: the proxy stands on the user's own machine and changes nothing.

mod body;
mod chunked;
mod exchange;
mod head;
mod respond;

#[cfg(test)]
mod tests;

use std::io;
use std::rc::Rc;

use base64ct::{Base64, Encoding};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::buffered::Buffered;
use crate::client::Outcome;
use crate::connect::connect;
use crate::relay::farewell;
use crate::worker::Worker;
use exchange::{After, Kept};
use head::{Asked, BadHead, RequestHead};
use respond::{Refused, refuse};

/// What reading the next request came to.
enum Next {
    Request(RequestHead),
    Refused(Refused),
    /// The client finished.
    Finished,
}

/// Talks with a client whose first byte was a letter.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    mut input: Buffered,
    room: bool,
) -> io::Result<Outcome> {
    let timeouts = &worker.shared.config.timeouts;
    let mut patience = timeouts.request;
    let mut kept: Option<Kept> = None;
    loop {
        let next = timeout(patience, next(worker, &mut stream, &mut input)).await??;
        patience = timeouts.keep_alive;
        let request = match next {
            Next::Request(_) if !room => {
                return away(stream, Refused::no_room(worker.shared.config.limits.clients)).await;
            }
            Next::Request(request) if !admitted(worker, &request) => {
                return away(stream, Refused::login()).await;
            }
            Next::Request(request) => request,
            Next::Refused(refused) => return away(stream, refused).await,
            Next::Finished => return Ok(Outcome::Done),
        };
        input.used(request.length);
        match request.asked {
            Asked::Connect(target) => match connect(worker, &target, stream.peer_addr().ok()).await {
                Ok(upstream) => {
                    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
                    return Ok(Outcome::Joined(stream, upstream, input.take(usize::MAX)));
                }
                Err(error) => return away(stream, error.into()).await,
            },
            Asked::Forward(forward) => {
                match Box::pin(exchange::exchange(worker, &mut stream, &mut input, &mut kept, &forward))
                    .await?
                {
                    After::Next => input.release(),
                    After::Close => return Ok(Outcome::Done),
                    After::Finish => {
                        farewell(stream).await;
                        return Ok(Outcome::Done);
                    }
                    After::Refuse(refused) => return away(stream, refused).await,
                }
            }
        }
    }
}

async fn away(mut stream: TcpStream, refused: Refused) -> io::Result<Outcome> {
    refuse(&mut stream, refused).await?;
    farewell(stream).await;
    Ok(Outcome::Done)
}

async fn next(worker: &Worker, stream: &mut TcpStream, input: &mut Buffered) -> io::Result<Next> {
    let limit = worker.shared.config.limits.head;
    loop {
        match head::request(input.bytes()) {
            Ok(Some(request)) => return Ok(Next::Request(request)),
            Ok(None) if input.bytes().len() >= limit => return Ok(Next::Refused(Refused::long_head(limit))),
            Ok(None) => {}
            Err(error) => return Ok(Next::Refused(error.into())),
        }
        if !input.fill(stream).await? {
            let cut = !input.bytes().is_empty();
            return Ok(if cut { Next::Refused(BadHead::Malformed.into()) } else { Next::Finished });
        }
    }
}

/// Whether the request shows the right name and password (RFC 7617), if any are asked for.
fn admitted(worker: &Worker, request: &RequestHead) -> bool {
    let Some(login) = &worker.shared.config.login else { return true };
    let shown = || {
        let (scheme, rest) = request.login.as_deref()?.split_at_checked(6)?;
        let rest = scheme.eq_ignore_ascii_case(b"basic ").then_some(rest)?;
        let pair = Base64::decode_vec(std::str::from_utf8(rest.trim_ascii()).ok()?).ok()?;
        let colon = pair.iter().position(|byte| *byte == b':')?;
        Some(login.admits(&pair[..colon], &pair[colon + 1..]))
    };
    shown().unwrap_or(false)
}
