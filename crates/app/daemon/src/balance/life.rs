//! A balancer while it runs.
//!
//! One thread waits for links that change, answers to probes, signals, commands and the time, and does what is due: counters of
//! interfaces every 100 ms (a dead link is found by them), sockets every 500 ms, whatever the policy has to say at every turn.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bondwire_api::Fault;
use bondwire_balance::{Event, Probe};
use bondwire_capture::SharedChanges;
use bondwire_engine::Clock;
use bondwire_netctl::{Changes, Link, LinkEvent, Watcher};
use bondwire_sockets::{Socket, State};
use bondwire_units::LinkId;

use super::BalanceOptions;
use super::captured::{Captured, Wanted};
use super::counters;
use super::desk::Desk;
use super::links::{config_of, lost_addresses};
use super::names::Names;
use super::policy::Policy;
use super::prober::{Outcome, Prober};
use super::proxied::{Proxied, route_of};
use super::resolvers;
use super::shown::Sources;
use super::traffic::{Placed, Signs, Traffic};
use super::view::View;
use crate::config::BalanceConfig;
use crate::control::{EVERY, Meeting};
use crate::faults;
use crate::links::LinkChoice;
use crate::tunnel;
use crate::wake::{self, StopSignal, Waker};

/// How often interfaces' counters are read.
const COUNTERS: Duration = Duration::from_millis(100);
/// How often sockets are looked at.
const SOCKETS: Duration = Duration::from_millis(500);
/// How often links and routes are looked at although nothing was heard of them.
const TIDY: Duration = Duration::from_secs(30);
/// What did not work for a link is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);

/// Something that is done again and again.
#[derive(Clone, Copy, Debug)]
struct Beat {
    every: Duration,
    next: Instant,
}

impl Beat {
    fn new(every: Duration) -> Self {
        Self { every, next: Instant::now() }
    }

    /// Whether it is time; if so, the next one is due a whole step from now.
    fn is_due(&mut self, now: Instant) -> bool {
        let due = now >= self.next;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

/// A balancer while it runs.
#[derive(Debug)]
pub(super) struct Life {
    config: BalanceConfig,
    options: BalanceOptions,
    policy: Policy,
    desk: Arc<Desk>,
    proxied: Option<Proxied>,
    captured: Option<Captured>,
    names: Names,
    resolvers: Vec<SocketAddr>,
    choice: LinkChoice,
    watcher: Watcher,
    /// None for an ordinary user, who may not change the network.
    changes: Option<SharedChanges>,
    meeting: Arc<Meeting>,
    waker: Waker,
    prober: Prober,
    traffic: Traffic,
    view: View,
    /// The links that sockets go over, by index.
    used: BTreeMap<u32, Link>,
    /// The kernel's plan is not the policy's any more.
    plan_changed: bool,
    /// Whether the routes of one could not all be made.
    unrouted: bool,
    retry: Beat,
    counters: Beat,
    sockets: Beat,
    tidy: Beat,
    publish: Beat,
}

impl Life {
    /// Everything is prepared, and nothing runs yet.
    #[expect(clippy::too_many_arguments, reason = "it is made in one place, from as many parts")]
    pub(super) fn new(
        config: BalanceConfig,
        options: BalanceOptions,
        policy: Policy,
        choice: LinkChoice,
        watcher: Watcher,
        changes: Option<Changes>,
        meeting: Arc<Meeting>,
        waker: Waker,
    ) -> Result<Self, Fault> {
        let prober = Prober::new()
            .map_err(|error| Fault::from_io("cannot probe links", &error, "look at the system's limits"))?;
        let traffic =
            Traffic::open().map_err(|error| faults::diag("cannot look at this machine's sockets", &error))?;
        Ok(Self {
            view: View::new(options.proxy),
            desk: Arc::new(Desk::new(policy.clone())),
            proxied: None,
            captured: None,
            names: Names::default(),
            resolvers: resolvers_of(&config),
            config,
            options,
            policy,
            choice,
            watcher,
            changes: changes.map(|changes| Arc::new(Mutex::new(changes))),
            meeting,
            waker,
            prober,
            traffic,
            used: BTreeMap::new(),
            plan_changed: true,
            unrouted: false,
            retry: Beat::new(RETRY),
            counters: Beat::new(COUNTERS),
            sockets: Beat::new(SOCKETS),
            tidy: Beat::new(TIDY),
            publish: Beat::new(EVERY),
        })
    }

    /// Runs until a signal or a command ends it, or an error does.
    pub(super) fn run(&mut self, signal: &StopSignal, ready: impl FnOnce()) -> Result<(), Fault> {
        let links: Vec<Link> = self.watcher.links().cloned().collect();
        for link in links {
            self.on_link(&link)?;
        }
        self.start_ways()?;
        self.act();
        self.look_around();
        self.publish();
        ready();
        loop {
            if signal.came() || self.meeting.stop_asked() {
                return Ok(());
            }
            self.waker.rest();
            self.look_at_links()?;
            if self.meeting.take_links_changed() {
                self.apply_settings()?;
            }
            self.look_around();
            self.act();
            self.proxied.as_mut().map_or(Ok(()), Proxied::check)?;
            if self.publish.is_due(Instant::now()) {
                self.publish();
            }
            let mut fds: Vec<BorrowedFd<'_>> =
                vec![signal.as_fd(), self.waker.as_fd(), self.watcher.as_fd(), self.prober.as_fd()];
            fds.extend(self.captured.as_ref().and_then(Captured::events_fd));
            wake::wait(&fds, self.patience())?;
        }
    }

    /// Opens the ways by which sockets come.
    fn start_ways(&mut self) -> Result<(), Fault> {
        if let Some(listen) = self.options.proxy {
            let keep = self.options.keep_sockets;
            let proxied =
                Proxied::start(listen, &self.config, &self.resolvers, keep, &self.desk, &self.waker)?;
            tracing::info!("SOCKS5 and HTTP proxy on {}", proxied.address());
            self.view.set_proxy(proxied.address());
            self.proxied = Some(proxied);
        }
        if self.options.needs_network() {
            self.capture()?;
        }
        Ok(())
    }

    /// Leads this machine's sockets, and a LAN's flows, to links.
    fn capture(&mut self) -> Result<(), Fault> {
        let Some(changes) = &self.changes else {
            return Err(Fault::permission(
                "cannot lead this machine's sockets to links",
                "the network may not be changed without the state folder's journal",
                "run it as root (sudo), or use the proxy alone: bondwire balance --proxy 127.0.0.1:1080",
            ));
        };
        if self.options.transparent && self.config.dns {
            self.names = Names::start(&self.resolvers, &self.desk)?;
        }
        let wanted = Wanted {
            local: self.options.transparent,
            lan: self.options.lan.iter().map(ToString::to_string).collect(),
            dns: self.names.redirect(),
            links: self.used.values().collect(),
        };
        self.captured = Some(Captured::start(wanted, Arc::clone(changes))?);
        Ok(())
    }

    /// Undoes everything.
    pub(super) fn end(mut self) -> Result<(), Fault> {
        self.proxied = None;
        let detached = self.captured.take().map_or(Ok(()), Captured::end);
        self.names = Names::default();
        let changes = self.changes.take().and_then(Arc::into_inner).map(Mutex::into_inner);
        // A panic of another thread's leaves the changes whole: each is noted before it is made.
        let changes = changes.map(|changes| changes.unwrap_or_else(PoisonError::into_inner));
        detached.and(changes.map_or(Ok(()), tunnel::undo))
    }

    /// Until something is due.
    fn patience(&self) -> Duration {
        let next = self.counters.next.min(self.sockets.next).min(self.publish.next);
        let beat = next.saturating_duration_since(Instant::now());
        let due =
            self.policy.with(|balancer, now| balancer.poll_timeout().map(|deadline| deadline.at.since(now)));
        // At least a millisecond: a deadline that is due already was handled a moment ago.
        due.map_or(beat, |due| due.min(beat)).max(Duration::from_millis(1))
    }

    /// Takes what links, sockets and probes say.
    fn look_around(&mut self) {
        let now = Instant::now();
        if let Some(captured) = &mut self.captured {
            captured.listen(&self.policy);
        }
        if self.counters.is_due(now) {
            self.count();
        }
        if self.sockets.is_due(now) || self.meeting.sockets_wanted() {
            self.look_at_sockets();
        }
        if self.tidy.is_due(now)
            && let Some(captured) = &mut self.captured
            && let Err(error) = captured.refresh()
        {
            tracing::debug!("links and routes were not looked at: {error}");
        }
        for outcome in self.prober.poll(Clock.now()) {
            self.on_outcome(outcome);
        }
    }

    fn count(&mut self) {
        let counters = counters::read();
        for link in self.used.values() {
            let Some(carried) = counters.get(&link.name) else { continue };
            self.view.note(&link.name, *carried);
            let (id, carried) = (LinkId(link.index), *carried);
            self.policy.with(|balancer, now| balancer.handle_link_counters(id, carried.rx, carried.tx, now));
        }
    }

    fn look_at_sockets(&mut self) {
        let signs = self.signs();
        let look = match self.traffic.look(&signs) {
            Ok(look) => look,
            Err(error) => {
                tracing::debug!("sockets cannot be listed: {error}");
                return;
            }
        };
        self.policy.with(|balancer, now| {
            for (link, sample) in &look.samples {
                balancer.handle_tcp_sample(*link, *sample, now);
            }
        });
        if let Some(captured) = &mut self.captured {
            captured.note(&look.sockets, &self.policy);
        }
        if self.meeting.sockets_wanted() {
            self.show_sockets(&look.sockets, look.left_out);
        }
    }

    /// How sockets are told to be a link's.
    fn signs(&self) -> Signs {
        let translated = self.options.transparent && self.captured.as_ref().is_some_and(Captured::translates);
        let mut signs = Signs::new(!translated);
        self.used.values().for_each(|link| signs.add(link));
        signs.marks.extend(self.captured.iter().flat_map(Captured::marks));
        signs
    }

    fn show_sockets(&mut self, placed: &[Placed], left_out: usize) {
        let proxy = self.proxied.as_ref().map(Proxied::address);
        let watch = self.traffic.watch();
        let clients = proxy.map(|proxy| watch.clients_of(proxy)).transpose().unwrap_or_else(|error| {
            tracing::debug!("the proxy's clients cannot be listed: {error}");
            None
        });
        let clients = clients.unwrap_or_default();
        watch.find_owners(placed.iter().map(|placed| &placed.seen), clients.values().copied());
        let names = self.used.values().map(|link| (link.index, link.name.clone())).collect();
        let none = BTreeMap::new();
        let sources = Sources {
            placed,
            left_out,
            watch: self.traffic.watch(),
            policy: &self.policy,
            desk: &self.desk,
            led: self.captured.as_ref().map_or(&none, Captured::led),
            names: &names,
            clients: &clients,
        };
        self.meeting.publish_sockets(sources.sockets());
    }

    /// Does what the policy asks for.
    fn act(&mut self) {
        self.policy.with(|balancer, now| balancer.handle_timeout(now));
        while let Some(event) = self.policy.with(|balancer, _| balancer.poll_event()) {
            self.on_event(event);
        }
        if std::mem::take(&mut self.plan_changed) {
            self.apply_plan();
        }
        while let Some(probe) = self.policy.with(|balancer, now| balancer.poll_probe(now)) {
            self.on_probe(&probe);
        }
    }

    /// Tells the kernel what the policy wants now.
    fn apply_plan(&mut self) {
        let Some(captured) = &mut self.captured else { return };
        let (plan, snapshot) = self.policy.with(|balancer, now| (balancer.plan(now), balancer.snapshot(now)));
        let patience = snapshot.links.iter().map(|link| (link.link, link.patience)).collect();
        if let Err(error) = captured.apply(&plan, &patience) {
            tracing::warn!("the kernel did not take the plan: {error}");
        }
    }

    /// Closes the TCP sockets of a link that does not work, so that their programs connect again. Those that still wait for their first
    /// answer stay: their next question goes over another link.
    fn evict(&mut self, link: LinkId) {
        if let Some(proxied) = &self.proxied {
            proxied.handle().evict(link);
        }
        let Some(mark) = self.captured.as_ref().and_then(|captured| captured.mark(link)) else { return };
        if self.options.keep_sockets {
            return;
        }
        let doomed = |socket: &Socket| socket.mark == Some(mark) && socket.state != State::SynSent;
        match self.traffic.watch().close(doomed) {
            Ok(count) => {
                tracing::info!("{count} TCP sockets were closed, for their programs to connect again")
            }
            Err(error) => tracing::warn!("sockets of a dead link were not closed: {error}"),
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::LinkState { link, from, to, why } => {
                let name = self.used.get(&link.0).map_or("(gone)", |link| link.name.as_str());
                tracing::info!("link `{name}`: {from:?} -> {to:?} ({why:?})");
            }
            Event::Evict { link } => {
                // First the mark is led elsewhere: a program that connects again at once is to meet the new plan.
                self.apply_plan();
                self.evict(link);
            }
            Event::SocketMoved { socket, to, .. } => {
                if let Some(proxied) = &self.proxied
                    && self.desk.has(socket)
                {
                    proxied.handle().move_flow(bondwire_proxy::SocketId(socket.get()), to);
                }
            }
            Event::PlanChanged => self.plan_changed = true,
        }
    }

    fn on_probe(&mut self, probe: &Probe) {
        let Some(link) = self.used.get(&probe.link.0) else { return };
        if let Some(outcome) = self.prober.start(probe, link, Clock.now()) {
            self.on_outcome(outcome);
        }
    }

    fn on_outcome(&self, outcome: Outcome) {
        self.policy.with(|balancer, now| match outcome {
            Outcome::Answered(probe, rtt) => balancer.handle_probe_answer(probe, rtt, now),
            Outcome::Failed(probe, why) => balancer.handle_probe_failed(probe, why, now),
        });
    }

    fn look_at_links(&mut self) -> Result<(), Fault> {
        let events = self.watcher.poll().map_err(|error| faults::net("cannot watch the links", &error))?;
        for event in events {
            match event {
                LinkEvent::Added(link) => self.on_link(&link)?,
                LinkEvent::Changed { before, now } => {
                    self.on_addresses_lost(&before, &now);
                    self.on_link(&now)?;
                }
                LinkEvent::Removed(link) => self.on_link_gone(&link),
            }
        }
        if self.unrouted && self.retry.is_due(Instant::now()) {
            self.unrouted = false;
            let links: Vec<Link> = self.used.values().cloned().collect();
            links.iter().try_for_each(|link| self.on_link(link))?;
        }
        Ok(())
    }

    /// A link is there, or is different from before.
    fn on_link(&mut self, link: &Link) -> Result<(), Fault> {
        if !self.choice.uses(link) {
            self.on_link_gone(link);
            return Ok(());
        }
        self.route(link)?;
        if self.used.insert(link.index, link.clone()).is_none() {
            tracing::info!("link `{}` ({}) is used", link.name, link.kind);
        }
        self.tell_desk(link);
        if let Some(captured) = &mut self.captured
            && let Err(error) = captured.set_link(link)
        {
            tracing::debug!("link `{}` cannot be led to yet: {error}", link.name);
            self.unrouted = true;
        }
        self.plan_changed = true;
        let config = config_of(link, &self.choice.wanted(link));
        if !self.policy.with(|balancer, now| balancer.set_link(config, now)) {
            tracing::warn!("link `{}` is one too many: at most {}", link.name, bondwire_balance::MAX_LINKS);
        }
        Ok(())
    }

    /// How the proxy ties sockets to a link. Its answers from resolvers are forgotten, as it may be another network now.
    fn tell_desk(&self, link: &Link) {
        let others: Vec<Link> = self.used.values().cloned().collect();
        let resolvers = resolvers::of_link(link, &others, &self.resolvers);
        let id = LinkId(link.index);
        if self.desk.set_route(id, Some(route_of(link, resolvers))) {
            self.names.forget_answers(id);
            if let Some(proxied) = &self.proxied {
                proxied.handle().forget_answers(id);
            }
        }
    }

    /// Gives a link a routing table, so that sockets bound to it leave over it whatever the main table says.
    fn route(&mut self, link: &Link) -> Result<(), Fault> {
        let Some(changes) = &mut self.changes else { return Ok(()) };
        let routed = lock(changes).route_link(&link.name);
        let Err(error) = routed else { return Ok(()) };
        let fault = faults::net(format!("cannot use link `{}`", link.name), &error);
        if fault.kind != bondwire_api::FaultKind::Permission {
            // Addresses and routes come one by one, and links may vanish again: it is tried again soon.
            tracing::debug!("{fault}");
            self.unrouted = true;
        } else if self.options.needs_network() {
            return Err(fault);
        }
        Ok(())
    }

    /// A link is gone, or cannot be used any more.
    fn on_link_gone(&mut self, link: &Link) {
        let Some(used) = self.used.remove(&link.index) else { return };
        let why = self.choice.obstacle(link).unwrap_or_else(|| format!("link `{}` is gone", used.name));
        tracing::warn!("{why}");
        let id = LinkId(link.index);
        self.desk.set_route(id, None);
        self.policy.with(|balancer, now| balancer.remove_link(id, now));
        self.plan_changed = true;
        if let Some(captured) = &mut self.captured {
            // Its table stays, for its mark is led to another's while it is gone.
            let plan = self.policy.with(|balancer, now| balancer.plan(now));
            let to = plan.bulk.iter().max_by_key(|(_, weight)| *weight).map(|(link, _)| *link);
            if let Err(error) = captured.leave_link(id, to) {
                tracing::debug!("link `{}` is not left yet: {error}", used.name);
            }
            return;
        }
        if let Some(changes) = &mut self.changes
            && let Err(error) = lock(changes).unroute_link(&used.name)
        {
            tracing::debug!("the routes of link `{}` were not all removed: {error}", used.name);
        }
    }

    /// A link has other addresses: sockets that use the old ones hang until they time out, so they are closed.
    fn on_addresses_lost(&mut self, before: &Link, now: &Link) {
        let lost = lost_addresses(before, now);
        if lost.is_empty() || !self.used.contains_key(&now.index) || self.options.keep_sockets {
            return;
        }
        tracing::info!("link `{}` has lost an address; its sockets are closed", now.name);
        match self.traffic.watch().close(|socket| lost.contains(&socket.local.ip())) {
            Ok(count) => tracing::debug!("{count} sockets were closed"),
            Err(error) => tracing::debug!("sockets were not closed: {error}"),
        }
    }

    /// What is wanted of the links has changed.
    fn apply_settings(&mut self) -> Result<(), Fault> {
        let links: Vec<Link> =
            self.watcher.links().filter(|link| self.choice.includes(link)).cloned().collect();
        links.iter().try_for_each(|link| self.on_link(link))
    }

    fn publish(&mut self) {
        let snapshot = self.policy.with(|balancer, now| balancer.snapshot(now));
        let links: Vec<&Link> = self.watcher.links().filter(|link| self.choice.includes(link)).collect();
        self.meeting.publish(self.view.status(&snapshot, &links, Some(&self.choice)));
    }
}

/// A panic while it was held leaves the changes whole: each is noted before it is made.
fn lock(changes: &SharedChanges) -> MutexGuard<'_, Changes> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The resolvers that were named, or the system's.
fn resolvers_of(config: &BalanceConfig) -> Vec<SocketAddr> {
    let named: Vec<SocketAddr> = config.resolvers.iter().map(|resolver| resolver.address()).collect();
    if named.is_empty() { resolvers::of_system() } else { named }
}
