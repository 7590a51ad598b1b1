//! One query over one link.
//!
//! Each query has its own socket, so its source port is the kernel's random choice, and a random id; the socket is
//! connected, so that only the resolver's address is heard (RFC 5452). A link's resolvers are tried in order, the next one
//! when the one before was silent for a while or failed. A resolver on this machine is asked without a link: it is behind no
//! interface, and finds its own way. Over TCP messages carry their length in front (RFC 1035, 4.2.2).

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use crate::director::{Failure, Route};
use crate::dns::message::{self, Verdict};
use crate::outbound;
use crate::race::{Race, Step};

/// How long one resolver of a link may be silent before the next one is asked too.
const NEXT_RESOLVER: Duration = Duration::from_millis(300);
/// After this a query is repeated to the same resolver: a lost datagram must not cost the whole link.
const REPEAT: Duration = Duration::from_millis(700);
/// When a link is given up.
const GIVE_UP: Duration = Duration::from_secs(5);
/// Resolvers of one link that are asked.
const MOST_RESOLVERS: usize = 3;
/// The greatest answer over UDP that is taken.
const MOST_UDP: usize = 4096;

/// A query ready to be sent, whatever its id.
#[derive(Clone, Copy)]
pub(crate) struct Question<'a> {
    /// The message; its id is replaced.
    pub(crate) message: &'a [u8],
    /// Where its question ends.
    pub(crate) end: usize,
    /// Ask over TCP from the start, because the client did.
    pub(crate) tcp: bool,
    /// Ask again over TCP when the answer was cut short. Clients that asked over UDP do so themselves.
    pub(crate) whole: bool,
}

/// A good answer, with the id of the message asked, and how long it took.
pub(crate) struct Answer {
    pub(crate) message: Vec<u8>,
    pub(crate) took: Duration,
}

/// Asks this link's resolvers.
///
/// # Errors
/// What to tell the director about the link: nothing against it where it has no resolver.
pub(crate) async fn ask(question: Question<'_>, route: &Route) -> Result<Answer, Failure> {
    let mut servers =
        route.resolvers.iter().filter(|server| route.carries(server.ip())).take(MOST_RESOLVERS).peekable();
    let mut race = Race::new();
    let mut last = Failure::NoResolver;
    let end = Instant::now() + GIVE_UP;
    loop {
        if let Some(&server) = servers.next() {
            race.start(ask_one(question, route, server));
        }
        let until = if servers.peek().is_some() { Instant::now() + NEXT_RESOLVER } else { end };
        match race.step(Some(until)).await {
            Step::Ended(Ok(answer)) => return Ok(answer),
            Step::Ended(Err(failure)) => last = failure,
            Step::Late if Instant::now() >= end => return Err(Failure::NoAnswer),
            Step::Late => {}
            Step::Empty => return Err(last),
        }
    }
}

async fn ask_one(question: Question<'_>, route: &Route, server: SocketAddr) -> Result<Answer, Failure> {
    let unbound = Route::default();
    let here = server.ip().is_loopback() && route.interface.is_some();
    let route = if here { &unbound } else { route };
    let mut query = question.message.to_vec();
    query[..2].copy_from_slice(&random_id());
    if !question.tcp {
        let (verdict, mut answer) = over_udp(&query, question.end, route, server).await?;
        match verdict {
            Verdict::Truncated if question.whole => {}
            Verdict::Good | Verdict::Truncated => {
                answer.message[..2].copy_from_slice(&question.message[..2]);
                return Ok(answer);
            }
            Verdict::Failed | Verdict::Foreign => return Err(Failure::NoResolver),
        }
    }
    let mut answer = over_tcp(&query, question.end, route, server).await?;
    answer.message[..2].copy_from_slice(&question.message[..2]);
    Ok(answer)
}

async fn over_udp(
    query: &[u8],
    end: usize,
    route: &Route,
    server: SocketAddr,
) -> Result<(Verdict, Answer), Failure> {
    let socket = outbound::datagrams(route, server.is_ipv4()).map_err(|error| failure(&error))?;
    socket.connect(server).await.map_err(|error| failure(&error))?;
    let mut sent = Instant::now();
    socket.send(query).await.map_err(|error| failure(&error))?;
    let mut buffer = Vec::with_capacity(MOST_UDP);
    loop {
        buffer.clear();
        tokio::select! {
            received = socket.recv_buf(&mut buffer) => match received {
                Ok(_) => match message::judge(query, end, &buffer) {
                    Verdict::Foreign => {}
                    verdict => {
                        buffer.shrink_to_fit();
                        return Ok((verdict, Answer { message: buffer, took: sent.elapsed() }));
                    }
                },
                Err(error) => return Err(failure(&error)),
            },
            () = tokio::time::sleep_until(sent + REPEAT) => {
                sent = Instant::now();
                socket.send(query).await.map_err(|error| failure(&error))?;
            }
        }
    }
}

async fn over_tcp(query: &[u8], end: usize, route: &Route, server: SocketAddr) -> Result<Answer, Failure> {
    let started = Instant::now();
    let mut stream = outbound::connect(route, server).await.map_err(|error| error.failure())?;
    let took = started.elapsed();
    write_framed(&mut stream, query).await.map_err(|error| failure(&error))?;
    loop {
        let answer = read_framed(&mut stream).await.map_err(|error| failure(&error))?;
        match message::judge(query, end, &answer) {
            Verdict::Foreign => {}
            Verdict::Failed | Verdict::Truncated => return Err(Failure::NoResolver),
            Verdict::Good => return Ok(Answer { message: answer, took }),
        }
    }
}

/// Reads one message with its length in front.
pub(crate) async fn read_framed(stream: &mut tokio::net::TcpStream) -> io::Result<Vec<u8>> {
    let length = usize::from(stream.read_u16().await?);
    let mut message = vec![0; length];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Writes one message with its length in front, in one segment.
pub(crate) async fn write_framed(stream: &mut tokio::net::TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    let mut framed = Vec::with_capacity(message.len() + 2);
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    stream.write_all(&framed).await
}

/// Without word of the link itself it works, and its resolver does not: nobody listens there, for one.
fn failure(error: &io::Error) -> Failure {
    outbound::link_failure(error).unwrap_or(Failure::NoResolver)
}

/// Two random bytes. A kernel without randomness would make forging easier and nothing worse, so it is not an error.
fn random_id() -> [u8; 2] {
    let mut id = [0; 2];
    let _ = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
    id
}
