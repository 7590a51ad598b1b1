//! A server's status and its list of clients, for the control API.

use std::time::Instant;

use bondwire_api::{ClientState, Clients, Role, Status, Streams, Totals};
use bondwire_bond::ServerStatus;

use crate::config::ServerConfig;
use crate::directory::Directory;
use crate::identity::unix_seconds;
use crate::status::{Odometer, fill, idle_link, totals};
use crate::streams;

/// Makes statuses, and remembers what they need from one to the next.
#[derive(Debug)]
pub(super) struct View {
    started: Instant,
    template: Status,
    odometer: Odometer<String>,
}

impl View {
    /// A view of a server that starts now.
    pub(super) fn new(config: &ServerConfig) -> Self {
        let template = Status {
            role: Role::Server,
            mode: None,
            state: "running".to_owned(),
            reason: None,
            server: Some(config.listen().to_string()),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: 0,
            device: Some(config.tunnel.name.to_string()),
            inner_v4: Some(config.network.v4.server().to_string()),
            inner_v6: config.network.v6.map(|v6| v6.server().to_string()),
            mtu: config.tunnel.mtu.get(),
            links: Vec::new(),
            flows: 0,
            totals: Totals::default(),
        };
        Self { started: Instant::now(), template, odometer: Odometer::default() }
    }

    /// How everything stands: one entry for each path of each client.
    pub(super) fn status(&mut self, bond: Option<&ServerStatus>) -> Status {
        let sessions = bond.map(|bond| bond.sessions.as_slice()).unwrap_or_default();
        let mut links = Vec::new();
        let (mut past_tx, mut past_rx) = (0, 0);
        for session in sessions {
            for path in &session.paths {
                let mut link = idle_link(&session.name, "unknown", "probing", path.mtu);
                path.priority.name().clone_into(&mut link.priority);
                fill(&mut link, [path]);
                (link.bytes_tx, link.bytes_rx) = (path.bytes_tx.get(), path.bytes_rx.get());
                past_tx += link.bytes_tx;
                past_rx += link.bytes_rx;
                links.push(link);
            }
            let (tx, rx) = self.odometer.note(session.name.clone(), &session.paths);
            let standing = session
                .paths
                .iter()
                .fold((0, 0), |sum, path| (sum.0 + path.bytes_tx.get(), sum.1 + path.bytes_rx.get()));
            past_tx += tx.saturating_sub(standing.0);
            past_rx += rx.saturating_sub(standing.1);
        }
        let mut totals = totals(&links, sessions.iter().map(|session| session.counters));
        (totals.bytes_tx, totals.bytes_rx) = (past_tx, past_rx);
        Status {
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            links,
            flows: sessions.iter().map(|session| session.flows as u64).sum(),
            totals,
            ..self.template.clone()
        }
    }

    /// The real-time flows of all clients.
    pub(super) fn streams(&self, bond: &ServerStatus) -> Streams {
        let of = |session: &bondwire_bond::SessionStatus| {
            let name = session.name.clone();
            session.streams.iter().map(move |stream| streams::of_server(stream, &name)).collect::<Vec<_>>()
        };
        let mut streams: Vec<_> = bond.sessions.iter().flat_map(of).collect();
        streams.sort_by_key(|stream| std::cmp::Reverse(stream.age_ms));
        Streams { mode: None, streams }
    }

    /// All clients, and which of them are connected.
    pub(super) fn clients(&self, directory: &Directory, bond: Option<&ServerStatus>) -> Clients {
        let now = unix_seconds();
        let connected =
            |name: &str| bond.is_some_and(|bond| bond.sessions.iter().any(|session| session.name == name));
        let clients = directory.clients().map(|client| {
            let mut entry = client.entry(now);
            if entry.state == ClientState::Joined && connected(&entry.name) {
                entry.state = ClientState::Connected;
            }
            entry
        });
        Clients { clients: clients.collect() }
    }
}
