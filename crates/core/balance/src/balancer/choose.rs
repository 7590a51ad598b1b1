//! Which links may be taken, and which one is.
//!
//! Candidates are found by priority first: the `Always` links that work, with the `Secondary` ones as soon as all
//! of those are full; then `Secondary`, then `Backup`; then what returns, what is failing, and at last what
//! failed, each by priority: a link that may work is better than a refusal. Among the candidates the delay
//! decides for interactive sockets, shares for all others.

use core::time::Duration;

use bondwire_units::Timestamp;

use super::Balancer;
use crate::config::{Action, Priority};
use crate::event::LinkState;
use crate::link::Link;
use crate::request::{Reason, Refusal, Request};
use crate::shares::{slots, take_cheapest};

/// A quicker link takes over from the quickest one if it is quicker by this part and this much.
const QUICKER: f64 = 0.85;
const QUICKER_BY: Duration = Duration::from_millis(2);

/// The links among which the choice is, as bits, and why they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidates {
    pub(super) mask: u32,
    /// Those of `mask` that are there only because the others are full.
    spilled: u32,
    reason: Reason,
}

impl Candidates {
    fn new(mask: u32, reason: Reason) -> Self {
        Self { mask, spilled: 0, reason }
    }
}

/// What is asked of a link.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wish {
    /// Slots that a rule says to avoid.
    pub(super) avoid: u32,
    /// The slot that a rule names.
    pub(super) named: Option<usize>,
    /// Slots that are out of the question: tried already.
    pub(super) without: u32,
    pub(super) interactive: bool,
    /// Whether backups must not be taken in spite of a working link that is out of the question.
    pub(super) no_backup: bool,
}

impl Balancer {
    /// Slots for which `test` holds.
    fn mask(&self, test: impl Fn(&Link) -> bool) -> u32 {
        let bit = |(slot, link): (usize, &Link)| u32::from(link.may_be_used() && test(link)) << slot;
        self.links.iter().enumerate().map(bit).fold(0, |mask, bit| mask | bit)
    }

    /// The links among which a socket may choose; none if no link may be used.
    pub(super) fn candidates(&self, wish: Wish) -> Option<Candidates> {
        let may = self.mask(|_| true) & !wish.without;
        let stable = self.mask(Link::is_stable) & may;
        // A link to be avoided is taken when no other works.
        let stable = if stable & !wish.avoid == 0 { stable } else { stable & !wish.avoid };
        if stable == 0 {
            return self.last_hope(may, wish.avoid);
        }
        let with = |priority| self.mask(|link| link.priority == priority);
        let (always, secondary) = (stable & with(Priority::Always), stable & with(Priority::Secondary));
        let full = self.mask(|link| link.is_full);
        if always != 0 {
            let room = secondary & !full;
            if always & !full == 0 && room != 0 {
                return Some(Candidates { mask: always | room, spilled: room, reason: Reason::Load });
            }
            return Some(Candidates::new(always, Reason::Load));
        }
        let first = |priority| self.links.iter().any(|link| link.may_be_used() && link.priority == priority);
        if secondary != 0 {
            let reason = if first(Priority::Always) { Reason::Fallback } else { Reason::Load };
            return Some(Candidates::new(secondary, reason));
        }
        if wish.no_backup {
            return None;
        }
        let others = first(Priority::Always) || first(Priority::Secondary);
        Some(Candidates::new(stable, if others { Reason::Fallback } else { Reason::Load }))
    }

    /// Nothing is known to work: what is most likely to, of the first priority.
    fn last_hope(&self, may: u32, avoid: u32) -> Option<Candidates> {
        let states = [LinkState::Returning, LinkState::Failing, LinkState::Failed];
        let priorities = [Priority::Always, Priority::Secondary, Priority::Backup];
        for may in [may & !avoid, may] {
            for (state, priority) in
                states.iter().flat_map(|state| priorities.map(|priority| (state, priority)))
            {
                let mask = may & self.mask(|link| link.health.state() == *state && link.priority == priority);
                if mask != 0 {
                    return Some(Candidates::new(mask, Reason::LastHope));
                }
            }
        }
        None
    }

    /// What the rules say: the wish, or none for bypass.
    pub(super) fn wish(&self, request: &Request<'_>) -> Result<Option<Wish>, Refusal> {
        let interactive = self.prefer_delay
            && (request.interactive || self.interactive.contains(request.transport, request.remote.port()));
        let mut wish = Wish { interactive, ..Wish::default() };
        match self.rules.find(request) {
            Some(Action::Bypass) => return Ok(None),
            Some(Action::Link { name, strict }) => {
                wish.named = self.working(name);
                if wish.named.is_none() && *strict {
                    return Err(Refusal::RuleLinkDown);
                }
            }
            Some(Action::Avoid { name }) => wish.avoid = self.mask(|link| link.config.name == *name),
            None => {}
        }
        Ok(Some(wish))
    }

    /// The slot of the link of this name, if it works. A rule may name a link that is `never` for others.
    pub(super) fn working(&self, name: &str) -> Option<usize> {
        let works = |link: &Link| {
            link.config.name == name
                && link.is_present
                && (link.is_stable() || link.health.state() == LinkState::Failing)
        };
        self.links.iter().position(works)
    }

    /// Takes a link. `site`: where the site is, and whether it may move.
    pub(super) fn choose(
        &mut self,
        wish: Wish,
        site: Option<(usize, bool)>,
        now: Timestamp,
    ) -> Option<(usize, Reason)> {
        if let Some(named) = wish.named {
            return Some((named, Reason::Rule));
        }
        let candidates = self.candidates(wish)?;
        if let Some((slot, may_move)) = site
            && candidates.mask >> slot & 1 == 1
            && (!may_move || self.keeps_sites(slot, candidates.mask))
        {
            return Some((slot, Reason::Sticky));
        }
        let quickest = wish.interactive.then(|| self.quickest(candidates.mask)).flatten();
        let (slot, reason) = match quickest {
            Some(slot) => (slot, Reason::Delay),
            None => (take_cheapest(&mut self.links, candidates.mask, self.mix, now)?, Reason::Load),
        };
        let reason = match candidates.reason {
            Reason::Load if candidates.spilled >> slot & 1 == 1 => Reason::SpillOver,
            Reason::Load => reason,
            other => other,
        };
        Some((slot, reason))
    }

    /// Whether a site should stay: its link is not full, or all are.
    pub(super) fn keeps_sites(&self, slot: usize, mask: u32) -> bool {
        !self.links[slot].is_full || mask & !self.mask(|link| link.is_full) == 0
    }

    /// The link of `mask` with the least delay, full ones last; none if no delay is known.
    pub(super) fn quickest(&mut self, mask: u32) -> Option<usize> {
        let room = mask & !self.mask(|link| link.is_full);
        let among = if room == 0 { mask } else { room };
        let delay = |slot: usize| self.links[slot].delay.present();
        let measured = slots(among).filter_map(|slot| Some((slot, delay(slot)?)));
        let (best, least) = measured.min_by_key(|&(_, delay)| delay)?;
        if let Some(old) = self.quickest.filter(|&old| among >> old & 1 == 1)
            && let Some(old_delay) = delay(old)
            && (least > old_delay.mul_f64(QUICKER) || least + QUICKER_BY > old_delay)
        {
            return Some(old);
        }
        self.quickest = Some(best);
        Some(best)
    }
}
