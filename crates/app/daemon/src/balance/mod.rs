//! `bondwire balance`: the local load balancer, from start to end.
//!
//! One thread drives it all: it feeds the policy ([`bondwire_balance::Balancer`]) with what it sees (links, their counters, the
//! kernel's figures of sockets, answers to probes), and does what the policy says (a plan for the kernel's program, sockets to be
//! closed or moved, probes). New sockets come by two ways: programs that use the proxy, on threads of its own, which ask the policy under a
//! lock, once for each event of a socket; and everybody else's, for which the kernel's program chooses by the plan and tells afterwards.
//!
//! *Start*: configuration if there is any, locks, control socket; what an earlier run left is undone; the links are looked at. *Life*: see
//! [`life`]. *End*: the proxy's sockets are closed, and every change of the network is undone.

mod captured;
mod counters;
mod desk;
mod life;
mod links;
mod names;
mod policy;
mod prober;
mod proxied;
mod resolvers;
mod shown;
mod tracked;
mod traffic;
mod view;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bondwire_api::{ControlServer, Fault, FaultKind, Priority, SocketLock};
use bondwire_netctl::{Changes, Link, Watcher};

use crate::config::{self, CLIENT_FILE, ClientConfig};
use crate::control::Meeting;
use crate::faults;
use crate::folders::Folders;
use crate::link_settings::LinkSettings;
use crate::links::LinkChoice;
use crate::names::InterfaceName;
use crate::tunnel;
use crate::wake::{StopSignal, Waker};

use life::Life;
use policy::Policy;

/// What `balance` may be told besides the configuration.
#[derive(Clone, Debug, Default)]
pub struct BalanceOptions {
    /// Instead of the configured links; empty: those.
    pub links: Vec<InterfaceName>,
    /// Instead of the configured and remembered priorities.
    pub priorities: BTreeMap<InterfaceName, Priority>,
    /// Where the proxy listens; none: there is no proxy.
    pub proxy: Option<SocketAddr>,
    /// Whether all new sockets of this machine are spread.
    pub transparent: bool,
    /// Interfaces of which the machines behind are spread too.
    pub lan: Vec<InterfaceName>,
    /// Whether TCP sockets of a dead link are left open.
    pub keep_sockets: bool,
}

impl BalanceOptions {
    /// Whether anything of the system's network has to be changed for it.
    fn needs_network(&self) -> bool {
        self.transparent || !self.lan.is_empty()
    }
}

/// Balances, and stays until a signal or `bondwire down` ends it. `ready` is called once, when sockets are spread.
///
/// # Errors
/// Whatever keeps it from starting or from going on; everything is undone by then.
pub fn balance(folders: &Folders, options: BalanceOptions, ready: impl FnOnce()) -> Result<(), Fault> {
    let mut config: ClientConfig = config::load(&folders.config_file(CLIENT_FILE))?.unwrap_or_default();
    if !options.links.is_empty() {
        config.links.chosen.clone_from(&options.links);
    }
    let signal = StopSignal::catch()?;
    let waker = Waker::new()?;
    let place = Place::take(folders, &options)?;
    let settings =
        Arc::new(LinkSettings::load(config.link.clone(), options.priorities.clone(), &folders.state)?);
    let meeting =
        Arc::new(Meeting::new(view::first(&options), waker.clone()).with_links(Arc::clone(&settings)));
    let _control = place.serve(folders, &meeting)?;
    let changes = place.begin(folders)?;
    let own = vec![config.tunnel.name.to_string()];
    let choice = LinkChoice::new(config.links.chosen.clone(), own, settings);
    let watcher = Watcher::open().map_err(|error| faults::net("cannot watch the links", &error))?;
    let links: Vec<Link> = watcher.links().cloned().collect();
    for warning in choice.check(&links)? {
        tracing::warn!("{warning}; it is used as soon as it can be");
    }
    let policy = Policy::new(
        config.balance.to_policy(),
        u64::from_ne_bytes(crate::identity::random()?),
        waker.clone(),
    );
    let mut life = Life::new(config.balance, options, policy, choice, watcher, changes, meeting, waker)?;
    let result = life.run(&signal, ready);
    let undone = life.end();
    result.and(undone)
}

/// The state folder, as far as this user may use one.
#[derive(Debug)]
struct Place {
    /// None for an ordinary user with a proxy alone, who changes nothing that would have to be undone.
    lock: Option<SocketLock>,
}

impl Place {
    /// Takes the state folder. An ordinary user who runs a proxy alone can do without.
    fn take(folders: &Folders, options: &BalanceOptions) -> Result<Self, Fault> {
        match folders.lock_state() {
            Ok(lock) => Ok(Self { lock: Some(lock) }),
            Err(fault) if fault.kind == FaultKind::Permission && !options.needs_network() => {
                tracing::warn!(
                    "the state folder {} belongs to another user: nothing is remembered (--state-dir and --socket name places of your own)",
                    folders.state.display()
                );
                Ok(Self { lock: None })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Serves the control socket.
    fn serve(&self, folders: &Folders, meeting: &Arc<Meeting>) -> Result<Option<ControlServer>, Fault> {
        match ControlServer::start(&folders.socket, Arc::clone(meeting) as _) {
            Err(fault) if fault.kind == FaultKind::Permission && self.lock.is_none() => {
                tracing::warn!("{}: `bondwire status` and `sockets` cannot reach this one", fault.what);
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Undoes what an earlier run has left, and begins a journal; none for who may not change the network.
    fn begin(&self, folders: &Folders) -> Result<Option<Changes>, Fault> {
        self.lock.as_ref().map(|_| tunnel::begin(&folders.state)).transpose()
    }
}
