//! What the proxy is told: where it listens, who may use it, how long it waits, how much it holds.

use std::net::SocketAddr;
use std::time::Duration;

/// All that a [`Proxy`](crate::Proxy) is told. [`Config::new`] gives defaults for everything but the address.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients connect. Port 0 lets the kernel choose; see [`Proxy::local_addr`](crate::Proxy::local_addr).
    pub listen: SocketAddr,
    /// A name and a password that every client must show. Default: none, because the default address is loopback.
    pub login: Option<Login>,
    /// Threads. Default 0: one per processor, at most 16.
    pub workers: usize,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How much is held.
    pub limits: Limits,
    /// Resolvers for links that state none of their own.
    pub resolvers: Vec<SocketAddr>,
    /// What happens to TCP sockets of a link that is evicted.
    pub evicted: Evicted,
}

impl Config {
    /// Defaults, on this address.
    pub fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            login: None,
            workers: 0,
            timeouts: Timeouts::default(),
            limits: Limits::default(),
            resolvers: Vec::new(),
            evicted: Evicted::default(),
        }
    }
}

/// The one user of a proxy: RFC 1929 for SOCKS5, Basic (RFC 7617) for HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// 1 to 255 bytes.
    pub user: String,
    /// 1 to 255 bytes.
    pub password: String,
}

impl Login {
    /// Whether both match, in a time that does not depend on where they differ.
    pub(crate) fn admits(&self, user: &[u8], password: &[u8]) -> bool {
        same(self.user.as_bytes(), user) & same(self.password.as_bytes(), password)
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

fn same(expected: &[u8], given: &[u8]) -> bool {
    let mut differs = u8::from(expected.len() != given.len());
    for (index, byte) in given.iter().enumerate() {
        differs |= byte ^ expected.get(index).copied().unwrap_or(0);
    }
    differs == 0
}

/// What happens to TCP sockets of a link that is evicted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Evicted {
    /// Closed by a reset on both sides, so that applications reconnect at once, over another link. Default.
    #[default]
    Reset,
    /// Left alone: they go on if the link comes back in time.
    Keep,
}

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From a client's connect to its whole request. Default 30 s.
    pub request: Duration,
    /// From a request to an open connection, over however many links. Default 30 s.
    pub connect: Duration,
    /// A TCP connection without a byte in either direction. Default 2 h and 4 min, what RFC 5382 (REQ-5) asks of a NAT.
    pub idle: Duration,
    /// The same once one side has finished sending. Default 4 min, as RFC 5382 has it for closing connections.
    pub half_closed: Duration,
    /// A kept-alive HTTP connection between two requests. Default 60 s.
    pub keep_alive: Duration,
    /// A UDP flow without a datagram. Default 2 min, the least that RFC 4787 (REQ-5) allows a NAT.
    pub udp_idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            request: Duration::from_secs(30),
            connect: Duration::from_secs(30),
            idle: Duration::from_secs(7_440),
            half_closed: Duration::from_secs(240),
            keep_alive: Duration::from_secs(60),
            udp_idle: Duration::from_secs(120),
        }
    }
}

/// How much is held. Beyond a limit clients get a clear refusal, never silence.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients connected at one time. Default 65,536; lowered at start to what the limit on open files allows, at two
    /// files each.
    pub clients: usize,
    /// Pipes for splicing, over all threads; a busy direction of a big transfer holds one. Default 128, at 512 KiB each at
    /// most (64 KiB where the kernel grants an ordinary user no more). Without a free one data is copied.
    pub pipes: usize,
    /// Links that one connect races at one time. Default 4.
    pub racing: usize,
    /// UDP associations at one time, per thread. Default 1,024.
    pub associations: usize,
    /// Remotes of one UDP association; the one that was idle longest gives way. Default 512.
    pub flows: usize,
    /// An HTTP request's or response's head, in bytes. Default 32 KiB.
    pub head: usize,
    /// Answers that the resolver keeps, per thread. Default 1,024, of at most 4 KiB each.
    pub cached_answers: usize,
    /// Queries that the DNS forwarder has under way. Default 512; more are answered with SERVFAIL.
    pub queries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            clients: 65_536,
            pipes: 128,
            racing: 4,
            associations: 1_024,
            flows: 512,
            head: 32 * 1024,
            cached_answers: 1_024,
            queries: 512,
        }
    }
}
