//! From a target to an open connection: links race, and on each link the addresses of a name.
//!
//! The director names a link and how long its connect may take. If no answer comes in that time, the next link starts beside
//! it and the first answer wins, before the client has seen anything. A link that fails outright makes room for the next one at
//! once. What the remote itself says (refused, no such name) is an answer and ends the race: another link would hear the same.
//! Names are looked up on each link for itself; several addresses race on a link as RFC 8305 has it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bondwire_units::LinkId;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::director::{Failure, Placement, Request, Route, Transport};
use crate::dns::resolver::{self, LookupError};
use crate::error::ConnectError;
use crate::lease::Lease;
use crate::outbound;
use crate::race::{Race, Step};
use crate::worker::{Connecting, Worker};

/// The time after which the next address of a name is tried too (RFC 8305, 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried on one link.
const MOST_ADDRESSES: usize = 8;

/// A host as a client names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name, lower case, without a final dot.
    Name(String),
}

/// Where a client wants to go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Host {
    /// Reads a host as SOCKS and HTTP clients write it; `None` if it is no possible host.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Some(Self::Ip(ip));
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_' || byte == b'.';
        let labels = || name.split('.').all(|label| (1..=63).contains(&label.len()));
        (name.len() <= 253 && name.bytes().all(allowed) && labels())
            .then(|| Self::Name(name.to_ascii_lowercase()))
    }
}

impl Target {
    /// The request for the director.
    pub(crate) fn request(&self, transport: Transport, client: Option<SocketAddr>) -> Request<'_> {
        let (ip, name) = match &self.host {
            Host::Ip(ip) => (*ip, None),
            Host::Name(name) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(name.as_str())),
        };
        Request { transport, remote: SocketAddr::new(ip, self.port), name, interactive: false, client }
    }
}

/// An open connection to a remote.
pub(crate) struct Upstream {
    pub(crate) stream: TcpStream,
    pub(crate) lease: Lease,
}

/// The route of a placement.
///
/// # Errors
/// When the link is gone.
pub(crate) fn route(worker: &Worker, link: Option<LinkId>) -> Result<Arc<Route>, Failure> {
    match link {
        None => Ok(worker.shared.links.unbound()),
        Some(link) => worker.shared.links.route(link).ok_or(Failure::Local),
    }
}

struct Attempt {
    link: Option<LinkId>,
    started: Instant,
    patience: Duration,
}

/// The attempts of one socket, as the director has to hear of them.
struct Contest<'a> {
    worker: &'a Worker,
    lease: Lease,
    attempts: Vec<Attempt>,
}

impl Contest<'_> {
    fn begin(&mut self, placement: &Placement) {
        if let Some(link) = placement.link {
            self.worker.shared.director.connecting(placement.socket, link);
        }
        let started = Instant::now();
        self.attempts.push(Attempt { link: placement.link, started, patience: placement.patience });
    }

    fn lost(&mut self, link: Option<LinkId>, why: Failure) {
        self.attempts.retain(|attempt| attempt.link != link);
        if let Some(link) = link {
            self.worker.shared.director.failed(self.lease.entry.socket, link, why);
        }
    }

    /// The others are given up: those that had their time were silent.
    fn end(&mut self) {
        for attempt in std::mem::take(&mut self.attempts) {
            let silent = attempt.started.elapsed() >= attempt.patience;
            let why = if silent { Failure::NoAnswer } else { Failure::Overtaken };
            if let Some(link) = attempt.link {
                self.worker.shared.director.failed(self.lease.entry.socket, link, why);
            }
        }
    }

    fn won(mut self, link: Option<LinkId>, stream: TcpStream, rtt: Duration) -> Upstream {
        self.attempts.retain(|attempt| attempt.link != link);
        let socket = self.lease.entry.socket;
        if let Some(link) = link {
            self.worker.shared.director.connected(socket, link, rtt);
        }
        self.end();
        self.lease.entry.link.set(link);
        self.lease.entry.local.set(stream.local_addr().ok().map(|local| local.ip()));
        Upstream { stream, lease: self.lease }
    }
}

/// Opens a connection for a client, over whichever link answers first.
///
/// # Errors
/// What to tell the client.
pub(crate) async fn connect(
    worker: &Rc<Worker>,
    target: &Target,
    client: Option<SocketAddr>,
) -> Result<Upstream, ConnectError> {
    let _connecting = Connecting::new(worker);
    let director = &worker.shared.director;
    let placement = director.open(&target.request(Transport::Tcp, client))?;
    let socket = placement.socket;
    let lease = Lease::new(worker, socket, Transport::Tcp);
    let mut contest = Contest { worker, lease, attempts: Vec::with_capacity(1) };
    let deadline = Instant::now() + worker.shared.config.timeouts.connect;
    let mut tried: Vec<Option<LinkId>> = Vec::with_capacity(2);
    let mut race = Race::new();
    let mut next = Some(placement);
    let mut last = ConnectError::NoAnswer;
    let mut alarm = deadline;
    loop {
        if let Some(placement) = next.take()
            && !tried.contains(&placement.link)
        {
            tried.push(placement.link);
            contest.begin(&placement);
            race.start(attempt(worker, placement.link, target));
            alarm = deadline.min(Instant::now() + placement.patience);
        }
        match race.step(Some(alarm)).await {
            Step::Ended((link, Ok((stream, rtt)))) => return Ok(contest.won(link, stream, rtt)),
            Step::Ended((link, Err(lost))) => {
                contest.lost(link, lost.failure);
                last = lost.error;
                if lost.definite {
                    contest.end();
                    return Err(last);
                }
            }
            Step::Late if Instant::now() >= deadline => {
                contest.end();
                return Err(ConnectError::NoAnswer);
            }
            Step::Late => {}
            Step::Empty => return Err(last),
        }
        alarm = deadline;
        if race.len() < worker.shared.config.limits.racing {
            next = director.next_link(socket);
        }
    }
}

/// How an attempt over one link was lost.
struct Lost {
    failure: Failure,
    error: ConnectError,
    /// The remote's own word: no other link needs to be asked.
    definite: bool,
}

impl Lost {
    fn new(failure: Failure) -> Self {
        let error = match failure {
            Failure::Refused => ConnectError::ByRemote,
            Failure::Unreachable => ConnectError::Unreachable,
            Failure::NoAnswer => ConnectError::NoAnswer,
            Failure::NoResolver => ConnectError::NoResolver,
            Failure::Local | Failure::Overtaken => ConnectError::Local,
        };
        Self { failure, error, definite: failure == Failure::Refused }
    }
}

impl From<outbound::Error> for Lost {
    fn from(error: outbound::Error) -> Self {
        let lost = Self::new(error.failure());
        match error {
            outbound::Error::Family => Self { error: ConnectError::Unreachable, ..lost },
            _ => lost,
        }
    }
}

async fn attempt(
    worker: &Rc<Worker>,
    link: Option<LinkId>,
    target: &Target,
) -> (Option<LinkId>, Result<(TcpStream, Duration), Lost>) {
    (link, over(worker, link, target).await)
}

async fn over(
    worker: &Rc<Worker>,
    link: Option<LinkId>,
    target: &Target,
) -> Result<(TcpStream, Duration), Lost> {
    let route = route(worker, link).map_err(Lost::new)?;
    let name = match &target.host {
        Host::Ip(ip) => return timed(&route, SocketAddr::new(*ip, target.port)).await,
        Host::Name(name) => name,
    };
    // Boxed: few sockets need it, and all would carry its size.
    let addresses =
        Box::pin(resolver::lookup(worker, link, &route, name)).await.map_err(|error| match error {
            LookupError::NoSuchName => {
                Lost { failure: Failure::Overtaken, error: ConnectError::NoSuchName, definite: true }
            }
            LookupError::Link(failure) => Lost::new(failure),
        })?;
    let mut addresses = addresses.into_iter().take(MOST_ADDRESSES).map(|ip| SocketAddr::new(ip, target.port));
    let mut race = Race::new();
    let mut last = Lost::new(Failure::Unreachable);
    loop {
        let started = addresses.next().map(|address| race.start(timed(&route, address)));
        match race.step(started.map(|()| Instant::now() + NEXT_ADDRESS)).await {
            Step::Ended(Ok(won)) => return Ok(won),
            Step::Ended(Err(lost)) => last = lost,
            Step::Late => {}
            Step::Empty => return Err(last),
        }
    }
}

async fn timed(route: &Route, remote: SocketAddr) -> Result<(TcpStream, Duration), Lost> {
    let started = Instant::now();
    let stream = outbound::connect(route, remote).await?;
    Ok((stream, started.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read() {
        let name = |text: &str| Some(Host::Name(text.into()));
        assert_eq!(Host::parse(b"Example.COM."), name("example.com"));
        assert_eq!(Host::parse(b"_sip._udp.a-b.c"), name("_sip._udp.a-b.c"));
        assert_eq!(Host::parse(b"[::1]"), Some(Host::Ip("::1".parse().unwrap())));
        assert_eq!(Host::parse(b"192.0.2.1"), Some(Host::Ip("192.0.2.1".parse().unwrap())));
        for bad in [&b""[..], b".", b"a..b", b"a b", b"a/b", b"\xff", b"a\0b", &[b'a'; 64]] {
            assert_eq!(Host::parse(bad), None, "{bad:?}");
        }
    }
}
