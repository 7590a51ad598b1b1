mod build;
mod control;
mod plan;
mod player;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bondwire_scenario::{Link, Scenario};

use crate::emulator::Emulator;
use crate::error::LabError;
use crate::node::Node;
use plan::LinkPlan;

pub use player::Player;

/// What a lab is made like, besides the scenario.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabOptions {
    /// The network inside the bond, which core and web host reach by way of the server; default 10.99.0.0/24.
    pub inner_v4: (Ipv4Addr, u8),
    /// The same for IPv6; default fd99::/64.
    pub inner_v6: (Ipv6Addr, u8),
    /// Whether the emulator asks for real-time priority; default yes. It runs without if that is refused.
    pub realtime: bool,
    /// Reverse path filtering on client and server: 0 off, 1 strict, 2 loose. Default 2, as most distributions have it.
    pub rp_filter: u8,
    /// Whether the server forwards packets from the start; default yes. Without, the server's software has to see to it.
    pub server_forwards: bool,
    /// The largest TCP window of client, server and web host, in bytes; default 32 MiB. Kept as it is where not permitted.
    pub tcp_window: u32,
}

impl Default for LabOptions {
    fn default() -> Self {
        Self {
            inner_v4: (Ipv4Addr::new(10, 99, 0, 0), 24),
            inner_v6: (Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 0), 64),
            realtime: true,
            rp_filter: 2,
            server_forwards: true,
            tcp_window: 32 << 20,
        }
    }
}

/// A private internet. See the crate's text for its shape.
///
/// Clones are handles to the same lab, which is taken down with the last of them, at once and completely.
#[derive(Clone, Debug)]
pub struct Lab {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    // Dropped in this order: the emulator ends before the machines that it connects.
    emulator: Emulator,
    emulator_node: Node,
    client: Node,
    providers: Vec<Node>,
    core: Node,
    server: Node,
    web: Node,
    links: Mutex<Vec<LabLink>>,
    hosts: AtomicU8,
}

/// A link as it is at present.
#[derive(Clone, Debug)]
struct LabLink {
    link: Link,
    plan: LinkPlan,
    nat_turn: u8,
}

/// The addresses of one link at present. Families that the link does not carry are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkAddresses {
    /// The link's name, which is that of the client's interface.
    pub name: String,
    /// The client's address, in a /24.
    pub client_v4: Option<Ipv4Addr>,
    /// The provider's address on the link.
    pub gateway_v4: Option<Ipv4Addr>,
    /// What the client looks like from outside: its address, or that of the provider's NAT.
    pub public_v4: Option<Ipv4Addr>,
    /// The client's address, in a /64. There is no NAT for IPv6.
    pub client_v6: Option<Ipv6Addr>,
    /// The provider's address on the link.
    pub gateway_v6: Option<Ipv6Addr>,
}

/// A machine at the core router, reached by nothing but unshaped cables.
#[derive(Clone, Debug)]
pub struct Host {
    /// The machine; its interface is `eth0`.
    pub node: Node,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
}

impl Lab {
    /// Builds the lab of a scenario. Its events do not happen by themselves: see [`Lab::play`].
    ///
    /// # Errors
    /// [`LabError::Namespace`] outside of [`crate::enter`] and without the rights for it; others say what the kernel
    /// refused.
    pub fn build(scenario: &Scenario, options: LabOptions) -> Result<Self, LabError> {
        Ok(Self { shared: Arc::new(build::build(scenario, &options)?) })
    }

    /// The client, with one interface per link, named as the link.
    pub fn client(&self) -> &Node {
        &self.shared.client
    }

    /// The bonding server; its interface is `eth0`.
    pub fn server(&self) -> &Node {
        &self.shared.server
    }

    /// The web host; its interface is `eth0`.
    pub fn web(&self) -> &Node {
        &self.shared.web
    }

    /// The router between providers, server and web host.
    pub fn core(&self) -> &Node {
        &self.shared.core
    }

    /// The provider of a link, a router; `cust0` leads to the client, `up0` to the core.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`].
    pub fn provider(&self, link: &str) -> Result<&Node, LabError> {
        Ok(&self.shared.providers[position(&self.state(), link)?])
    }

    /// The emulator between the client and its providers.
    pub fn emulator(&self) -> &Emulator {
        &self.shared.emulator
    }

    /// The server's public address.
    pub fn server_addr_v4(&self) -> Ipv4Addr {
        plan::SERVER_V4
    }

    /// The server's public address.
    pub fn server_addr_v6(&self) -> Ipv6Addr {
        plan::SERVER_V6
    }

    /// The web host's address.
    pub fn web_addr_v4(&self) -> Ipv4Addr {
        plan::WEB_V4
    }

    /// The web host's address.
    pub fn web_addr_v6(&self) -> Ipv6Addr {
        plan::WEB_V6
    }

    /// The addresses of all links at present, in the scenario's order.
    pub fn links(&self) -> Vec<LinkAddresses> {
        self.state().iter().map(LabLink::addresses).collect()
    }

    /// The addresses of one link at present.
    ///
    /// # Errors
    /// [`LabError::UnknownLink`].
    pub fn link(&self, name: &str) -> Result<LinkAddresses, LabError> {
        let state = self.state();
        Ok(state[position(&state, name)?].addresses())
    }

    /// Connects another machine to the core router, such as a second server or a client without links of its own.
    ///
    /// # Errors
    /// As [`Lab::build`]; [`LabError::Scenario`] for more than 200.
    pub fn add_host(&self, name: &str) -> Result<Host, LabError> {
        build::add_host(&self.shared, name)
    }

    fn state(&self) -> MutexGuard<'_, Vec<LabLink>> {
        self.shared.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LabLink {
    fn addresses(&self) -> LinkAddresses {
        let plan = &self.plan;
        let public = if plan.nat { plan.public_v4(self.nat_turn) } else { plan.client_v4() };
        LinkAddresses {
            name: self.link.name.clone(),
            client_v4: plan.v4.then(|| plan.client_v4()),
            gateway_v4: plan.v4.then(|| plan.gateway_v4()),
            public_v4: plan.v4.then_some(public),
            client_v6: plan.v6.then(|| plan.client_v6()),
            gateway_v6: plan.v6.then(|| plan.gateway_v6()),
        }
    }
}

fn position(links: &[LabLink], name: &str) -> Result<usize, LabError> {
    links.iter().position(|link| link.link.name == name).ok_or_else(|| LabError::UnknownLink {
        name: name.to_owned(),
        known: links.iter().map(|link| link.link.name.clone()).collect(),
    })
}

/// Everything: the destination of a default route, of the family of `like`.
fn everything(like: IpAddr) -> crate::netlink::Prefix {
    let any: IpAddr =
        if like.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    crate::netlink::Prefix::new(any, 0)
}

/// The metric of a link's default route: the first link is preferred.
fn metric(position: usize) -> u32 {
    100 + position as u32
}
