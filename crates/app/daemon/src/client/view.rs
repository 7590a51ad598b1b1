//! A client's status, for the control API.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bondwire_api::{LinkStatus, Mode, Role, Status, Streams, Totals};
use bondwire_bond::{ClientState, ClientStatus, Parameters};
use bondwire_netctl::{Link, LinkKind};
use bondwire_units::LinkId;

use crate::config::ClientConfig;
use crate::identity::ClientIdentity;
use crate::link_settings::LinkSettings;
use crate::status::{Odometer, fill, idle_link, mode_of, totals};
use crate::streams;

/// Links that are remembered after they have gone.
const MAX_SEEN: usize = 64;

/// What there is to say before anything was tried.
pub(super) fn first(config: &ClientConfig, identity: &ClientIdentity, settings: Arc<LinkSettings>) -> Status {
    View::new(config, identity, settings).status(config.mode, None, &[], &BTreeMap::new(), None)
}

/// Makes statuses, and remembers what they need from one to the next.
#[derive(Debug)]
pub(super) struct View {
    started: Instant,
    device: String,
    mtu: u16,
    endpoint: Option<String>,
    parameters: Option<Parameters>,
    odometer: Odometer<String>,
    settings: Arc<LinkSettings>,
    /// Links that were shown: their kind and MTU, for when they are gone. At most [`MAX_SEEN`].
    seen: BTreeMap<String, (LinkKind, u16)>,
}

impl View {
    /// A view of a client that starts now.
    pub(super) fn new(config: &ClientConfig, identity: &ClientIdentity, settings: Arc<LinkSettings>) -> Self {
        Self {
            started: Instant::now(),
            device: config.tunnel.name.to_string(),
            mtu: config.tunnel.mtu.get(),
            endpoint: identity.endpoints.first().map(ToString::to_string),
            parameters: None,
            odometer: Odometer::default(),
            settings,
            seen: BTreeMap::new(),
        }
    }

    /// The server gave these.
    pub(super) fn on_connected(&mut self, parameters: Parameters) {
        self.parameters = Some(parameters);
    }

    /// How everything stands: the data plane's figures by link, and links without any.
    pub(super) fn status(
        &mut self,
        mode: Mode,
        bond: Option<&ClientStatus>,
        links: &[&Link],
        used: &BTreeMap<u32, Link>,
        reason: Option<String>,
    ) -> Status {
        let mut shown = Vec::new();
        for link in links {
            let wanted = self.settings.resolve(&link.name, link.kind);
            let state = match wanted.rules {
                _ if used.contains_key(&link.index) => "probing",
                None if link.is_usable() => "standby",
                _ => "down",
            };
            let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
            let mut status = idle_link(&link.name, &wanted.kind.to_string(), state, mtu);
            wanted.priority().clone_into(&mut status.priority);
            let paths: Vec<_> =
                bond.iter().flat_map(|bond| &bond.paths).filter(|path| path.link.0 == link.index).collect();
            fill(&mut status, paths.iter().copied());
            (status.bytes_tx, status.bytes_rx) = self.odometer.note(link.name.clone(), paths);
            if state != "probing" {
                state.clone_into(&mut status.state);
            }
            if self.seen.len() < MAX_SEEN {
                self.seen.insert(status.name.clone(), (link.kind, mtu));
            }
            shown.push(status);
        }
        self.add_gone(&mut shown);
        let totals = bond.map_or_else(Totals::default, |bond| totals(&shown, [bond.counters]));
        let parameters = self.parameters.as_ref();
        Status {
            role: Role::Client,
            mode: Some(bond.map_or(mode, |bond| mode_of(bond.mode))),
            state: bond.map_or(ClientState::Connecting, |bond| bond.state).to_string(),
            reason,
            server: bond
                .and_then(|bond| bond.server)
                .map(|server| server.to_string())
                .or_else(|| self.endpoint.clone()),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            device: Some(self.device.clone()),
            inner_v4: parameters.and_then(|parameters| parameters.v4).map(|(address, _)| address.to_string()),
            inner_v6: parameters.and_then(|parameters| parameters.v6).map(|(address, _)| address.to_string()),
            mtu: parameters.map_or(self.mtu, |parameters| parameters.mtu.min(self.mtu)),
            links: shown,
            flows: bond.map_or(0, |bond| bond.flows as u64),
            totals,
        }
    }

    /// The real-time flows, with the names of the links that carry them.
    pub(super) fn streams(&self, mode: Mode, bond: Option<&ClientStatus>, links: &[&Link]) -> Streams {
        let name = |id: LinkId| links.iter().find(|link| link.index == id.0).map(|link| link.name.clone());
        let mut streams: Vec<_> = bond
            .iter()
            .flat_map(|bond| &bond.streams)
            .map(|stream| streams::of_client(stream, stream.link.and_then(name)))
            .collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.age_ms));
        Streams { mode: Some(bond.map_or(mode, |bond| mode_of(bond.mode))), streams }
    }

    /// Links that were there once, and are not now.
    fn add_gone(&mut self, shown: &mut Vec<LinkStatus>) {
        for (name, (kind, mtu)) in &self.seen {
            if shown.iter().any(|link| link.name == *name) {
                continue;
            }
            let wanted = self.settings.resolve(name, *kind);
            let mut link = idle_link(name, &wanted.kind.to_string(), "down", *mtu);
            wanted.priority().clone_into(&mut link.priority);
            (link.bytes_tx, link.bytes_rx) = self.odometer.note(name.clone(), []);
            shown.push(link);
        }
    }
}
