//! The way through the proxy: its threads, and what they are told of links.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use bondwire_api::Fault;
use bondwire_netctl::Link;
use bondwire_proxy::{BindError, Config, Evicted, Login, Proxy, ProxyHandle, Route};

use super::desk::Desk;
use crate::config::BalanceConfig;
use crate::faults::halves;
use crate::wake::Waker;

/// A running proxy. It ends when it is dropped.
#[derive(Debug)]
pub(super) struct Proxied {
    handle: ProxyHandle,
    address: SocketAddr,
    thread: Option<JoinHandle<Result<(), BindError>>>,
}

impl Proxied {
    /// Listens, and serves clients from now on.
    pub(super) fn start(
        listen: SocketAddr,
        config: &BalanceConfig,
        keep_sockets: bool,
        desk: &Arc<Desk>,
        waker: &Waker,
    ) -> Result<Self, Fault> {
        let login = config.login.as_ref().map(|login| Login {
            user: login.user.as_str().to_owned(),
            password: login.password.as_str().to_owned(),
        });
        if login.is_none() && !listen.ip().is_loopback() {
            tracing::warn!(
                "the proxy listens on {listen}, and everyone who reaches that address may use it; `login` in [balance] of client.toml asks for a password"
            );
        }
        let evicted = if keep_sockets { Evicted::Keep } else { Evicted::Reset };
        let config = Config { login, evicted, ..Config::new(listen) };
        let proxy = Proxy::bind(config, Arc::clone(desk) as _, Arc::clone(desk) as _)
            .map_err(|error| fault(listen, &error))?;
        let (handle, address) = (proxy.handle(), proxy.local_addr());
        let waker = waker.clone();
        let thread = std::thread::Builder::new()
            .name("bw-proxy".into())
            .spawn(move || {
                let result = proxy.run();
                // So that the main thread sees it, whatever the reason.
                waker.wake();
                result
            })
            .map_err(|error| {
                Fault::from_io("cannot start the proxy", &error, "look at the system's limits")
            })?;
        Ok(Self { handle, address, thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells it of links.
    pub(super) fn handle(&self) -> &ProxyHandle {
        &self.handle
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// Why it has ended.
    pub(super) fn check(&mut self) -> Result<(), Fault> {
        if !self.thread.as_ref().is_some_and(JoinHandle::is_finished) {
            return Ok(());
        }
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(Err(error))) => Err(fault(self.address, &error)),
            _ => Err(Fault::failed(
                "the proxy has stopped",
                "it ended by itself",
                "start bondwire again, and report it as a fault",
            )),
        }
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the proxy ended with a panic");
        }
    }
}

/// How sockets are tied to a link.
pub(super) fn route_of(link: &Link, resolvers: Vec<SocketAddr>) -> Route {
    Route {
        interface: Some(link.name.clone()),
        source_v4: link.v4(),
        source_v6: link.v6(),
        mark: None,
        resolvers,
    }
}

fn fault(listen: SocketAddr, error: &BindError) -> Fault {
    let (why, what_to_do) = match error.to_string().split_once(". ") {
        Some((why, what_to_do)) => (why.to_owned(), what_to_do.to_owned()),
        None => halves(&error.to_string()),
    };
    Fault::failed(format!("the proxy cannot listen on {listen}"), why, what_to_do)
}
