//! One plain request and its response.
//!
//! The request's body and the response move at the same time, since a server may answer before it has read everything. A server that
//! answers early and does not take the rest ends the client's connection, orderly, after the response.

use std::cell::Cell;
use std::io;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use super::body;
use super::head::{self, Body, Forward, ResponseHead};
use super::respond::Refused;
use crate::buffered::Buffered;
use crate::connect::{Target, Upstream, connect};
use crate::lease::Entry;
use crate::relay::{Broken, reset};
use crate::worker::Worker;

/// A connection to the host of the last request, kept for the next one.
pub(crate) struct Kept {
    target: Target,
    upstream: Upstream,
}

/// What happens to the client's connection after an exchange.
pub(crate) enum After {
    /// It takes another request.
    Next,
    /// It ends: the response ended with it, or broke off.
    Close,
    /// It ends, but its client may still be sending.
    Finish,
    /// It ends with a refusal: nothing of a response was passed on.
    Refuse(Refused),
}

/// How a try on one connection ended.
enum Tried {
    /// The response was passed on; whether the client's connection goes on, and the server's.
    Passed { client: bool, server: bool },
    /// The request's body did not finish before the response did.
    Early,
    /// The server closed without a byte of a response.
    Nothing,
    /// The server's response cannot be passed on, and nothing of it was.
    Bad,
    /// It broke off in the middle.
    Broken,
}

/// Passes one request on, and its response back.
pub(crate) async fn exchange(
    worker: &Rc<Worker>,
    client: &mut TcpStream,
    input: &mut Buffered,
    kept: &mut Option<Kept>,
    request: &Forward,
) -> io::Result<After> {
    // A kept connection may turn out closed; so it takes only what may be sent again.
    let may_repeat = request.is_idempotent && request.body == Body::None;
    let fits = |kept: &Kept| may_repeat && kept.target == request.target && is_open(&kept.upstream);
    let reused = kept.take().filter(fits);
    let mut may_retry = reused.is_some();
    let mut upstream = match reused {
        Some(kept) => kept.upstream,
        None => match connect(worker, &request.target, client.peer_addr().ok()).await {
            Ok(upstream) => upstream,
            Err(error) => return Ok(After::Refuse(error.into())),
        },
    };
    loop {
        let entry = upstream.lease.entry.clone();
        entry.allow_quiet(worker.shared.config.timeouts.idle);
        let tried = tokio::select! {
            biased;
            fate = entry.fate() => {
                reset(client);
                reset(&upstream.stream);
                tracing::trace!(?fate, "a plain request's connection was told to end");
                return Ok(After::Close);
            }
            tried = one_try(worker, client, input, &mut upstream, request) => tried?,
        };
        return Ok(match tried {
            Tried::Nothing if may_retry => {
                may_retry = false;
                match connect(worker, &request.target, client.peer_addr().ok()).await {
                    Ok(fresh) => {
                        upstream = fresh;
                        continue;
                    }
                    Err(error) => After::Refuse(error.into()),
                }
            }
            Tried::Passed { client, server } => {
                if server {
                    *kept = Some(Kept { target: request.target.clone(), upstream });
                }
                if client { After::Next } else { After::Close }
            }
            Tried::Early => After::Finish,
            Tried::Nothing => {
                After::Refuse(Refused::server("the server closed the connection without an answer"))
            }
            Tried::Bad => After::Refuse(Refused::server("the server's answer is no valid HTTP")),
            Tried::Broken => {
                worker.shared.director.reset(entry.socket);
                reset(client);
                After::Close
            }
        });
    }
}

/// Whether a kept connection can take a request: its server has not closed it, and sent nothing that nobody asked for, and
/// its link was not evicted.
fn is_open(upstream: &Upstream) -> bool {
    let read = upstream.stream.try_read(&mut [0; 1]);
    matches!(read, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
        && !upstream.lease.entry.is_doomed()
}

async fn one_try(
    worker: &Rc<Worker>,
    client: &mut TcpStream,
    input: &mut Buffered,
    upstream: &mut Upstream,
    request: &Forward,
) -> io::Result<Tried> {
    let entry = upstream.lease.entry.clone();
    if upstream.stream.write_all(&request.head).await.is_err() {
        return Ok(Tried::Nothing);
    }
    entry.up.set(entry.up.get() + request.head.len() as u64);
    let (mut client_in, client_out) = client.split();
    let (server_in, mut server_out) = upstream.stream.split();
    let sent = Cell::new(request.body == Body::None);
    let sending = body::pass(worker, &mut client_in, &mut server_out, input, request.body, &entry.up);
    let receiving = Receiving { worker, server: server_in, client: client_out, entry: &entry, sent: &sent };
    let receiving = receiving.run(request);
    tokio::pin!(sending, receiving);
    loop {
        tokio::select! {
            biased;
            outcome = &mut sending, if !sent.get() => match outcome {
                Ok(()) => sent.set(true),
                Err(Broken::Source(error)) => return Err(error),
                // The server takes no more; it may have answered before that, so the response still counts.
                Err(Broken::Sink(_)) => return receiving.await,
            },
            tried = &mut receiving => return tried,
        }
    }
}

/// A response under way.
struct Receiving<'a> {
    worker: &'a Rc<Worker>,
    server: ReadHalf<'a>,
    client: WriteHalf<'a>,
    entry: &'a Entry,
    /// Whether the request's body is all sent.
    sent: &'a Cell<bool>,
}

impl Receiving<'_> {
    async fn run(mut self, request: &Forward) -> io::Result<Tried> {
        let mut output = Buffered::default();
        let response = loop {
            match head::response(output.bytes(), request.is_head, request.is_old) {
                Ok(Some(response)) => {
                    output.used(response.length);
                    if response.status >= 200 {
                        break response;
                    }
                    // An interim response (100, 103) goes on, but to HTTP/1.0, which has none (RFC 9110, 15.2). More follow.
                    if !request.is_old {
                        self.client.write_all(&finished(response, true, false)).await?;
                    }
                }
                Ok(None) if output.bytes().len() < self.worker.shared.config.limits.head => {
                    if !output.fill(&mut self.server).await.unwrap_or(false) {
                        let nothing = output.bytes().is_empty();
                        return Ok(if nothing { Tried::Nothing } else { Tried::Bad });
                    }
                }
                _ => return Ok(Tried::Bad),
            }
        };
        let (body, server_goes_on) = (response.body, response.keep_alive);
        let client_goes_on = request.keep_alive && body != Body::UntilClose && self.sent.get();
        let head = finished(response, client_goes_on, request.is_old);
        self.entry.down.set(self.entry.down.get() + head.len() as u64);
        self.client.write_all(&head).await?;
        let passed =
            body::pass(self.worker, &mut self.server, &mut self.client, &mut output, body, &self.entry.down)
                .await;
        match passed {
            Ok(()) if !self.sent.get() => Ok(Tried::Early),
            // What nobody asked for makes the server's connection useless for another request.
            Ok(()) => {
                let server = server_goes_on && output.bytes().is_empty();
                Ok(Tried::Passed { client: client_goes_on, server })
            }
            Err(Broken::Source(_)) => Ok(Tried::Broken),
            Err(Broken::Sink(error)) => Err(error),
        }
    }
}

/// A response's head with its end.
fn finished(response: ResponseHead, goes_on: bool, to_old: bool) -> Vec<u8> {
    let mut head = response.head;
    match (goes_on, to_old) {
        (false, _) => head.extend_from_slice(b"Connection: close\r\n"),
        (true, true) => head.extend_from_slice(b"Connection: keep-alive\r\n"),
        (true, false) => {}
    }
    head.extend_from_slice(b"\r\n");
    head
}
