//! A balancer while it runs.
//!
//! One thread waits for links that change, answers to probes, signals, commands and the time, and does what is due: counters of
//! interfaces every 100 ms (a dead link is found by them), sockets every 500 ms, whatever the policy has to say at every turn.

mod acts;
mod links;
mod look;
mod names;
mod plan_due;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bondwire_api::Fault;
use bondwire_capture::SharedChanges;
use bondwire_netctl::{Changes, Link, Route, Watcher};

use super::BalanceOptions;
use super::captured::{Captured, Wanted};
use super::desk::Desk;
use super::names::Names;
use super::policy::Policy;
use super::prober::Prober;
use super::proxied::Proxied;
use super::resolvers::Resolvers;
use super::tracked::Tracked;
use super::traffic::Traffic;
use super::view::View;
use crate::config::BalanceConfig;
use crate::control::{EVERY, Meeting};
use crate::faults;
use crate::links::LinkChoice;
use crate::tunnel;
use crate::wake::{self, StopSignal, Waker};

use plan_due::PlanDue;

/// How often interfaces' counters are read.
const COUNTERS: Duration = Duration::from_millis(100);
/// How often sockets are looked at.
const SOCKETS: Duration = Duration::from_millis(500);
/// How often links and routes are looked at although nothing was heard of them.
const TIDY: Duration = Duration::from_secs(30);
/// What did not work for a link, or with a plan, is tried again after so long.
const RETRY: Duration = Duration::from_secs(1);
/// Changes of the network come in swarms; routes are looked at when one has settled.
const SETTLED: Duration = Duration::from_millis(200);
/// How often it is looked whether the system's resolvers are others.
const RESOLVERS: Duration = Duration::from_secs(1);
/// How often connection tracking is asked which UDP flows still send.
const FLOWS: Duration = Duration::from_secs(5);

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

    /// It is time so soon, if it would be later.
    fn hasten(&mut self, within: Duration) {
        self.next = self.next.min(Instant::now() + within);
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
    resolvers: Resolvers,
    /// The routes of this machine, as far as they decide which resolvers a link leads to.
    routes: Vec<Route>,
    choice: LinkChoice,
    watcher: Watcher,
    /// None for an ordinary user, who may not change the network.
    changes: Option<SharedChanges>,
    meeting: Arc<Meeting>,
    waker: Waker,
    prober: Prober,
    traffic: Traffic,
    tracked: Tracked,
    view: View,
    /// The links that sockets go over, by index.
    used: BTreeMap<u32, Link>,
    /// Whether the kernel's plan is the policy's.
    due: PlanDue,
    /// Whether the routes of one could not all be made.
    unrouted: bool,
    retry: Beat,
    counters: Beat,
    sockets: Beat,
    flows: Beat,
    resolvers_due: Beat,
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
            resolvers: Resolvers::new(&config),
            routes: Vec::new(),
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
            tracked: Tracked::default(),
            used: BTreeMap::new(),
            due: PlanDue::default(),
            unrouted: false,
            retry: Beat::new(RETRY),
            counters: Beat::new(COUNTERS),
            sockets: Beat::new(SOCKETS),
            flows: Beat::new(FLOWS),
            resolvers_due: Beat::new(RESOLVERS),
            tidy: Beat::new(TIDY),
            publish: Beat::new(EVERY),
        })
    }

    /// Runs until a signal or a command ends it, or an error does.
    pub(super) fn run(&mut self, signal: &StopSignal, ready: impl FnOnce()) -> Result<(), Fault> {
        self.look_at_routes();
        self.look_at_resolvers();
        let links: Vec<Link> = self.watcher.links().cloned().collect();
        for link in links {
            self.on_link(&link)?;
        }
        self.start_ways()?;
        self.tell_resolvers();
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
            let proxied = Proxied::start(listen, &self.config, keep, &self.desk, &self.waker)?;
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
            self.names = Names::start(&self.desk)?;
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
        let next = self.counters.next.min(self.sockets.next).min(self.publish.next).min(self.tidy.next);
        let beat = next.saturating_duration_since(Instant::now());
        let due =
            self.policy.with(|balancer, now| balancer.poll_timeout().map(|deadline| deadline.at.since(now)));
        // At least a millisecond: a deadline that is due already was handled a moment ago.
        due.map_or(beat, |due| due.min(beat)).max(Duration::from_millis(1))
    }

    fn publish(&mut self) {
        let snapshot = self.policy.with(|balancer, now| balancer.snapshot(now));
        let links: Vec<&Link> = self.watcher.links().filter(|link| self.choice.includes(link)).collect();
        self.meeting.publish(self.view.status(&snapshot, &links, Some(&self.choice)));
    }
}
