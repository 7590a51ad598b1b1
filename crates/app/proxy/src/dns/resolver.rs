//! Addresses of a name, asked over one link.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bondwire_units::LinkId;
use tokio::time::Instant;

use crate::director::{Failure, Route};
use crate::dns::exchange::{self, Question};
use crate::dns::message;
use crate::worker::Worker;

/// How long an IPv4 answer waits for the IPv6 one (RFC 8305, 3: the resolution delay).
const RESOLUTION_DELAY: Duration = Duration::from_millis(50);

/// Why a name has no addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// It does not exist, or has none. Definite.
    NoSuchName,
    /// The link did not answer.
    Link(Failure),
}

/// Looks a name up over one link, in the order in which to try: IPv6 first, then by turns (RFC 8305, 4).
///
/// # Errors
/// When there is no address, or no answer.
pub(crate) async fn lookup(
    worker: &Rc<Worker>,
    link: Option<LinkId>,
    route: &Route,
    name: &str,
) -> Result<Vec<IpAddr>, LookupError> {
    let any_v4 = IpAddr::from([0u8; 4]);
    let any_v6 = IpAddr::from([0u8; 16]);
    match (route.carries(any_v4), route.carries(any_v6)) {
        (true, false) => ask(worker, link, route, name, message::A).await,
        (false, _) => ask(worker, link, route, name, message::AAAA).await,
        (true, true) => both(worker, link, route, name).await,
    }
}

async fn both(
    worker: &Rc<Worker>,
    link: Option<LinkId>,
    route: &Route,
    name: &str,
) -> Result<Vec<IpAddr>, LookupError> {
    let v4 = ask(worker, link, route, name, message::A);
    let v6 = ask(worker, link, route, name, message::AAAA);
    tokio::pin!(v4, v6);
    let (v4, v6) = tokio::select! {
        biased;
        v6 = &mut v6 => match (&v6, tokio::time::timeout(RESOLUTION_DELAY, &mut v4).await) {
            (_, Ok(v4)) => (v4, v6),
            (Ok(_), Err(_)) => return v6,
            (Err(_), Err(_)) => (v4.await, v6),
        },
        v4 = &mut v4 => match (&v4, tokio::time::timeout(RESOLUTION_DELAY, &mut v6).await) {
            (_, Ok(v6)) => (v4, v6),
            (Ok(_), Err(_)) => return v4,
            (Err(_), Err(_)) => (v4, v6.await),
        },
    };
    match (v4, v6) {
        (Ok(v4), Ok(v6)) => Ok(by_turns(v6, v4)),
        (Ok(some), Err(_)) | (Err(_), Ok(some)) => Ok(some),
        (Err(LookupError::NoSuchName), Err(_)) | (Err(_), Err(LookupError::NoSuchName)) => {
            Err(LookupError::NoSuchName)
        }
        (Err(failure), Err(_)) => Err(failure),
    }
}

fn by_turns(first: Vec<IpAddr>, second: Vec<IpAddr>) -> Vec<IpAddr> {
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let mut all = Vec::with_capacity(first.len() + second.len());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return all;
        }
        all.extend(pair.into_iter().flatten());
    }
}

async fn ask(
    worker: &Rc<Worker>,
    link: Option<LinkId>,
    route: &Route,
    name: &str,
    kind: u16,
) -> Result<Vec<IpAddr>, LookupError> {
    // The id is replaced for each exchange.
    let query = message::ask(0, name, kind).ok_or(LookupError::NoSuchName)?;
    // The question: the name with one length in front and a zero behind, type and class.
    let end = query.len() - 11;
    let kept = worker.cache.borrow().get(link, &query, Instant::now());
    let answer = match kept {
        Some(answer) => answer,
        None => {
            let question = Question { message: &query, end, tcp: false, whole: true };
            let answer = exchange::ask(question, route).await.map_err(LookupError::Link)?.message;
            worker.cache.borrow_mut().put(link, &query, end, &answer, Instant::now());
            answer
        }
    };
    let walked = message::walk(&answer, end).ok_or(LookupError::Link(Failure::NoResolver))?;
    let addresses: Vec<IpAddr> =
        walked.addresses.into_iter().filter(|ip| ip.is_ipv4() == (kind == message::A)).collect();
    if !addresses.is_empty() {
        worker.shared.director.resolved(name, &addresses);
    }
    if addresses.is_empty() { Err(LookupError::NoSuchName) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let v4 = vec![ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3")];
        let all = by_turns(vec![ip("2001:db8::1")], v4);
        assert_eq!(all, [ip("2001:db8::1"), ip("192.0.2.1"), ip("192.0.2.2"), ip("192.0.2.3")]);
    }
}
