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

/// How much is held. Beyond a limit clients get a clear refusal; while 64 are being told so, more are closed without a word, and counted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Clients connected at one time. Default 65,536; lowered at start, as those below are, to what the limit on open files allows
    /// ([`Limits::within`]).
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

/// Open files that are left to the rest of the process.
const OTHER_FILES: usize = 256;
/// Files of a UDP association: its own socket, and one for each of two links in both families. (Its TCP connection is a client's.)
const ASSOCIATION_FILES: usize = 5;
/// Files of a query: two links are raced, each asks two resolvers.
const QUERY_FILES: usize = 4;

impl Limits {
    /// The same, so that nobody runs out of `files`: half of them are for clients at two each, the rest for the third sockets of those
    /// that race, UDP associations, pipes (two ends) and queries, over so many threads. At least 16 clients.
    #[must_use]
    pub fn within(self, files: u64, workers: usize) -> Self {
        let files = usize::try_from(files).unwrap_or(usize::MAX).saturating_sub(OTHER_FILES);
        let part = |part: usize, each: usize| files / part / each;
        Self {
            clients: self.clients.min(part(2, 2).max(16)),
            associations: self.associations.min((part(8, ASSOCIATION_FILES) / workers.max(1)).max(4)),
            pipes: self.pipes.min(part(8, 2)),
            queries: self.queries.min(part(16, QUERY_FILES).max(16)),
            ..self
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_suffice_for_all_that_may_be_open() {
        let all = Limits::default();
        for (files, workers) in [(1_024, 2), (4_096, 4), (20_000, 16), (1 << 20, 16)] {
            let limits = all.within(files, workers);
            let sum = OTHER_FILES
                + limits.clients * 2
                + limits.associations * workers * ASSOCIATION_FILES
                + limits.pipes * 2
                + limits.queries * QUERY_FILES;
            // An eighth is left for those that race.
            let files = usize::try_from(files).unwrap();
            assert!(sum <= files - (files - OTHER_FILES) / 8, "{files}: {limits:?}");
        }
        let limits = all.within(1 << 20, 2);
        assert_eq!((limits.clients, limits.pipes, limits.queries), (all.clients, all.pipes, all.queries));
        assert_eq!(all.within(0, 2).clients, 16, "it can be tried at least");
    }
}
