//! Which link a site is on.
//!
//! A site is a host name if the application gave one, else an address. It keeps its link for
//! [`crate::Stickiness::duration`] after its last new socket. Bound: [`crate::Stickiness::max_sites`]; the one not
//! used longest gives way.

use core::hash::{BuildHasher, Hasher};
use core::net::IpAddr;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::DefaultHasher;

use bondwire_units::Timestamp;

use crate::chains::Chains;

/// How long a site stays after a move, however full its link is: it must not run from link to link.
const DWELL: Duration = Duration::from_secs(10);

/// What a site is known by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Name(Box<str>),
    Address(IpAddr),
}

/// Makes the table's order unpredictable to whoever chooses the names.
#[derive(Clone, Debug)]
struct Seeded(u64);

impl BuildHasher for Seeded {
    type Hasher = DefaultHasher;

    fn build_hasher(&self) -> DefaultHasher {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.0);
        hasher
    }
}

#[derive(Debug)]
struct Site {
    key: Key,
    link: u8,
    used: Timestamp,
    moved: Timestamp,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Sites {
    index: HashMap<Key, u32, Seeded>,
    sites: Vec<Site>,
    free: Vec<u32>,
    ages: Chains,
    duration: Duration,
    max: usize,
}

impl Sites {
    pub(crate) fn new(duration: Duration, max: usize, seed: u64) -> Self {
        Self {
            index: HashMap::with_hasher(Seeded(seed)),
            sites: Vec::new(),
            free: Vec::new(),
            ages: Chains::new(1),
            duration,
            max: max.max(1),
        }
    }

    /// The key of a request; names in small letters, without the dot at the end.
    pub(crate) fn key(name: Option<&str>, address: IpAddr) -> Key {
        match name {
            Some(name) => Key::Name(plain_name(name).into()),
            None => Key::Address(address.to_canonical()),
        }
    }

    /// The site's link, and whether it has stayed long enough to be moved.
    pub(crate) fn get(&self, key: &Key, now: Timestamp) -> Option<(usize, bool)> {
        let site = &self.sites[*self.index.get(key)? as usize];
        let is_fresh = now.since(site.used) < self.duration;
        is_fresh.then(|| (usize::from(site.link), now.since(site.moved) >= DWELL))
    }

    /// The site is on `link`, and in use.
    pub(crate) fn set(&mut self, key: Key, link: usize, now: Timestamp) {
        let link = link as u8;
        self.expire(now);
        if let Some(&slot) = self.index.get(&key) {
            let site = &mut self.sites[slot as usize];
            if site.link != link {
                (site.link, site.moved) = (link, now);
            }
            site.used = now;
            self.ages.push(0, slot as usize);
            return;
        }
        if self.index.len() >= self.max {
            self.drop_oldest();
        }
        let site = Site { key: key.clone(), link, used: now, moved: now };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.sites[slot as usize] = site;
                slot
            }
            None => {
                self.sites.push(site);
                self.sites.len() as u32 - 1
            }
        };
        self.index.insert(key, slot);
        self.ages.push(0, slot as usize);
    }

    /// Forgets what is too old; each call at most eight, so that no socket pays for many.
    fn expire(&mut self, now: Timestamp) {
        for _ in 0..8 {
            match self.ages.front(0) {
                Some(slot) if now.since(self.sites[slot].used) >= self.duration => self.drop_oldest(),
                _ => return,
            }
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(slot) = self.ages.front(0) {
            self.ages.remove(slot);
            self.index.remove(&self.sites[slot].key);
            self.sites[slot].key = Key::Address(IpAddr::from([0; 4]));
            self.free.push(slot as u32);
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

/// A host name in small letters, without the dot at its end.
pub(crate) fn plain_name(name: &str) -> Cow<'_, str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    #[test]
    fn names_are_one_whatever_their_letters() {
        let mut sites = Sites::new(Duration::from_secs(600), 10, 1);
        let any = IpAddr::from([0; 4]);
        sites.set(Sites::key(Some("Example.ORG."), any), 3, at(0));
        assert_eq!(sites.get(&Sites::key(Some("example.org"), any), at(1)), Some((3, false)));
        assert_eq!(sites.get(&Sites::key(Some("example.org"), any), at(599)), Some((3, true)));
        assert_eq!(sites.get(&Sites::key(Some("example.org"), any), at(600)), None);
    }

    #[test]
    fn is_bounded_and_forgets_the_oldest() {
        let mut sites = Sites::new(Duration::from_secs(600), 10, 1);
        let key = |i: u32| Sites::key(None, IpAddr::from(i.to_be_bytes()));
        for i in 0..1_000 {
            sites.set(key(i), 1, at(u64::from(i)));
            assert!(sites.len() <= 10 && sites.sites.len() <= 10);
        }
        assert!(sites.get(&key(989), at(1_000)).is_none() && sites.get(&key(990), at(1_000)).is_some());
        for i in 0..10 {
            sites.set(key(i), 1, at(10_000 + u64::from(i)));
        }
        assert_eq!(sites.len(), 10);
    }
}
