//! Asks targets over one link each, as the policy wants them asked: an echo, a DNS query, a TCP connect.
//!
//! All probes wait on one epoll, whose descriptor is readable when an answer came. A probe is forgotten when its time is over; the
//! policy counts silence by itself. Bounds: [`MAX_UNDER_WAY`] probes at a time, one socket each.

mod icmp;

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use bondwire_balance::{ConnectFailure, Probe, ProbeId, ProbeMethod};
use bondwire_netctl::{Family, Link};
use bondwire_units::Timestamp;
use rustix::event::{Timespec, epoll};
use socket2::{Domain, Protocol, Socket, Type};

/// Probes at a time; 32 links with eight targets each.
const MAX_UNDER_WAY: usize = 256;
/// What is read of an answer; longer ones are cut, which does no harm.
const ANSWER: usize = 512;

/// What became of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered, after this time.
    Answered(ProbeId, Duration),
    /// It could not be sent, or the network said no.
    Failed(ProbeId, ConnectFailure),
}

/// Sends probes, and hears their answers.
#[derive(Debug)]
pub(super) struct Prober {
    epoll: OwnedFd,
    under_way: BTreeMap<u64, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    socket: Socket,
    method: ProbeMethod,
    /// An echo's socket that gives whole packets, which an ordinary user has no right to.
    raw: bool,
    number: u16,
    sent: Timestamp,
    deadline: Timestamp,
}

impl Prober {
    /// Nothing is asked yet.
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?, under_way: BTreeMap::new() })
    }

    /// Asks. What failed at once comes back.
    pub(super) fn start(&mut self, probe: &Probe, link: &Link, now: Timestamp) -> Option<Outcome> {
        self.under_way.retain(|_, probe| probe.deadline > now);
        let Some(address) = reachable(probe.target.address, link) else {
            return Some(Outcome::Failed(probe.id, ConnectFailure::NoAddress));
        };
        let not_sent = Some(Outcome::Failed(probe.id, ConnectFailure::NotSent));
        if self.under_way.len() >= MAX_UNDER_WAY {
            return not_sent;
        }
        let number = probe.id.0 as u16;
        let method = probe.target.method;
        let asked = ask(method, address, &link.name, number);
        let (socket, raw) = match asked {
            Ok(asked) => asked,
            Err(error) => return Some(judge(&error, probe.id, Duration::ZERO)),
        };
        let wanted = match method {
            ProbeMethod::Connect => epoll::EventFlags::OUT,
            ProbeMethod::Ping | ProbeMethod::Dns => epoll::EventFlags::IN,
        };
        if let Err(error) = epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(probe.id.0), wanted) {
            tracing::debug!("a probe cannot be waited for: {error}");
            return not_sent;
        }
        let deadline = now + probe.timeout;
        self.under_way.insert(probe.id.0, UnderWay { socket, method, raw, number, sent: now, deadline });
        None
    }

    /// The answers that came. Does not block.
    pub(super) fn poll(&mut self, now: Timestamp) -> Vec<Outcome> {
        let mut events: Vec<epoll::Event> = Vec::with_capacity(MAX_UNDER_WAY);
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let spare = rustix::buffer::spare_capacity(&mut events);
        if let Err(error) = epoll::wait(&self.epoll, spare, Some(&none)) {
            tracing::debug!("probes cannot be waited for: {error}");
        }
        let mut outcomes = Vec::new();
        for event in events {
            let id = event.data.u64();
            let Some(probe) = self.under_way.get(&id) else { continue };
            let rtt = now.since(probe.sent);
            let outcome = match probe.hear() {
                Ok(true) => Outcome::Answered(ProbeId(id), rtt),
                Ok(false) => continue,
                Err(error) => judge(&error, ProbeId(id), rtt),
            };
            self.under_way.remove(&id);
            outcomes.push(outcome);
        }
        outcomes
    }
}

impl AsFd for Prober {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl UnderWay {
    /// Whether what came is the answer.
    fn hear(&self) -> io::Result<bool> {
        if self.method == ProbeMethod::Connect {
            return self.socket.take_error()?.map_or(Ok(true), Err);
        }
        let mut bytes = [0; ANSWER];
        let length = match rustix::net::recv(&self.socket, &mut bytes[..], rustix::net::RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(rustix::io::Errno::AGAIN) => return Ok(false),
            Err(errno) => return Err(errno.into()),
        };
        let answer = bytes.get(..length).unwrap_or(&bytes);
        Ok(match self.method {
            ProbeMethod::Ping => icmp::is_reply(answer, self.raw, self.number),
            // A header with the query's number, and the bit of a response (RFC 1035, section 4.1.1).
            _ => answer.len() >= 12 && answer[..2] == self.number.to_be_bytes() && answer[2] & 0x80 != 0,
        })
    }
}

/// What an error says: a refusal is an answer. What this process lacks (files, memory, the right to send echoes) says nothing about the link.
fn judge(error: &io::Error, id: ProbeId, rtt: Duration) -> Outcome {
    tracing::trace!("probe {}: {error}", id.0);
    let why = match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset if rtt > Duration::ZERO => {
            return Outcome::Answered(id, rtt);
        }
        ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => ConnectFailure::Unreachable,
        ErrorKind::TimedOut => ConnectFailure::NoAnswer,
        ErrorKind::NetworkDown | ErrorKind::AddrNotAvailable => ConnectFailure::Local,
        _ => match rustix::io::Errno::from_io_error(error) {
            Some(rustix::io::Errno::NODEV | rustix::io::Errno::NXIO) => ConnectFailure::Local,
            _ => ConnectFailure::NotSent,
        },
    };
    Outcome::Failed(id, why)
}

/// Sends the question over a link. The socket, and whether it gives whole packets.
fn ask(method: ProbeMethod, address: SocketAddr, link: &str, number: u16) -> io::Result<(Socket, bool)> {
    let domain = Domain::for_address(address);
    let (socket, raw) = match method {
        ProbeMethod::Connect => {
            (Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?, false)
        }
        ProbeMethod::Dns => (Socket::new(domain, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?, false),
        ProbeMethod::Ping => icmp::socket(domain)?,
    };
    socket.bind_device(Some(link.as_bytes()))?;
    match method {
        ProbeMethod::Connect => {
            // A reset leaves nothing behind, neither here nor there.
            socket.set_linger(Some(Duration::ZERO))?;
            match socket.connect(&address.into()) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
                other => other?,
            }
        }
        ProbeMethod::Dns => {
            socket.connect(&address.into())?;
            socket.send(&query(number))?;
        }
        ProbeMethod::Ping => {
            socket.connect(&SocketAddr::new(address.ip(), 0).into())?;
            socket.send(&icmp::echo(address.is_ipv4(), number))?;
        }
    }
    Ok((socket, raw))
}

/// A query for the root's name servers (RFC 1035, section 4.1).
fn query(number: u16) -> [u8; 17] {
    let [high, low] = number.to_be_bytes();
    // Recursion desired; one question: the root, NS, IN.
    [high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1]
}

/// The target's address in a family that the link has, if there is one.
fn reachable(target: SocketAddr, link: &Link) -> Option<SocketAddr> {
    if link.usable(Family::of(target.ip())).next().is_some() {
        return Some(target);
    }
    let IpAddr::V4(v4) = target.ip() else { return None };
    // The well-known resolvers are the same ones in both families.
    let twin = match v4.octets() {
        [1, 1, 1, 1] => Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111),
        [8, 8, 8, 8] => Ipv6Addr::new(0x2001, 0x4860, 0x4860, 0, 0, 0, 0, 0x8888),
        [9, 9, 9, 9] => Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe),
        _ => return None,
    };
    link.v6().map(|_| SocketAddr::new(twin.into(), target.port()))
}

#[cfg(test)]
mod tests;
