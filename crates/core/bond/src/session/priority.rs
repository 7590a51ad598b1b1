//! Which paths may be used at all: the user's priorities.
//!
//! Paths stand in tiers. The *first* tier are the paths of the best priority of which one is alive; `always` paths as a rule, but the
//! `secondary` ones of a bond that has no other, or the `backup` ones when all else is down. `secondary` paths are the *overflow* while the
//! first tier is full, and stand by otherwise; `backup` paths stand by as long as another path is alive. What stands by is kept validated and
//! is probed rarely, so that a metered link costs little, and carries neither data nor copies nor acknowledgements of other paths.
//!
//! Which tier is the first follows the paths' states at once, so a failover takes no longer than the suspicion. Whether the first
//! tier is full is judged at every upkeep, with hysteresis ([`Spill`]): full is a queue that lasts, no longer full is a rate that
//! the first tier carries with room to spare. Both ends judge for their own direction; the client tells the server the user's wishes by
//! LINK_POLICY (docs/protocol.md, PATH-8).

use super::content::Control;
use super::lane::Lane;
use super::{Role, Session};
use crate::types::LinkRules;
use bondwire_units::{Bitrate, ByteCount, LinkId, Timestamp};
use bondwire_wire::{LinkPolicy, LinkPriority};
use core::time::Duration;

/// A queue that takes the first tier longer than this to send is one that it does not keep up with. Below what the ingress queue's management
/// leaves standing (15 ms and more), above a burst of a few packets.
const FULL: Duration = Duration::from_millis(10);
/// So many upkeeps (50 ms) with a full queue, less those without, open the overflow; one with twice as long a queue counts for two. Sustained
/// demand does so within 100 to 200 ms, before the inner sender has given up growing; a burst now and then does not.
const OPEN_AFTER: u32 = 4;
/// The same while the first tier's rate is still being found: what waits then says nothing yet.
const OPEN_IN_STARTUP: u32 = 20;
/// The overflow ends when all paths together have sent less than this share of what the first tier carries...
const FITS: f64 = 0.8;
/// ...or when it has had no more than this share of what was sent: it is filled last, and the estimate of a path that is never full sinks to
/// what it is given, so that the first test alone might never be passed...
const NEGLIGIBLE: f64 = 0.05;
/// ...for so many upkeeps, those with a full queue deducted: a path that has just joined needs a moment until it carries its share. The
/// rates are those of the last second, so demand that ends leaves the overflow within two.
const CLOSE_AFTER: u32 = 16;
/// While the overflow is open, it is used only when what waits would take the first tier longer than this: what the first tier sends
/// within its next timer is not worth a metered byte.
const OVERFLOW: Duration = Duration::from_millis(3);

/// A path that has stood by for so long, and seems to carry less than this share of the fastest one, has its rate sought anew when it joins: it
/// may have been learnt from a trickle of acknowledgements, and a path that seems slow is not given the packets that would show otherwise.
const TRICKLE: f64 = 0.25;
const STALE: Duration = Duration::from_secs(2);

/// How a path is used at present, by its priority. The order is the order in which they are filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Tier {
    /// As it comes.
    First,
    /// For what the first tier has no room for.
    Overflow,
    /// Not at all.
    Standby,
}

/// Whether `secondary` paths take part beside `always` ones.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Spill {
    open: bool,
    full: u32,
    fits: u32,
}

impl Lane {
    /// Alive, and not kept out of use by its priority.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_active() && self.tier != Tier::Standby
    }

    /// Whether copies may be sent on it: paths of the first tier, but never a backup's.
    pub(crate) fn takes_copies(&self) -> bool {
        self.tier == Tier::First && self.rules.priority != LinkPriority::Backup
    }

    /// What the server is to be told; none if the user has never wished for anything.
    pub(super) fn policy(&self) -> Option<LinkPolicy> {
        (self.policy_sequence > 0).then_some(LinkPolicy {
            path: self.id,
            sequence: self.policy_sequence,
            priority: self.rules.priority,
            ceiling: self.rules.limit_down,
        })
    }
}

impl Session {
    /// What the user wants of a link, from now on (client only).
    pub(crate) fn set_link_rules(&mut self, link: LinkId, rules: LinkRules, now: Timestamp) {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            if lane.route.link != link || lane.rules == rules {
                continue;
            }
            lane.rules = rules;
            lane.path.set_rate_limit(rules.limit_up, now);
            self.policy_sequence += 1;
            lane.policy_sequence = self.policy_sequence;
            if lane.challenge.is_none() {
                self.tell_policy(index);
            }
        }
        self.assign_tiers(now);
    }

    /// Has the policy of a path sent, and sent again until it arrives. The path's challenges carry it as well, so that the server knows it from
    /// the first packet on; but it does not say whether it saw that.
    pub(super) fn tell_policy(&mut self, index: usize) {
        if self.role == Role::Client
            && let Some(policy) = self.lanes[index].policy()
        {
            self.control.push_back(Control::Policy(policy));
        }
    }

    /// Whether a policy that was lost need not be sent again: a newer one was, or the path is gone.
    pub(super) fn is_stale(&self, policy: &LinkPolicy) -> bool {
        !self.lanes.iter().any(|lane| lane.id == policy.path && lane.policy_sequence == policy.sequence)
    }

    /// The client tells what its user wants of a path (docs/protocol.md, PATH-8).
    pub(super) fn handle_link_policy(&mut self, policy: LinkPolicy, now: Timestamp) {
        if self.role == Role::Client {
            return;
        }
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.id == policy.path) else { return };
        if policy.sequence <= lane.policy_sequence {
            return;
        }
        lane.policy_sequence = policy.sequence;
        lane.rules = LinkRules { priority: policy.priority, limit_up: None, limit_down: policy.ceiling };
        lane.path.set_rate_limit(policy.ceiling, now);
        self.assign_tiers(now);
    }

    /// Gives each path its tier, by priorities and by which paths are alive. To be called whenever one of these changes.
    pub(super) fn assign_tiers(&mut self, now: Timestamp) {
        let best = |fit: &dyn Fn(&Lane) -> bool| {
            self.lanes.iter().filter(|lane| fit(lane)).map(|lane| lane.rules.priority).min()
        };
        let backup = LinkPriority::Backup;
        let first = best(&|lane| lane.is_active() && !lane.demotion.active && lane.rules.priority < backup)
            .or_else(|| best(&Lane::is_active))
            .or_else(|| best(&|_| true))
            .unwrap_or_default();
        let highest = self.lanes.iter().map(|lane| lane.path.delivery_rate()).max().unwrap_or_default();
        for lane in &mut self.lanes {
            lane.tier = match lane.rules.priority {
                priority if priority <= first => Tier::First,
                LinkPriority::Secondary if self.spill.open => Tier::Overflow,
                _ => Tier::Standby,
            };
            if lane.tier == Tier::Standby {
                lane.standby_since.get_or_insert(now);
            } else if let Some(since) = lane.standby_since.take()
                && now.since(since) > STALE
                && lane.path.delivery_rate() < highest * TRICKLE
            {
                lane.path.on_rejoined(now);
            }
        }
    }

    /// Judges whether the first tier is full. To be called at every upkeep.
    pub(super) fn watch_priorities(&mut self, now: Timestamp) {
        self.assign_tiers(now);
        let secondary = |lane: &&Lane| lane.is_active() && lane.rules.priority == LinkPriority::Secondary;
        let Some(lane) = self.lanes.iter().find(secondary) else {
            self.spill = Spill::default();
            return;
        };
        if lane.tier == Tier::First {
            // The others are gone. When they return they begin slowly: until the demand fits them this goes on beside them.
            self.spill = Spill { open: true, ..Spill::default() };
            return;
        }
        let capacity = self.first_tier_rate();
        let queued = self.ingress.bytes();
        // Nothing takes no time, even at a rate that is not known yet.
        let wait = if queued == 0 { Duration::ZERO } else { capacity.time_for(ByteCount::from(queued)) };
        if self.spill.open {
            let (mut all, mut over) = (Bitrate::ZERO, Bitrate::ZERO);
            for lane in &mut self.lanes {
                let rate = lane.tx.rate(now);
                all = all + rate;
                over = if lane.tier == Tier::First { over } else { over + rate };
            }
            let fits = over <= all * NEGLIGIBLE || all < capacity * FITS;
            self.spill.fits = match fits {
                true if wait > FULL => self.spill.fits.saturating_sub(1),
                true => self.spill.fits + 1,
                false => 0,
            };
            if self.spill.fits >= CLOSE_AFTER {
                self.spill = Spill::default();
            }
        } else {
            let weight = (wait.as_millis() / FULL.as_millis()).min(u128::from(OPEN_AFTER / 2)) as u32;
            self.spill.full =
                if weight > 0 { self.spill.full + weight } else { self.spill.full.saturating_sub(1) };
            let growing = self.first_tier().any(|lane| lane.path.phase() == "startup");
            if self.spill.full >= if growing { OPEN_IN_STARTUP } else { OPEN_AFTER } {
                self.spill = Spill { open: true, ..Spill::default() };
            }
        }
        self.assign_tiers(now);
    }

    /// Whether a bulk packet may use this path now: what waits is more than the first tier sends in a moment.
    pub(super) fn may_take(&self, candidate: &Lane) -> bool {
        candidate.tier == Tier::First
            || self.first_tier_rate().time_for(ByteCount::from(self.ingress.bytes())) > OVERFLOW
    }

    /// Paths that are in use, or would be if the first tier were full: the queue in front of the bond has to be long enough for them too, or what
    /// they are needed for ends before they join.
    pub(super) fn in_reach(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| {
            lane.is_useful() || lane.is_active() && lane.rules.priority == LinkPriority::Secondary
        })
    }

    fn first_tier(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|lane| lane.tier == Tier::First && lane.is_useful())
    }

    fn first_tier_rate(&self) -> Bitrate {
        self.first_tier().map(|lane| lane.path.delivery_rate()).sum()
    }
}

#[cfg(test)]
mod tests;
