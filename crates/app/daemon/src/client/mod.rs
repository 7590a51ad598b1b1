//! `bondwire up`: a client's life from start to end.
//!
//! *Start*: configuration, locks, control socket; what an earlier run left is undone; the links are looked at, the tunnel is made.
//! *Life*: one thread waits for links that change, signals, commands, and the data plane's news, and does what they ask for. *End*,
//! for whatever reason: the data plane says good-bye, and every change of the network is undone.
//!
//! The default route goes through the bond from the first connection on, and stays there while a connection is lost: traffic waits or
//! fails, it does not leave around the tunnel.

mod explain;
mod life;
mod network;
mod progress;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bondwire_api::{ControlServer, Fault, Mode, Priority};
use bondwire_netctl::{Link, Watcher};

use crate::config::ClientConfig;
use crate::control::Meeting;
use crate::faults;
use crate::folders::Folders;
use crate::identity::ClientIdentity;
use crate::link_settings::LinkSettings;
use crate::links::LinkChoice;
use crate::names::InterfaceName;
use crate::timestamps::TimestampFile;
use crate::tunnel;
use crate::wake::{StopSignal, Waker};

use life::Life;
use network::Network;
use progress::Progress;

/// What `up` may be told besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct UpOptions {
    /// Instead of the configured mode.
    pub mode: Option<Mode>,
    /// Instead of the configured links; empty: those.
    pub links: Vec<InterfaceName>,
    /// Instead of the configured and remembered priorities.
    pub priorities: BTreeMap<InterfaceName, Priority>,
    /// Instead of the configured choice.
    pub default_route: Option<bool>,
    /// Give up if there is no connection after so long; without it, never.
    pub wait: Option<Duration>,
}

/// Connects, and stays until a signal, `bondwire down`, or a refusal ends it. `ready` is called once, when traffic can flow.
///
/// # Errors
/// Whatever keeps it from starting or from going on; everything is undone by then.
pub fn up(folders: &Folders, options: UpOptions, ready: impl FnOnce()) -> Result<(), Fault> {
    let (mut config, identity) = ClientIdentity::load(folders)?;
    config.mode = options.mode.unwrap_or(config.mode);
    config.default_route = options.default_route.unwrap_or(config.default_route);
    if !options.links.is_empty() {
        config.links.chosen.clone_from(&options.links);
    }
    let signal = StopSignal::catch()?;
    let waker = Waker::new()?;
    let _state = folders.lock_state()?;
    let settings = LinkSettings::load(config.link.clone(), options.priorities, &folders.state)?;
    let settings = Arc::new(settings);
    let first = view::first(&config, &identity, Arc::clone(&settings));
    let meeting = Arc::new(Meeting::new(first, waker.clone()).with_links(Arc::clone(&settings)));
    let _control = ControlServer::start(&folders.socket, Arc::clone(&meeting) as _)?;
    if let Some(remark) = config.mode.remark() {
        tracing::info!("{remark}");
    }
    let changes = tunnel::begin(&folders.state)?;
    let own = Network::own_devices(&config.tunnel);
    let choice = LinkChoice::new(config.links.chosen.clone(), own, settings);
    let watcher = watch(&choice)?;
    let mut network = Network::new(changes, config.tunnel.clone(), config.default_route);
    for conflict in network.changes().rule_conflicts().unwrap_or_default() {
        tracing::warn!("{conflict}");
    }
    let device = network.open_device()?;
    let progress = Progress::new(options.wait, Instant::now());
    let timestamps = TimestampFile::new(folders.state.join("timestamp"));
    let mut life =
        Life::new(config, identity, choice, network, watcher, device, meeting, waker, timestamps, progress);
    let result = life.run(&signal, ready);
    let undone = life.end();
    result.and(undone)
}

/// Watches the links from now on, and looks at them once.
fn watch(choice: &LinkChoice) -> Result<Watcher, Fault> {
    let watcher = Watcher::open().map_err(|error| faults::net("cannot watch the links", &error))?;
    let links: Vec<Link> = watcher.links().cloned().collect();
    for warning in choice.check(&links)? {
        tracing::warn!("{warning}; it is used as soon as it can be");
    }
    Ok(watcher)
}

/// What the data plane is made of, from the configuration.
fn bond_config(
    config: &ClientConfig,
    identity: &ClientIdentity,
    last_timestamp: u64,
) -> Result<bondwire_bond::ClientConfig, Fault> {
    Ok(bondwire_bond::ClientConfig {
        identity: identity.key.clone(),
        server: identity.server,
        psk: identity.secret.clone(),
        invite_id: identity.invite_id,
        endpoints: Vec::new(),
        mode: crate::status::mode_for(config.mode),
        ciphers: crate::cipher::preferred(),
        mtu: config.tunnel.mtu.get(),
        last_timestamp,
        max_redundant: config.max_redundant.get(),
        software: crate::SOFTWARE.to_owned(),
        seed: crate::identity::random()?,
        memory: crate::SESSION_MEMORY,
        rules: config.streams.rules.to_rules(),
    })
}
