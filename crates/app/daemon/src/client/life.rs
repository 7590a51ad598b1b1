//! A client while it runs.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bondwire_api::Fault;
use bondwire_bond::{Client, ClientEvent};
use bondwire_engine::{
    ClientCommand, ClientHandle, ClientSetup, Clock, EngineEvent, EngineHandle, LinkSetup, spawn_client,
    unix_micros,
};
use bondwire_netctl::{Link, LinkEvent, Watcher};
use bondwire_tun::Device;
use bondwire_udp::Segmentation;
use bondwire_units::LinkId;

use crate::client::explain::{self, Tried};
use crate::client::network::Network;
use crate::client::progress::{Patience, Progress};
use crate::client::view::View;
use crate::config::ClientConfig;
use crate::control::{EVERY, Meeting};
use crate::faults;
use crate::identity::ClientIdentity;
use crate::links::LinkChoice;
use crate::pump::Pump;
use crate::resolve::Resolver;
use crate::status;
use crate::timestamps::TimestampFile;
use crate::wake::{self, StopSignal, Waker};

/// What did not work for a link is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);

/// How often something of a link could not be made.
#[derive(Clone, Copy, Debug, Default)]
struct Failure {
    times: u32,
    /// Once more since the last attempt.
    again: bool,
}

/// A client while it runs.
#[derive(Debug)]
pub(super) struct Life {
    config: ClientConfig,
    identity: ClientIdentity,
    choice: LinkChoice,
    network: Option<Network>,
    watcher: Watcher,
    /// Until the data plane has it.
    device: Option<Device>,
    engine: Option<ClientHandle>,
    events: Option<Pump<ClientEvent>>,
    resolver: Resolver,
    meeting: Arc<Meeting>,
    waker: Waker,
    timestamps: TimestampFile,
    progress: Progress,
    view: View,
    /// The links that the data plane uses now, by index.
    used: BTreeMap<u32, Link>,
    /// Those of them whose routes or sockets could not all be made, to be tried again.
    failed: BTreeMap<u32, Failure>,
    retry_at: Instant,
    versions: Option<Vec<u8>>,
}

impl Life {
    /// Everything is prepared, and nothing runs yet.
    #[expect(clippy::too_many_arguments, reason = "it is made in one place, from as many parts")]
    pub(super) fn new(
        config: ClientConfig,
        identity: ClientIdentity,
        choice: LinkChoice,
        network: Network,
        watcher: Watcher,
        device: Device,
        meeting: Arc<Meeting>,
        waker: Waker,
        timestamps: TimestampFile,
        progress: Progress,
    ) -> Self {
        let resolver = Resolver::new(identity.endpoints.clone());
        let view = View::new(&config, &identity, choice.settings());
        Self {
            config,
            identity,
            choice,
            network: Some(network),
            watcher,
            device: Some(device),
            engine: None,
            events: None,
            resolver,
            meeting,
            waker,
            timestamps,
            progress,
            view,
            used: BTreeMap::new(),
            failed: BTreeMap::new(),
            retry_at: Instant::now(),
            versions: None,
        }
    }

    /// Runs until a signal or a command ends it, or an error does.
    pub(super) fn run(&mut self, signal: &StopSignal, ready: impl FnOnce()) -> Result<(), Fault> {
        let mut ready = Some(ready);
        let links: Vec<Link> = self.watcher.links().cloned().collect();
        for link in links {
            self.on_link(&link)?;
        }
        loop {
            if signal.came() || self.meeting.stop_asked() {
                return Ok(());
            }
            self.waker.rest();
            self.look_at_links()?;
            self.find_server()?;
            if self.take_news()?
                && let Some(ready) = ready.take()
            {
                ready();
            }
            if let (Some(mode), Some(engine)) = (self.meeting.take_mode(), &self.engine) {
                engine.send(ClientCommand::SetMode(status::mode_for(mode)));
                self.config.mode = mode;
            }
            if self.meeting.take_links_changed() {
                self.apply_settings()?;
            }
            self.publish();
            self.mind_silence()?;
            wake::wait(&[signal.as_fd(), self.waker.as_fd(), self.watcher.as_fd()], EVERY)?;
        }
    }

    /// Ends the data plane, and undoes everything.
    pub(super) fn end(mut self) -> Result<(), Fault> {
        if let Some(engine) = self.engine.take()
            && let Err(error) = engine.stop()
        {
            tracing::warn!("{error}");
        }
        self.device = None;
        self.network.take().map_or(Ok(()), Network::undo)
    }

    fn look_at_links(&mut self) -> Result<(), Fault> {
        let events = self.watcher.poll().map_err(|error| faults::net("cannot watch the links", &error))?;
        for event in events {
            match event {
                LinkEvent::Added(link) => self.on_link(&link)?,
                LinkEvent::Changed { now, .. } => self.on_link(&now)?,
                LinkEvent::Removed(link) => self.on_link_gone(&link),
            }
        }
        self.retry_links()
    }

    /// Tries once more what did not work for a link.
    fn retry_links(&mut self) -> Result<(), Fault> {
        if self.failed.is_empty() || Instant::now() < self.retry_at {
            return Ok(());
        }
        self.retry_at = Instant::now() + RETRY;
        // Those that did not fail again since the last turn are well.
        self.failed.retain(|_, failure| std::mem::take(&mut failure.again));
        let links: Vec<Link> =
            self.watcher.links().filter(|link| self.failed.contains_key(&link.index)).cloned().collect();
        links.iter().try_for_each(|link| self.on_link(link))
    }

    /// A link is there, or is different from before.
    fn on_link(&mut self, link: &Link) -> Result<(), Fault> {
        if !self.choice.uses(link) {
            self.on_link_gone(link);
            return Ok(());
        }
        if let Some(network) = &mut self.network
            && let Err(fault) = network.route_link(&link.name)
        {
            if fault.kind == bondwire_api::FaultKind::Permission {
                return Err(fault);
            }
            // Addresses and routes come one by one, and links may vanish again: it is tried again soon.
            self.on_failed(link.index, &fault.to_string());
        }
        let fresh = self.used.insert(link.index, link.clone()).is_none();
        if fresh {
            tracing::info!("link `{}` ({}) is used", link.name, link.kind);
        }
        if let Some(engine) = &self.engine {
            if let Some(rules) = self.choice.wanted(link).rules {
                engine.send(ClientCommand::SetLinkRules(LinkId(link.index), rules));
            }
            engine.send(ClientCommand::LinkUp(setup_of(link)));
        }
        Ok(())
    }

    /// What is wanted of the links has changed: priorities and limits are told, what is never used is left, what may be used again is taken up.
    fn apply_settings(&mut self) -> Result<(), Fault> {
        let links: Vec<Link> =
            self.watcher.links().filter(|link| self.choice.includes(link)).cloned().collect();
        for link in links {
            match self.choice.wanted(&link).rules {
                None => self.on_link_gone(&link),
                Some(rules) if self.used.contains_key(&link.index) => {
                    if let Some(engine) = &self.engine {
                        engine.send(ClientCommand::SetLinkRules(LinkId(link.index), rules));
                    }
                }
                Some(_) => self.on_link(&link)?,
            }
        }
        Ok(())
    }

    /// Something of a link could not be made. Said aloud when it lasts.
    fn on_failed(&mut self, index: u32, what: &str) {
        self.retry_at = Instant::now() + RETRY;
        let failure = self.failed.entry(index).or_default();
        failure.times += 1;
        failure.again = true;
        match failure.times {
            2 => tracing::warn!("{what}"),
            _ => tracing::debug!("{what}"),
        }
    }

    /// A link is gone, or cannot be used any more.
    fn on_link_gone(&mut self, link: &Link) {
        self.failed.remove(&link.index);
        let Some(used) = self.used.remove(&link.index) else { return };
        let never = self.choice.wanted(link).rules.is_none();
        let why = self.choice.obstacle(link).unwrap_or_else(|| format!("link `{}` is gone", used.name));
        tracing::warn!("{why}");
        if let Some(engine) = &self.engine {
            let id = LinkId(link.index);
            engine.send(if never { ClientCommand::LinkRemoved(id) } else { ClientCommand::LinkDown(id) });
        }
        if let Some(network) = &mut self.network {
            network.unroute_link(&used.name);
        }
    }

    /// Starts the data plane as soon as the server's addresses are known.
    fn find_server(&mut self) -> Result<(), Fault> {
        if self.engine.is_some() {
            return Ok(());
        }
        let waker = self.waker.clone();
        let Some(endpoints) = self.resolver.poll(move || waker.wake()) else { return Ok(()) };
        let Some(device) = self.device.take() else { return Ok(()) };
        tracing::debug!(?endpoints, "the server's addresses");
        let last = self.timestamps.load()?;
        let mut config = super::bond_config(&self.config, &self.identity, last)?;
        config.endpoints = endpoints;
        let now = Clock.now();
        let mut client = Client::new(config, unix_micros(), now);
        for link in self.used.values() {
            if let Some(rules) = self.choice.wanted(link).rules {
                client.set_link_rules(LinkId(link.index), rules, now);
            }
        }
        let timestamps = self.timestamps.clone();
        // A timestamp that is not written costs one more round trip after a restart with a wrong clock; no connection would cost more.
        let persist = move |timestamp| {
            if let Err(fault) = timestamps.save(timestamp) {
                tracing::warn!("{fault}");
            }
            Ok(())
        };
        let links = self.used.values().map(setup_of).collect();
        let setup = ClientSetup { device, client, links, persist_timestamp: Box::new(persist) };
        let mut engine = spawn_client(setup).map_err(|error| faults::engine(&error))?;
        self.events = Some(Pump::start(&mut engine, self.waker.clone())?);
        self.engine = Some(engine);
        Ok(())
    }

    /// Takes the data plane's news; whether a connection stands since.
    fn take_news(&mut self) -> Result<bool, Fault> {
        let mut established = false;
        while let Some(event) = self.events.as_ref().and_then(Pump::poll) {
            match event {
                EngineEvent::Bond(event) => established |= self.on_event(event)?,
                EngineEvent::LinkFailed { id, name, error } => {
                    self.on_failed(id.0, &format!("link `{name}` cannot be used: {error}"));
                }
            }
        }
        if self.engine.as_ref().is_some_and(EngineHandle::is_finished)
            && let Some(engine) = self.engine.take()
        {
            return Err(engine
                .stop()
                .err()
                .map_or_else(faults::engine_ended, |error| faults::engine(&error)));
        }
        Ok(established)
    }

    fn on_event(&mut self, event: ClientEvent) -> Result<bool, Fault> {
        match event {
            ClientEvent::Established(parameters) => {
                tracing::info!(
                    "connected as `{}`, mtu {}, cipher {}",
                    parameters.name,
                    parameters.mtu,
                    parameters.cipher
                );
                if let Some(network) = &mut self.network {
                    network.apply(&parameters)?;
                }
                self.progress.on_connected();
                self.versions = None;
                self.view.on_connected(parameters);
                return Ok(true);
            }
            ClientEvent::Lost { why } => {
                tracing::warn!("the connection is lost ({why}); trying to connect again");
                self.progress.on_lost(Instant::now());
            }
            ClientEvent::Refused { reason, text } => return Err(explain::refused(reason, &text)),
            ClientEvent::Replaced => return Err(explain::replaced()),
            ClientEvent::VersionMismatch(versions) => self.versions = Some(versions),
            ClientEvent::PathState(change) => {
                let link = self.watcher.links().find(|link| link.index == change.link.0);
                let link = link.map_or("(gone)", |link| link.name.as_str());
                tracing::info!("link `{link}`: {:?} -> {:?}", change.from, change.to);
            }
            ClientEvent::Stream(change) => tracing::debug!("{}", crate::streams::explain(&change)),
            // The data plane keeps this one to itself.
            ClientEvent::TimestampUsed(_) => {}
        }
        Ok(false)
    }

    fn publish(&mut self) {
        let status = self.engine.as_ref().map(EngineHandle::status);
        let links: Vec<&Link> = self.watcher.links().filter(|link| self.choice.includes(link)).collect();
        let reason = self.progress.silence(Instant::now()).map(|silence| {
            let fault = self.silence_fault(silence);
            format!("{}\n{}", fault.what, fault.why)
        });
        let bond = status.as_ref().map(|status| &status.bond);
        self.meeting.publish_streams(self.view.streams(self.config.mode, bond, &links));
        let status = self.view.status(self.config.mode, bond, &links, &self.used, reason);
        self.meeting.publish(status);
    }

    fn mind_silence(&mut self) -> Result<(), Fault> {
        match self.progress.look(Instant::now()) {
            Patience::Keep => Ok(()),
            Patience::Say(silence) => {
                tracing::warn!("{}", self.silence_fault(silence));
                Ok(())
            }
            Patience::GiveUp(silence) => Err(self.silence_fault(silence)),
        }
    }

    /// What was tried so far, and how each link did.
    fn silence_fault(&self, silence: Duration) -> Fault {
        let server: Vec<String> = self.identity.endpoints.iter().map(ToString::to_string).collect();
        let Some(engine) = &self.engine else {
            let why = self.resolver.why().unwrap_or("the server's name is being looked up");
            return Fault::unreachable(
                format!("no connection to the server ({}) for {} s", server.join(", "), silence.as_secs()),
                why,
                "see that this machine can look up names (DNS) without the bond, or write an address as the endpoint in client.toml",
            );
        };
        let status = engine.status();
        let attempts = &status.bond.attempts;
        let tried: Vec<Tried> = self
            .watcher
            .links()
            .filter(|link| self.choice.includes(link))
            .map(|link| {
                let attempt = attempts.iter().find(|attempt| attempt.link.0 == link.index);
                Tried {
                    link: link.name.clone(),
                    sent: attempt.map_or(0, |attempt| attempt.sent),
                    answered: attempt.is_some_and(|attempt| attempt.answered),
                    obstacle: self.choice.obstacle(link),
                }
            })
            .collect();
        explain::no_answer(&server, &tried, self.versions.as_deref(), silence.as_secs())
    }
}

fn setup_of(link: &Link) -> LinkSetup {
    LinkSetup {
        id: LinkId(link.index),
        name: link.name.clone(),
        mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
        v4: link.v4(),
        v6: link.v6(),
        segmentation: Segmentation::Off,
    }
}
