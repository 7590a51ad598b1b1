//! Shares: how much of the next sockets each link should get.
//!
//! A new socket is one of unknown size that will take all it can, so it goes where it would get most: a link that
//! is full divides its capacity among the transfers on it and the new one; a link with room gives its room. With
//! capacity C, present rate R, n sockets that transfer or are fresh (size unknown yet), y of them opened within
//! two seconds, that is max((C − R) / (1 + y), C / (1 + n)); R is without transfers that have just ended. Load is counted in bytes by the first term, and in sockets by the second.
//! Written as *load* l = C / that − 1, in sockets, so that the choice is the least of (½ + l + q) / share.
//!
//! q is what a link got beyond its part so far, at most 1½ sockets in either direction. With links that carry
//! nothing, the choice is then the method of Webster: shares are exact to a socket, whatever their ratio and
//! however slowly the sockets come. The ½ means that an idle link of a tenth of the capacity gets the sixth
//! download and not the eleventh: links are there to be used.
//!
//! Room is believed only where capacity is known (module `meter`). A link of unknown capacity is taken to be
//! worth the mean of the known ones, or the greatest seen if none is known, and its load is its sockets.

use bondwire_units::Timestamp;

use crate::config::MAX_LINKS;
use crate::link::{Link, Side};
use crate::meter::LEAST;

/// The capacity of every link before anything passed anywhere: only equality matters.
const NOMINAL: f64 = 10e6;
/// What bytes of unknown sockets count for at most, in sockets.
const UNREPORTED: f64 = 4.0;
/// The bound of [`Link::credit`], in sockets.
const MAX_CREDIT: f64 = 1.5;

/// What the machine's traffic is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    up: f64,
    down: f64,
    at: Timestamp,
}

impl Mix {
    /// Mostly downloads, as long as nobody says otherwise: a megabyte is soon outweighed.
    pub(crate) fn new() -> Self {
        Self { up: 1e5, down: 9e5, at: Timestamp::ZERO }
    }

    /// Bytes passed; the past counts half after twenty seconds.
    pub(crate) fn update(&mut self, up: u64, down: u64, now: Timestamp) {
        let keep = (-now.since(self.at).as_secs_f64() / 30.0).exp();
        // What fades must not leave chance to decide, so the beginning's mixture never fades altogether.
        self.up = (self.up * keep).max(1e4) + up as f64;
        self.down = (self.down * keep).max(9e4) + down as f64;
        self.at = now;
    }

    /// The share of what goes up, 0.02 to 0.98.
    pub(crate) fn up(&self) -> f64 {
        (self.up / (self.up + self.down)).clamp(0.02, 0.98)
    }
}

/// A candidate's part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Share {
    pub(crate) slot: usize,
    /// Of the candidates' capacity, both directions weighed by [`Mix`]; they sum to 1.
    pub(crate) share: f64,
    /// In sockets.
    pub(crate) load: f64,
    /// The same without the fresh ones: what lasts.
    steady: f64,
}

impl Share {
    /// What a socket more would suffer; the least is taken.
    pub(crate) fn cost(&self, credit: f64) -> f64 {
        (0.5 + self.load + credit) / self.share
    }

    fn level(&self) -> f64 {
        self.load / self.share
    }
}

/// Sets each link's capacities: measured, presumed, fixed or limited. O(links).
pub(crate) fn set_capacities(links: &mut [Link], now: Timestamp) {
    let up = presumed(links.iter().map(|link| (link, &link.up)), now);
    let down = presumed(links.iter().map(|link| (link, &link.down)), now);
    for link in links {
        let limits = link.limits();
        let fixed = link.config.weight.map(|weight| f64::from(weight.max(1)) * 1e6);
        let set = |side: &mut Side, presumed: f64, limit: f64| {
            let meter = &side.meter;
            let measured =
                if meter.is_known(now) { meter.capacity() } else { meter.capacity().max(presumed) };
            side.capacity = fixed.unwrap_or(measured.min(limit)).max(LEAST);
        };
        set(&mut link.up, up, limits.0);
        set(&mut link.down, down, limits.1);
    }
}

/// What a link whose capacity is not known is taken to be worth.
fn presumed<'a>(sides: impl Iterator<Item = (&'a Link, &'a Side)>, now: Timestamp) -> f64 {
    let (mut known, mut count, mut greatest) = (0.0, 0.0, 0.0_f64);
    for (_, side) in sides.filter(|(link, _)| link.may_be_used()) {
        greatest = greatest.max(side.meter.capacity());
        if side.meter.is_known(now) {
            known += side.meter.capacity();
            count += 1.0;
        }
    }
    match (count > 0.0, greatest >= LEAST) {
        (true, _) => known / count,
        (false, true) => greatest,
        (false, false) => NOMINAL,
    }
}

/// The load of one direction, in sockets, of which `fresh` are of unknown size and `growing` are transfers that
/// have not reached their rate.
fn load(side: &Side, fresh: u32, growing: u32, now: Timestamp) -> f64 {
    let sockets = f64::from(side.transfers + fresh);
    if !side.meter.is_known(now) {
        return sockets;
    }
    // Whose bytes they are is not known, if nobody reports transfers: then they count like a few of them.
    let most = if side.transfers == 0 { sockets + UNREPORTED } else { sockets };
    let room = side.capacity - side.meter.lasting(now);
    if room <= 0.0 {
        return most;
    }
    most.min(side.capacity * f64::from(fresh + growing + 1) / room - 1.0)
}

/// The shares and loads of the links in `mask`. O(candidates), nothing allocated.
pub(crate) fn shares(links: &[Link], mask: u32, mix: Mix, now: Timestamp) -> impl Iterator<Item = Share> {
    let (mut up, mut down) = (0.0, 0.0);
    for slot in slots(mask) {
        up += links[slot].up.capacity;
        down += links[slot].down.capacity;
    }
    let part = mix.up();
    slots(mask).map(move |slot| {
        let link = &links[slot];
        let weigh = |of_up: f64, of_down: f64| part * of_up + (1.0 - part) * of_down;
        let of_up = link.up.capacity / up;
        let of_down = link.down.capacity / down;
        let share = weigh(of_up, of_down);
        // What is loaded in one direction is dear in proportion to that direction's part of the traffic.
        let of = |fresh| {
            let load = |side, of_all| load(side, fresh, link.growing, now) / of_all;
            weigh(load(&link.up, of_up), load(&link.down, of_down))
        };
        let load = of(link.fresh);
        let steady = if link.fresh == 0 { load } else { of(0) };
        Share { slot, share, load: share * load, steady: share * steady }
    })
}

/// Shares of candidates, without allocation.
#[derive(Clone, Copy, Debug)]
struct Table {
    shares: [Share; MAX_LINKS],
    len: usize,
}

impl Table {
    fn new(links: &[Link], mask: u32, mix: Mix, now: Timestamp) -> Self {
        let mut table = Self { shares: [Share::default(); MAX_LINKS], len: 0 };
        for share in shares(links, mask, mix, now) {
            table.shares[table.len] = share;
            table.len += 1;
        }
        table
    }

    fn get(&self) -> &[Share] {
        &self.shares[..self.len]
    }

    /// The level to which the links are filled if `sockets` more come at once, each going where it is lowest.
    fn level(&self, sockets: f64) -> f64 {
        let mut sorted = *self;
        sorted.shares[..self.len].sort_unstable_by(|a, b| a.level().total_cmp(&b.level()));
        let (mut share, mut load, mut level) = (0.0, 0.0, f64::INFINITY);
        for link in sorted.get() {
            if level <= link.level() {
                break;
            }
            share += link.share;
            load += link.load;
            level = (sockets + load) / share;
        }
        level
    }

    /// Each link's part of `sockets` more that come at once; the parts sum to 1.
    fn ahead(&self, sockets: f64) -> impl Iterator<Item = (usize, f64)> {
        let level = self.level(sockets);
        let part = move |link: &Share| ((level * link.share - link.load) / sockets).max(0.0);
        self.get().iter().map(move |link| (link.slot, part(link)))
    }
}

/// Takes the cheapest link of `mask` for one more socket, and keeps the proportions.
pub(crate) fn take_cheapest(links: &mut [Link], mask: u32, mix: Mix, now: Timestamp) -> Option<usize> {
    let table = Table::new(links, mask, mix, now);
    let cost = |share: &Share| share.cost(links[share.slot].credit);
    let best = table.get().iter().min_by(|a, b| cost(a).total_cmp(&cost(b)))?.slot;
    settle(links, &table, best);
    Some(best)
}

/// `taken` got a socket that any link of `mask` might have got.
pub(crate) fn take(links: &mut [Link], mask: u32, taken: usize, mix: Mix, now: Timestamp) {
    let table = Table::new(links, mask, mix, now);
    settle(links, &table, taken);
}

/// What a link got beyond its part of this one socket. The part is that under the load that lasts: a link that is
/// left alone because it is full has nothing to catch up on, while one on which short sockets merely take longer
/// has.
fn settle(links: &mut [Link], table: &Table, taken: usize) {
    let mut table = *table;
    table.shares.iter_mut().for_each(|share| share.load = share.steady);
    for (slot, part) in table.ahead(1.0) {
        let more = if slot == taken { 1.0 } else { 0.0 };
        let credit = &mut links[slot].credit;
        *credit = (*credit + more - part).clamp(-MAX_CREDIT, MAX_CREDIT);
    }
}

/// How the next `sockets` sockets would be divided if they came at once. The parts sum to 1.
pub(crate) fn ahead(links: &[Link], mask: u32, sockets: f64, mix: Mix, now: Timestamp) -> Vec<(usize, f64)> {
    Table::new(links, mask, mix, now).ahead(sockets).collect()
}

/// The bits of `mask`.
pub(crate) fn slots(mut mask: u32) -> impl Iterator<Item = usize> {
    core::iter::from_fn(move || {
        let slot = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (slot < MAX_LINKS).then_some(slot)
    })
}
