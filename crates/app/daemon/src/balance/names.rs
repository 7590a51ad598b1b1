//! DNS in the transparent way: captured questions go to a forwarder on loopback, which asks over the links and races them.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;
use std::thread::JoinHandle;

use bondwire_api::Fault;
use bondwire_capture::DnsRedirect;
use bondwire_proxy::{BindError, Config, Forwarder, dns::ForwarderHandle};
use bondwire_units::LinkId;

use super::desk::Desk;

/// A running forwarder, on a port of each family's loopback that the system chose. It ends when it is dropped.
#[derive(Debug, Default)]
pub(super) struct Names {
    running: Vec<Running>,
    redirect: Option<DnsRedirect>,
}

#[derive(Debug)]
struct Running {
    handle: ForwarderHandle,
    thread: Option<JoinHandle<Result<(), BindError>>>,
}

impl Names {
    /// Listens. A machine without IPv6 has one for IPv4 alone.
    pub(super) fn start(desk: &Arc<Desk>) -> Result<Self, Fault> {
        let mut names = Self::default();
        let v4 = names.listen(Ipv4Addr::LOCALHOST.into(), desk)?;
        let v6 = match names.listen(Ipv6Addr::LOCALHOST.into(), desk) {
            Ok(address) => Some(address),
            Err(fault) => {
                tracing::debug!("{fault}");
                None
            }
        };
        names.redirect = Some(DnsRedirect {
            v4: Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, v4.port())),
            v6: v6.map(|address| SocketAddrV6::new(Ipv6Addr::LOCALHOST, address.port(), 0, 0)),
        });
        Ok(names)
    }

    fn listen(&mut self, ip: std::net::IpAddr, desk: &Arc<Desk>) -> Result<SocketAddr, Fault> {
        let what = "cannot start the DNS forwarder";
        let config = Config::new(SocketAddr::new(ip, 0));
        let forwarder =
            Forwarder::bind(config, Arc::clone(desk) as _, Arc::clone(desk) as _).map_err(|error| {
                Fault::failed(what, error.to_string(), "see that loopback is up: `ip link set lo up`")
            })?;
        let (handle, address) = (forwarder.handle(), forwarder.local_addr());
        let thread = std::thread::Builder::new()
            .name("bw-dns".into())
            .spawn(move || forwarder.run())
            .map_err(|error| Fault::from_io(what, &error, "look at the system's limits"))?;
        self.running.push(Running { handle, thread: Some(thread) });
        Ok(address)
    }

    /// Where captured questions go.
    pub(super) fn redirect(&self) -> Option<DnsRedirect> {
        self.redirect
    }

    /// A link is another network now.
    pub(super) fn route_changed(&self, link: LinkId) {
        self.running.iter().for_each(|running| running.handle.route_changed(link));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("the DNS forwarder ended with a panic");
        }
    }
}
