//! Addresses that a link lost while sockets still have them.
//!
//! The kernel refuses a datagram whose source is no address of this machine. So that a connected UDP socket outlives its link's unplugging, or a new
//! lease, the address it has is kept on the loopback interface for a while, where nothing but such sockets uses it; what leaves with it is
//! masqueraded, since it is no address of the link that it leaves by.
//!
//! Bound: [`MOST`] addresses, the last ones, each for [`KEEP`] after it was lost.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bondwire_netctl::{Change, Changes, Family, Link, NetError, Prefix};

use crate::plan::Slot;

/// For so long. Another machine of the same network may be given the address after that, by a server that waits as little as usual.
const KEEP: Duration = Duration::from_secs(120);

/// So many.
const MOST: usize = 32;

const GROUP: &str = "balance addresses";
const LOOPBACK: &str = "lo";

/// What is remembered of the links' addresses.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// The addresses that each link had at the last look, in the kernel's order: the first of a family is the one that packets get.
    last: BTreeMap<Slot, Vec<IpAddr>>,
    /// What is kept, for which link, and until when; the oldest first.
    lost: Vec<(Slot, IpAddr, Instant)>,
}

impl Kept {
    /// Compares the links' addresses with what they were. Returns the slots that lost the one that packets got: their flows are to be looked at anew.
    pub(crate) fn refresh(
        &mut self,
        changes: &mut Changes,
        names: &BTreeMap<Slot, &str>,
        now: Instant,
    ) -> Result<Vec<Slot>, NetError> {
        let links = changes.netlink().links()?;
        let mut losers = Vec::new();
        self.last.retain(|slot, _| names.contains_key(slot));
        self.lost.retain(|(slot, ..)| names.contains_key(slot));
        for (slot, name) in names {
            let link = links.iter().find(|link| link.name == *name);
            let usable = |family| link.into_iter().flat_map(move |link| link.usable(family));
            let has: Vec<IpAddr> =
                Family::BOTH.into_iter().flat_map(usable).map(|prefix| prefix.address).collect();
            let had = self.last.insert(*slot, has.clone()).unwrap_or_default();
            let first = |family| had.iter().find(|address| Family::of(**address) == family);
            if Family::BOTH.into_iter().filter_map(first).any(|address| !has.contains(address)) {
                losers.push(*slot);
            }
            let gone = had.iter().filter(|address| !has.contains(address)).copied();
            self.lost.extend(gone.map(|address| (*slot, address, now + KEEP)));
        }
        self.lost.retain(|(_, address, until)| {
            let anywhere = links.iter().filter(|link| !link.is_loopback).flat_map(addresses);
            *until > now && !anywhere.into_iter().any(|own| own == *address)
        });
        let surplus = self.lost.len().saturating_sub(MOST);
        self.lost.drain(..surplus);
        self.sync(changes)?;
        Ok(losers)
    }

    /// Lets go of what was kept long enough.
    pub(crate) fn expire(&mut self, changes: &mut Changes, now: Instant) -> Result<(), NetError> {
        let before = self.lost.len();
        self.lost.retain(|(.., until)| *until > now);
        if self.lost.len() == before { Ok(()) } else { self.sync(changes) }
    }

    /// Takes all of them away.
    pub(crate) fn clear(changes: &mut Changes) -> Result<(), NetError> {
        changes.remove(GROUP)
    }

    fn sync(&self, changes: &mut Changes) -> Result<(), NetError> {
        let mut wanted: Vec<Change> = Vec::new();
        for (_, address, _) in &self.lost {
            let change = Change::Address { device: LOOPBACK.to_owned(), address: Prefix::host(*address) };
            if !wanted.contains(&change) {
                wanted.push(change);
            }
        }
        changes.sync(GROUP, &wanted)
    }
}

fn addresses(link: &Link) -> impl Iterator<Item = IpAddr> {
    link.addresses.iter().map(|address| address.prefix.address)
}
