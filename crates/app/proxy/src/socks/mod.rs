//! SOCKS5 (RFC 1928) with user name and password (RFC 1929): CONNECT and UDP ASSOCIATE.
//!
//! BIND is refused: a socket that waits for connections belongs to no link. Every refusal is a reply code of the
//! RFC before the close, never a bare close.

mod udp;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::buffered::Buffered;
use crate::client::Outcome;
use crate::connect::{Target, connect};
use crate::relay::farewell;
use crate::worker::{Connecting, Worker};
use wire::{Address, Reply};

const CONNECT: u8 = 1;
const UDP_ASSOCIATE: u8 = 3;
/// Where the address stands in a request.
const ADDRESS: usize = 3;
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Talks with a client whose first byte was 5.
pub(crate) async fn serve(
    worker: &Rc<Worker>,
    mut stream: TcpStream,
    mut input: Buffered,
    room: bool,
) -> io::Result<Outcome> {
    let connecting = Connecting::new(worker);
    let asked =
        timeout(worker.shared.config.timeouts.request, request(worker, &mut stream, &mut input, room));
    let Some((command, target)) = asked.await?? else {
        farewell(stream).await;
        return Ok(Outcome::Done);
    };
    drop(connecting);
    match command {
        CONNECT => match connect(worker, &target, stream.peer_addr().ok()).await {
            Ok(upstream) => {
                let bound = upstream.stream.local_addr().unwrap_or(NOWHERE);
                answer(&mut stream, Reply::Granted, bound).await?;
                Ok(Outcome::Joined(stream, upstream, input.take(usize::MAX)))
            }
            Err(error) => {
                tracing::debug!(%error, "a connect failed");
                answer(&mut stream, error.into(), NOWHERE).await?;
                farewell(stream).await;
                Ok(Outcome::Done)
            }
        },
        UDP_ASSOCIATE => {
            Box::pin(udp::associate(worker, stream, target)).await?;
            Ok(Outcome::Done)
        }
        _ => {
            answer(&mut stream, Reply::BadCommand, NOWHERE).await?;
            farewell(stream).await;
            Ok(Outcome::Done)
        }
    }
}

/// Reads greeting, login and request; `None` when the client was sent away.
async fn request(
    worker: &Worker,
    stream: &mut TcpStream,
    input: &mut Buffered,
    room: bool,
) -> io::Result<Option<(u8, Target)>> {
    input.need(stream, 2).await?;
    let end = 2 + usize::from(input.bytes()[1]);
    input.need(stream, end).await?;
    let offered = &input.bytes()[2..end];
    let wanted = if worker.shared.config.login.is_some() { wire::PASSWORD } else { wire::NO_LOGIN };
    let method = if offered.contains(&wanted) { wanted } else { wire::NO_METHOD };
    input.used(end);
    stream.write_all(&[wire::VERSION, method]).await?;
    if method == wire::NO_METHOD || (method == wire::PASSWORD && !login(worker, stream, input).await?) {
        return Ok(None);
    }
    let (read, length) = loop {
        match input.bytes().get(ADDRESS..).map(wire::address) {
            None => input.need(stream, ADDRESS + 1).await?,
            Some(Address::More(length)) => input.need(stream, ADDRESS + length).await?,
            Some(Address::Read(target, length)) => break (Ok(target), length),
            Some(Address::BadName(length)) => break (Err(Reply::HostUnreachable), length),
            Some(Address::BadType) => break (Err(Reply::BadAddress), 0),
        }
    };
    let head = [input.bytes()[0], input.bytes()[1]];
    input.used(ADDRESS + length);
    let refusal = match read {
        _ if head[0] != wire::VERSION => Reply::Failure,
        _ if !room => Reply::Failure,
        Ok(target) => return Ok(Some((head[1], target))),
        Err(refusal) => refusal,
    };
    answer(stream, refusal, NOWHERE).await?;
    Ok(None)
}

/// The sub-negotiation of RFC 1929.
async fn login(worker: &Worker, stream: &mut TcpStream, input: &mut Buffered) -> io::Result<bool> {
    input.need(stream, 2).await?;
    let user = 2 + usize::from(input.bytes()[1]);
    input.need(stream, user + 1).await?;
    let end = user + 1 + usize::from(input.bytes()[user]);
    input.need(stream, end).await?;
    let bytes = input.bytes();
    let admitted = bytes[0] == 1
        && worker
            .shared
            .config
            .login
            .as_ref()
            .is_none_or(|login| login.admits(&bytes[2..user], &bytes[user + 1..end]));
    input.used(end);
    stream.write_all(&[1, u8::from(!admitted)]).await?;
    if !admitted {
        tracing::debug!("a client showed a wrong name or password");
    }
    Ok(admitted)
}

async fn answer(stream: &mut TcpStream, code: Reply, bound: SocketAddr) -> io::Result<()> {
    let (bytes, length) = wire::reply(code, bound);
    stream.write_all(&bytes[..length]).await
}

/// SOCKS4's word for "rejected", before the close.
pub(crate) fn refuse_version_4(stream: &TcpStream) -> io::Result<Outcome> {
    stream.try_write(&[0, 0x5b, 0, 0, 0, 0, 0, 0])?;
    tracing::debug!("a client speaks SOCKS4; refused. Set it to SOCKS5");
    Ok(Outcome::Done)
}
