//! Where the server is: names become addresses, on a thread of their own, since a resolver may take a minute to give up.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use crate::names::Endpoint;

/// The most addresses that are tried.
const MAX_ADDRESSES: usize = 16;
/// The time between two attempts.
const PAUSE: Duration = Duration::from_secs(2);

/// Looks up endpoints, again and again until there is an address.
#[derive(Debug)]
pub(crate) struct Resolver {
    endpoints: Vec<Endpoint>,
    attempt: Option<Receiver<Result<Vec<SocketAddr>, String>>>,
    next: Instant,
    /// Why the last attempt failed.
    why: Option<String>,
}

impl Resolver {
    /// A resolver of these endpoints, which starts at the first [`Resolver::poll`].
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints, attempt: None, next: Instant::now(), why: None }
    }

    /// Why there are no addresses yet, if an attempt has failed.
    pub(crate) fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// The addresses, as soon as there are any, IPv6 and IPv4 in turns as the resolver orders them. Does not block:
    /// `wake` is called from another thread when it is time to ask again.
    pub(crate) fn poll(&mut self, wake: impl Fn() + Send + 'static) -> Option<Vec<SocketAddr>> {
        let Some(attempt) = &self.attempt else {
            if Instant::now() >= self.next {
                self.start(wake);
            }
            return None;
        };
        let result = match attempt.try_recv() {
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err("the resolver's thread ended early".to_owned()),
            Ok(result) => result,
        };
        self.attempt = None;
        self.next = Instant::now() + PAUSE;
        match result {
            Ok(addresses) => Some(addresses),
            Err(why) => {
                self.why = Some(why);
                None
            }
        }
    }

    fn start(&mut self, wake: impl Fn() + Send + 'static) {
        let endpoints = self.endpoints.clone();
        let (sender, receiver) = channel();
        let thread = std::thread::Builder::new().name("bw-resolve".into()).spawn(move || {
            // Nobody waits any more if this fails.
            let _ = sender.send(resolve(&endpoints));
            wake();
        });
        match thread {
            Ok(_) => self.attempt = Some(receiver),
            Err(error) => {
                self.why = Some(error.to_string());
                self.next = Instant::now() + PAUSE;
            }
        }
    }
}

/// All addresses of all endpoints, in their order, without repetition; an error if there is none.
fn resolve(endpoints: &[Endpoint]) -> Result<Vec<SocketAddr>, String> {
    let mut addresses = Vec::new();
    let mut failures = Vec::new();
    for endpoint in endpoints {
        match (endpoint.host(), endpoint.port()).to_socket_addrs() {
            Ok(found) => {
                for address in found {
                    if !addresses.contains(&address) && addresses.len() < MAX_ADDRESSES {
                        addresses.push(address);
                    }
                }
            }
            Err(error) => failures.push(format!("the name `{}` is not found: {error}", endpoint.host())),
        }
    }
    match addresses.is_empty() {
        true if failures.is_empty() => Err("the server's name has no address".to_owned()),
        true => Err(failures.join("\n")),
        false => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_resolver() {
        let endpoints = ["192.0.2.1:4433", "[2001:db8::1]:4433", "192.0.2.1:4433"]
            .map(|text| text.parse().expect("good"));
        let (woken, heard) = channel();
        let mut resolver = Resolver::new(endpoints.to_vec());
        assert_eq!(resolver.poll(move || woken.send(()).expect("somebody listens")), None);
        heard.recv_timeout(Duration::from_secs(10)).expect("woken");
        let addresses = resolver.poll(|| ()).expect("found");
        assert_eq!(
            addresses,
            ["192.0.2.1:4433".parse().expect("good"), "[2001:db8::1]:4433".parse().expect("good")]
        );
    }
}
