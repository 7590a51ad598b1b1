//! `bondwire server run`: a server's life from start to end.
//!
//! *Start*: configuration, locks, control socket, the port; what an earlier run left is undone; the tunnel is made, the machine forwards.
//! *Life*: one thread waits for clients' files that change, signals, commands, and the data plane's news. *End*: clients are told, and
//! every change of the network is undone.

mod view;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::sync::Arc;

use bondwire_api::{ControlServer, Fault};
use bondwire_bond::{ClientRecord, Server, ServerEvent};
use bondwire_crypto::SecretKey;
use bondwire_engine::{Clock, EngineEvent, ServerCommand, ServerHandle, ServerSetup, spawn_server};
use bondwire_netctl::{Change, Changes, Forwarding, Prefix, foreign_firewalls};
use bondwire_tun::Device;
use bondwire_udp::{OpenError, ServerSocket};
use bondwire_units::ByteCount;

use crate::config::ServerConfig;
use crate::control::{EVERY, Meeting};
use crate::directory::Directory;
use crate::faults;
use crate::folders::Folders;
use crate::identity::{load_server, random};
use crate::pump::Pump;
use crate::tunnel;
use crate::wake::{self, StopSignal, Waker};

use view::View;

const ADDRESSES: &str = "tunnel addresses";

/// Runs the server until a signal or `bondwire down` ends it. `ready` is called once, when clients can connect.
///
/// # Errors
/// Whatever keeps it from starting or from going on; everything is undone by then.
pub fn server_run(folders: &Folders, ready: impl FnOnce()) -> Result<(), Fault> {
    let (config, key) = load_server(folders)?;
    let signal = StopSignal::catch()?;
    let waker = Waker::new()?;
    let _state = folders.lock_state()?;
    let mut view = View::new(&config);
    let mut directory = Directory::open(folders)?;
    let meeting = Arc::new(Meeting::new(view.status(None), waker.clone()));
    let _control = ControlServer::start(&folders.socket, Arc::clone(&meeting) as _)?;
    // The port comes first: if it is taken, nothing has been changed yet.
    let socket = bind(config.listen())?;
    let mut changes = tunnel::begin(&folders.state)?;
    let result = (|| {
        let device = set_up(&config, &mut changes)?;
        let mut engine = start(&config, key, device, socket, directory.records())?;
        let events = Pump::start(&mut engine, waker.clone())?;
        tracing::info!("listening on {}", config.listen());
        ready();
        live(&engine, &events, &mut directory, &meeting, &mut view, &signal, &waker)?;
        engine.stop().map_err(|error| faults::engine(&error))
    })();
    let undone = tunnel::undo(changes);
    result.and(undone)
}

fn bind(listen: SocketAddr) -> Result<ServerSocket, Fault> {
    ServerSocket::bind(&bondwire_udp::ServerConfig::new(listen)).map_err(|error| {
        let what = format!("cannot listen on {listen}");
        let (why, what_to_do) = faults::halves(&error.to_string());
        match error {
            OpenError::NoPermission { .. } => Fault::permission(what, why, what_to_do),
            _ => Fault::failed(what, why, what_to_do),
        }
    })
}

/// Makes the tunnel and lets the machine forward.
fn set_up(config: &ServerConfig, changes: &mut Changes) -> Result<Device, Fault> {
    let device = tunnel::open(&config.tunnel, changes)?;
    let name = config.tunnel.name.as_str();
    let v4 = Some(Prefix::new(IpAddr::V4(config.network.v4.server()), config.network.v4.prefix()));
    let v6 = config.network.v6.map(|v6| Prefix::new(IpAddr::V6(v6.server()), v6.prefix()));
    let prefixes: Vec<Prefix> = [v4, v6].into_iter().flatten().collect();
    let addresses: Vec<Change> = prefixes
        .iter()
        .map(|address| Change::Address { device: name.to_owned(), address: *address })
        .collect();
    changes
        .sync(ADDRESSES, &addresses)
        .map_err(|error| faults::net(format!("cannot set up the tunnel `{name}`"), &error))?;
    let forwarding = Forwarding {
        tunnel: name.to_owned(),
        networks: prefixes.iter().map(Prefix::network).collect(),
        nat: config.nat,
    };
    changes
        .forwarding_and_nat(&forwarding)
        .map_err(|error| faults::net("cannot forward the clients' traffic", &error))?;
    for warning in foreign_firewalls(name) {
        tracing::warn!("{warning}");
    }
    Ok(device)
}

fn start(
    config: &ServerConfig,
    key: SecretKey,
    device: Device,
    socket: ServerSocket,
    clients: Vec<ClientRecord>,
) -> Result<ServerHandle, Fault> {
    let network = config.network;
    let bond = bondwire_bond::ServerConfig {
        identity: key,
        v4: Some((network.v4.server(), network.v4.prefix())),
        v6: network.v6.map(|v6| (v6.server(), v6.prefix())),
        mtu: config.tunnel.mtu.get(),
        ciphers: crate::cipher::preferred(),
        max_sessions: usize::from(config.limits.max_sessions),
        memory_per_session: ByteCount::new(u64::from(config.limits.memory_per_session_mib) << 20),
        max_redundant: crate::MAX_REDUNDANT,
        client_to_client: false,
        software: crate::SOFTWARE.to_owned(),
        seed: random()?,
    };
    let now = Clock.now();
    let mut server = Server::new(bond, now);
    server.set_directory(clients, now);
    spawn_server(ServerSetup { device, server, sockets: vec![socket] })
        .map_err(|error| faults::engine(&error))
}

/// Runs until a signal or a command ends it, or an error does.
fn live(
    engine: &ServerHandle,
    events: &Pump<ServerEvent>,
    directory: &mut Directory,
    meeting: &Meeting,
    view: &mut View,
    signal: &StopSignal,
    waker: &Waker,
) -> Result<(), Fault> {
    loop {
        if signal.came() || meeting.stop_asked() {
            return Ok(());
        }
        waker.rest();
        while let Some(event) = events.poll() {
            match event {
                EngineEvent::Bond(event) => on_event(event, directory),
                EngineEvent::LinkFailed { error, .. } => tracing::warn!("{error}"),
            }
        }
        if engine.is_finished() {
            // `stop` knows why.
            return Ok(());
        }
        if directory.refresh() {
            tracing::debug!("the list of clients has changed");
            engine.send(ServerCommand::SetDirectory(directory.records()));
        }
        let status = engine.status();
        meeting.publish_clients(view.clients(directory, Some(&status.bond)));
        meeting.publish_streams(view.streams(&status.bond));
        meeting.publish(view.status(Some(&status.bond)));
        wake::wait(&[signal.as_fd(), waker.as_fd(), directory.as_fd()], EVERY)?;
    }
}

fn on_event(event: ServerEvent, directory: &mut Directory) {
    match event {
        ServerEvent::ClientPinned { invite_id, key } => directory.on_pinned(invite_id, key),
        ServerEvent::TimestampSeen { invite_id, timestamp } => directory.on_timestamp(invite_id, timestamp),
        ServerEvent::Connected { name, remote } => {
            tracing::info!("client `{name}` is connected");
            tracing::debug!("client `{name}` comes from {remote}");
            directory.save_keys();
        }
        ServerEvent::Disconnected { name, why } => tracing::info!("client `{name}` is gone: {why}"),
        ServerEvent::Refused { remote, name, reason } => {
            tracing::warn!("refused {}: {reason}", name.as_deref().unwrap_or("an unknown client"));
            tracing::debug!("the refused one comes from {remote}");
        }
        ServerEvent::Stream { name, change } => {
            tracing::debug!("client `{name}`, {}", crate::streams::explain(&change));
        }
        ServerEvent::PathState { name, change } => {
            tracing::debug!("client `{name}`, {}: {:?} -> {:?}", change.path, change.from, change.to);
        }
    }
}
