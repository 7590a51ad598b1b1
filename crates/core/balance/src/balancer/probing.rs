//! Probes go out, answers come in, links are judged.

use core::time::Duration;

use bondwire_units::Timestamp;

use super::Balancer;
use crate::event::{Evidence, Probe, ProbeId};
use crate::link::Link;
use crate::probes::GIVEN_UP;
use crate::request::ConnectFailure;

impl Balancer {
    /// The next probe to be sent now. Silence needs not be told: the balancer has its own patience.
    pub fn poll_probe(&mut self, now: Timestamp) -> Option<Probe> {
        let (at, slot) = self.next_probe()?;
        if at > now {
            return None;
        }
        self.now = self.now.max(now);
        let link = &mut self.links[slot];
        link.health.on_probe_sent(now);
        let chosen = self.probes.choose(link, now)?;
        let patience = link.delay.probe_patience(chosen.index);
        let id = self.probes.add(slot, chosen, patience, now);
        Some(Probe { id, link: self.id(slot), target: chosen.target, timeout: GIVEN_UP.max(patience) })
    }

    /// When and where the next probe is due.
    pub(super) fn next_probe(&self) -> Option<(Timestamp, usize)> {
        let due = |(slot, link): (usize, &Link)| {
            let activity = self.probes.activity(link, self.now);
            let is_asked = link.may_be_used() && self.probes.all(link) != 0;
            is_asked.then(|| (link.health.probe_at(activity), slot))
        };
        self.links.iter().enumerate().filter_map(due).min()
    }

    /// A probe was answered after `rtt`; a refusal is an answer. One that comes late is told too.
    pub fn handle_probe_answer(&mut self, probe: ProbeId, rtt: Duration, now: Timestamp) {
        self.now = self.now.max(now);
        let Some(pending) = self.probes.take_answered(probe) else { return };
        self.probes.vouch(pending.target, now);
        let link = &mut self.links[pending.slot];
        let busy = link.is_busy(now);
        link.delay.on_probe(pending.target, rtt, busy, now);
        link.on_target_answered(pending.target);
        let change = link.health.on_answer(Evidence::ProbeAnswered, pending.sent, now);
        self.on_change(pending.slot, change, now);
    }

    /// A probe could not be sent, or an error came back.
    pub fn handle_probe_failed(&mut self, probe: ProbeId, why: ConnectFailure, now: Timestamp) {
        if why == ConnectFailure::Refused {
            let sent = self.probes.sent(probe).unwrap_or(now);
            return self.handle_probe_answer(probe, now.since(sent), now);
        }
        self.now = self.now.max(now);
        let Some(pending) = self.probes.take(probe) else { return };
        match why {
            ConnectFailure::NoAddress => {
                return self.links[pending.slot].on_target_excluded(pending.target);
            }
            // It was never asked.
            ConnectFailure::NotSent => return,
            _ => {}
        }
        // The interface itself refuses: that says something whatever the target.
        let counts = pending.counts || why == ConnectFailure::Local;
        self.on_probe_silent(pending.slot, pending.target, counts, pending.sent, now);
    }

    fn on_probe_silent(&mut self, slot: usize, target: usize, counts: bool, sent: Timestamp, now: Timestamp) {
        let link = &mut self.links[slot];
        link.on_target_missed(target);
        if counts {
            let change = link.health.on_silence(sent, now);
            self.on_change(slot, change, now);
        }
    }

    pub(super) fn expire_probes(&mut self, now: Timestamp) {
        while let Some(pending) = self.probes.take_expired(now) {
            self.on_probe_silent(pending.slot, pending.target, pending.counts, pending.sent, now);
        }
    }

    pub(super) fn health_timeout(&self) -> Option<Timestamp> {
        let timeout = |link: &Link| link.health.timeout(self.probes.can_test(link, self.now));
        self.links.iter().filter(|link| link.may_be_used()).filter_map(timeout).min()
    }

    pub(super) fn expire_health(&mut self, now: Timestamp) {
        for slot in 0..self.links.len() {
            if self.links[slot].may_be_used() {
                let testable = self.probes.can_test(&self.links[slot], now);
                let change = self.links[slot].health.on_timeout(testable, now);
                self.on_change(slot, change, now);
            }
        }
    }
}
