//! Two sockets joined: what one sends the other receives, until both have finished.
//!
//! Each direction ends for itself (half-close): the end of one socket's input becomes the end of the other's output, and the
//! other direction goes on. A reset on one side becomes a reset on the other, because an application must be able to tell a
//! broken transfer from a complete one. An eviction is a reset on both.

mod direction;
pub(crate) mod pipe;

use std::future::poll_fn;
use std::net::Shutdown;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub(crate) use direction::{Broken, Direction};

use crate::connect::Upstream;
use crate::worker::Worker;

/// How a relay ended.
enum End {
    /// Both sides finished.
    Finished,
    /// The client broke off.
    Client,
    /// The remote, or the path to it, broke off.
    Remote,
    /// It was told to end.
    Told,
}

/// Joins a client with its connection. `early` is what the client sent behind its request.
pub(crate) async fn relay(worker: Rc<Worker>, mut client: TcpStream, mut upstream: Upstream, early: Vec<u8>) {
    let timeouts = &worker.shared.config.timeouts;
    let entry = upstream.lease.entry.clone();
    entry.allow_quiet(timeouts.idle);
    let mut up = Some(Direction::new(&worker, early));
    let mut down = Some(Direction::new(&worker, Vec::new()));
    let half_close = |both: bool, output: &TcpStream| {
        // Once both have finished, the close that follows says so itself.
        if !both {
            finish(output);
            entry.allow_quiet(timeouts.half_closed);
            worker.shared.director.closing(entry.socket);
        }
    };
    let end = poll_fn(|cx| {
        if entry.poll_fate(cx).is_ready() {
            return Poll::Ready(End::Told);
        }
        let (mut client_in, client_out) = client.split();
        let (mut remote_in, remote_out) = upstream.stream.split();
        if let Some(direction) = &mut up {
            match direction.poll_move(cx, &mut client_in, &remote_out, &entry.up) {
                Poll::Ready(Ok(())) => {
                    up = None;
                    half_close(down.is_none(), remote_out.as_ref());
                }
                Poll::Ready(Err(Broken::Source(_))) => return Poll::Ready(End::Client),
                Poll::Ready(Err(Broken::Sink(_))) => return Poll::Ready(End::Remote),
                Poll::Pending => {}
            }
        }
        if let Some(direction) = &mut down {
            match direction.poll_move(cx, &mut remote_in, &client_out, &entry.down) {
                Poll::Ready(Ok(())) => {
                    down = None;
                    half_close(up.is_none(), client_out.as_ref());
                }
                Poll::Ready(Err(Broken::Source(_))) => return Poll::Ready(End::Remote),
                Poll::Ready(Err(Broken::Sink(_))) => return Poll::Ready(End::Client),
                Poll::Pending => {}
            }
        }
        if up.is_none() && down.is_none() { Poll::Ready(End::Finished) } else { Poll::Pending }
    })
    .await;
    match end {
        End::Finished => return,
        End::Remote => worker.shared.director.reset(entry.socket),
        End::Client | End::Told => {}
    }
    reset(&client);
    reset(&upstream.stream);
}

/// No more output on this socket. Fails only if the other side is gone, which its next read tells.
pub(crate) fn finish(stream: &TcpStream) {
    let _ = SockRef::from(stream).shutdown(Shutdown::Write);
}

/// The socket's close will be a reset.
pub(crate) fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

/// A last word that must arrive: ends the output, and reads what the client still sends, within bounds. Closing with unread
/// input would be a reset, which makes the client's kernel throw the word away.
pub(crate) async fn farewell(mut stream: TcpStream) {
    const LONGEST: Duration = Duration::from_secs(2);
    const MOST: usize = 256 * 1024;
    finish(&stream);
    let rest = async {
        let mut buffer = [0; 2048];
        let mut read = 0;
        while read < MOST {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(more) => read += more,
            }
        }
    };
    let _ = tokio::time::timeout(LONGEST, rest).await;
}
