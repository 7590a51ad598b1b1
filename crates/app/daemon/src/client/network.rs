//! What a client changes in the system's network: each link gets a table, the tunnel its addresses, and the default route leads into it.

use std::net::IpAddr;

use bondwire_api::Fault;
use bondwire_bond::Parameters;
use bondwire_netctl::{Change, Changes, Ipv6Policy, Prefix};
use bondwire_tun::Device;

use crate::config::{DeviceKind, TunnelConfig};
use crate::faults;
use crate::tunnel;

const ADDRESSES: &str = "tunnel addresses";

/// The system's network, as this client has changed it. Everything is undone when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    changes: Changes,
    tunnel: TunnelConfig,
    default_route: bool,
    applied: Option<Parameters>,
}

impl Network {
    /// Nothing is changed yet.
    pub(crate) fn new(changes: Changes, tunnel: TunnelConfig, default_route: bool) -> Self {
        Self { changes, tunnel, default_route, applied: None }
    }

    /// Makes the tunnel's device.
    pub(crate) fn open_device(&mut self) -> Result<Device, Fault> {
        tunnel::open(&self.tunnel, &mut self.changes)
    }

    /// The changes, for questions.
    pub(crate) fn changes(&mut self) -> &mut Changes {
        &mut self.changes
    }

    /// Gives a link a routing table of its own, or brings it up to date.
    pub(crate) fn route_link(&mut self, name: &str) -> Result<(), Fault> {
        self.changes
            .route_link(name)
            .map(drop)
            .map_err(|error| faults::net(format!("cannot use link `{name}`"), &error))
    }

    /// Takes that back.
    pub(crate) fn unroute_link(&mut self, name: &str) {
        if let Err(error) = self.changes.unroute_link(name) {
            tracing::warn!("the routes of link `{name}` were not all removed: {error}");
        }
    }

    /// What the server gave: addresses, MTU, and then the default route. The same again changes nothing.
    pub(crate) fn apply(&mut self, parameters: &Parameters) -> Result<(), Fault> {
        if self.applied.as_ref() == Some(parameters) {
            return Ok(());
        }
        let device = self.tunnel.name.as_str();
        let what = || format!("cannot set up the tunnel `{device}`");
        let mtu = parameters.mtu.min(self.tunnel.mtu.get());
        tunnel::set_mtu(&self.tunnel, mtu, &mut self.changes).map_err(|error| faults::net(what(), &error))?;
        let v4 = parameters.v4.map(|(address, length)| Prefix::new(IpAddr::V4(address), length));
        let v6 = parameters.v6.map(|(address, length)| Prefix::new(IpAddr::V6(address), length));
        let addresses: Vec<Change> = [v4, v6]
            .into_iter()
            .flatten()
            .map(|address| Change::Address { device: device.to_owned(), address })
            .collect();
        self.changes.sync(ADDRESSES, &addresses).map_err(|error| faults::net(what(), &error))?;
        if self.default_route {
            let ipv6 = if v6.is_some() { Ipv6Policy::Through } else { Ipv6Policy::Refuse };
            self.changes
                .default_through(device, ipv6)
                .map_err(|error| faults::net("cannot lead the default route through the bond", &error))?;
        }
        self.applied = Some(parameters.clone());
        Ok(())
    }

    /// Undoes everything.
    pub(crate) fn undo(self) -> Result<(), Fault> {
        tunnel::undo(self.changes)
    }

    /// Interfaces that are the tunnel's own.
    pub(crate) fn own_devices(tunnel: &TunnelConfig) -> Vec<String> {
        let name = tunnel.name.to_string();
        match tunnel.device {
            DeviceKind::Tun => vec![name],
            DeviceKind::Packet => vec![format!("{name}-peer"), name],
        }
    }
}
