//! What the policy says, done.

use std::time::Instant;

use bondwire_balance::{Event, Probe};
use bondwire_engine::Clock;
use bondwire_netctl::{Family, Link};
use bondwire_sockets::{Socket, State};
use bondwire_units::LinkId;

use super::super::prober::Outcome;
use super::Life;

impl Life {
    /// Does what the policy asks for.
    pub(super) fn act(&mut self) {
        self.policy.with(|balancer, now| balancer.handle_timeout(now));
        while let Some(event) = self.policy.with(|balancer, _| balancer.poll_event()) {
            self.on_event(event);
        }
        if self.due.is_due(Instant::now()) {
            self.apply_plan();
        }
        while let Some(probe) = self.policy.with(|balancer, now| balancer.poll_probe(now)) {
            self.on_probe(&probe);
        }
    }

    /// Tells the kernel what the policy wants now.
    fn apply_plan(&mut self) {
        let refuse = self.refused_families();
        let Some(captured) = &mut self.captured else {
            self.due.told(true, Instant::now());
            return;
        };
        let (plan, snapshot) = self.policy.with(|balancer, now| (balancer.plan(now), balancer.snapshot(now)));
        let patience = snapshot.links.iter().map(|link| (link.link, link.patience)).collect();
        let taken = captured.apply(&plan, &patience, refuse);
        let is_news = self.due.told(taken.is_ok(), Instant::now());
        match taken {
            Err(error) if is_news => {
                tracing::warn!("the kernel did not take all of the plan; it is told again: {error}")
            }
            Err(error) => tracing::debug!("the kernel did not take all of the plan: {error}"),
            Ok(()) => {}
        }
    }

    /// Families whose default route leads over a link that is never to be used: what no other link takes is refused.
    fn refused_families(&self) -> Vec<Family> {
        let leads_to_never = |family: &Family| {
            let gateway = |link: &Link| match family {
                Family::V4 => link.gateway4,
                Family::V6 => link.gateway6,
            };
            let leading = self.watcher.links().filter_map(|link| Some((gateway(link)?.metric, link)));
            let first = leading.min_by_key(|(metric, link)| (*metric, link.index));
            first.is_some_and(|(_, link)| self.choice.wanted(link).rules.is_none())
        };
        Family::BOTH.into_iter().filter(leads_to_never).collect()
    }

    /// Closes the TCP sockets of a link that does not work, so that their programs connect again. Those that still wait for their first
    /// answer stay: their next question goes over another link.
    pub(super) fn evict(&mut self, link: LinkId) {
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
            Event::PlanChanged => self.due.change(),
        }
    }

    fn on_probe(&mut self, probe: &Probe) {
        let Some(link) = self.used.get(&probe.link.0) else { return };
        if let Some(outcome) = self.prober.start(probe, link, Clock.now()) {
            self.on_outcome(outcome);
        }
    }

    pub(super) fn on_outcome(&self, outcome: Outcome) {
        self.policy.with(|balancer, now| match outcome {
            Outcome::Answered(probe, rtt) => balancer.handle_probe_answer(probe, rtt, now),
            Outcome::Failed(probe, why) => balancer.handle_probe_failed(probe, why, now),
        });
    }
}
