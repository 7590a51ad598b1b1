//! Probes under way, and which targets count.
//!
//! A target counts over a link once it has answered over this one, or over any within ten minutes: what never
//! answered proves nothing by being silent. It stops counting where others answered twice while it did not: one
//! dead target is not a dead link. Targets that do not count are still asked now and then.
//!
//! Bound: 256 probes under way, 64 late ones.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bondwire_units::Timestamp;

use crate::config::{MAX_TARGETS, ProbeConfig, Target};
use crate::event::ProbeId;
use crate::health::Activity;
use crate::link::Link;

/// The most probes under way.
const MAX_PENDING: usize = 256;
/// The most silent probes that may yet be answered.
const MAX_LATE: usize = 64;
/// After how long nobody needs to listen for an answer.
pub(crate) const GIVEN_UP: Duration = Duration::from_secs(2);
/// How long an answer over another link vouches for a target.
const VOUCHED: Duration = Duration::from_secs(600);
/// Every so many probes go to a target that does not count.
const EXPLORE: u8 = 4;

/// One probe under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pending {
    pub(crate) slot: usize,
    pub(crate) target: usize,
    pub(crate) sent: Timestamp,
    /// Whether the target counted when it was asked.
    pub(crate) counts: bool,
    expires: Timestamp,
}

/// Whom to ask next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chosen {
    pub(crate) index: usize,
    counts: bool,
    pub(crate) target: Target,
}

/// The probes of all links.
#[derive(Debug)]
pub(crate) struct Probes {
    targets: Vec<Target>,
    idle_interval: Duration,
    answered: [Option<Timestamp>; MAX_TARGETS],
    pending: BTreeMap<u64, Pending>,
    deadlines: BTreeSet<(Timestamp, u64)>,
    /// Those that counted as silent, and may yet be answered.
    late: VecDeque<(u64, Pending)>,
    next: u64,
}

impl Probes {
    pub(crate) fn new(mut config: ProbeConfig, seed: u64) -> Self {
        config.targets.truncate(MAX_TARGETS);
        Self {
            targets: config.targets,
            idle_interval: config.idle_interval.max(Duration::from_millis(100)),
            answered: [None; MAX_TARGETS],
            pending: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            late: VecDeque::new(),
            next: seed >> 16,
        }
    }

    /// The targets that may be asked over `link`: those of all links, then its own.
    fn targets<'a>(&'a self, link: &'a Link) -> impl Iterator<Item = Target> + 'a {
        self.targets.iter().chain(&link.config.targets).copied().take(MAX_TARGETS)
    }

    /// The targets that count over `link`, as bits.
    pub(crate) fn counting(&self, link: &Link, now: Timestamp) -> u8 {
        let vouched = |answered: &Option<Timestamp>| answered.is_some_and(|at| now.since(at) < VOUCHED);
        let vouched =
            self.answered.iter().rev().fold(0, |bits, answered| bits << 1 | u8::from(vouched(answered)));
        // What one link's network lets through another's may not: traffic that passes says more.
        let vouched = if link.carries { 0 } else { vouched };
        (vouched | link.proven) & !link.discredited
    }

    /// Whether probes can find out if `link` lives.
    pub(crate) fn can_test(&self, link: &Link, now: Timestamp) -> bool {
        self.counting(link, now) != 0
    }

    /// The next target for `link`, which has some.
    pub(crate) fn choose(&self, link: &mut Link, now: Timestamp) -> Option<Chosen> {
        let all = self.all(link);
        let counting = self.counting(link, now) & all;
        link.rotation = link.rotation.wrapping_add(1);
        let explore = link.rotation.is_multiple_of(EXPLORE) && counting != all && link.is_stable();
        let unasked = all & !link.asked;
        let among = match (unasked, counting) {
            (1.., _) => unasked,
            (0, 0) => all,
            (0, _) if explore => all & !counting,
            (0, _) => counting,
        };
        let nth = u32::from(link.rotation) % among.count_ones().max(1);
        let mut rest = among;
        for _ in 0..nth {
            rest &= rest.wrapping_sub(1);
        }
        let index = rest.trailing_zeros() as usize;
        let target = self.targets(link).nth(index)?;
        link.asked |= 1 << index;
        Some(Chosen { index, counts: counting >> index & 1 == 1, target })
    }

    /// Every target of `link`, as bits.
    pub(crate) fn all(&self, link: &Link) -> u8 {
        self.targets(link).fold(0, |bits, _| bits << 1 | 1)
    }

    /// What the schedule of `link`'s probes depends on.
    pub(crate) fn activity(&self, link: &Link, now: Timestamp) -> Activity {
        let introducing = link.asked != self.all(link);
        Activity { busy: link.is_busy(now), idle_interval: self.idle_interval, introducing }
    }

    /// A probe is on its way. With too many under way the oldest is given up, without conclusions.
    pub(crate) fn add(
        &mut self,
        slot: usize,
        Chosen { index, counts, .. }: Chosen,
        patience: Duration,
        now: Timestamp,
    ) -> ProbeId {
        if self.pending.len() >= MAX_PENDING
            && let Some(&(_, oldest)) = self.deadlines.first()
        {
            self.take(ProbeId(oldest));
        }
        self.next = self.next.wrapping_add(1);
        let expires = now + patience;
        self.pending.insert(self.next, Pending { slot, target: index, sent: now, counts, expires });
        self.deadlines.insert((expires, self.next));
        ProbeId(self.next)
    }

    /// When the probe was sent.
    pub(crate) fn sent(&self, probe: ProbeId) -> Option<Timestamp> {
        self.pending.get(&probe.0).map(|pending| pending.sent)
    }

    /// The probe is over.
    pub(crate) fn take(&mut self, probe: ProbeId) -> Option<Pending> {
        let pending = self.pending.remove(&probe.0)?;
        self.deadlines.remove(&(pending.expires, probe.0));
        Some(pending)
    }

    /// `target` answered over some link.
    pub(crate) fn vouch(&mut self, target: usize, now: Timestamp) {
        if target < self.targets.len() {
            self.answered[target] = Some(now);
        }
    }

    /// A probe that was not answered in time.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> Option<Pending> {
        let &(_, id) = self.deadlines.first().filter(|(expires, _)| *expires <= now)?;
        let pending = self.take(ProbeId(id))?;
        if self.late.len() >= MAX_LATE {
            self.late.pop_front();
        }
        self.late.push_back((id, pending));
        Some(pending)
    }

    /// A probe that is answered, in time or late: a queue that has just grown by a second is to be seen.
    pub(crate) fn take_answered(&mut self, probe: ProbeId) -> Option<Pending> {
        let late = |balancer: &mut Self| {
            let at = balancer.late.iter().position(|&(id, _)| id == probe.0)?;
            balancer.late.remove(at).map(|(_, pending)| pending)
        };
        self.take(probe).or_else(|| late(self))
    }

    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        self.deadlines.first().map(|&(at, _)| at)
    }

    /// Probes of `slot` mean nothing any more. O(probes under way), when a link vanishes.
    pub(crate) fn forget_link(&mut self, slot: usize) {
        self.pending.retain(|_, pending| pending.slot != slot);
        self.late.retain(|(_, pending)| pending.slot != slot);
        let pending = &self.pending;
        self.deadlines.retain(|(_, id)| pending.contains_key(id));
    }
}
