//! Which link a site is on.
//!
//! A site is a host name if the application gave one, else an address. It keeps its link for
//! [`crate::Stickiness::duration`] after its last new socket. Bound: [`crate::Stickiness::max_sites`]; the one not
//! used longest gives way.

use core::hash::{BuildHasherDefault, Hasher};
use core::net::IpAddr;
use core::time::Duration;
use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::DefaultHasher;

use bondwire_units::Timestamp;

use crate::chains::Chains;

/// The longest host name (RFC 1035, section 2.3.4, says 255); what is longer is cut.
const MAX_NAME: usize = 256;
/// How long a site stays after a move, however full its link is: it must not run from link to link.
const DWELL: Duration = Duration::from_secs(10);

/// What a site is known by: a fingerprint under the caller's seed. Should two sites ever have the same, they share
/// a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

/// A fingerprint needs no hashing again.
#[derive(Clone, Debug, Default)]
struct Fingerprint(u64);

impl Hasher for Fingerprint {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes.iter().fold(self.0, |hash, &byte| hash.rotate_left(8) ^ u64::from(byte));
    }

    fn write_u64(&mut self, fingerprint: u64) {
        self.0 = fingerprint;
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
    index: HashMap<Key, u32, BuildHasherDefault<Fingerprint>>,
    seed: u64,
    sites: Vec<Site>,
    free: Vec<u32>,
    ages: Chains,
    duration: Duration,
    max: usize,
}

impl Sites {
    pub(crate) fn new(duration: Duration, max: usize, seed: u64) -> Self {
        Self {
            index: HashMap::default(),
            seed,
            sites: Vec::new(),
            free: Vec::new(),
            ages: Chains::new(1),
            duration,
            max: max.max(1),
        }
    }

    /// The key of a request; letters may be of any case, and a dot at a name's end does not matter.
    pub(crate) fn key(&self, name: Option<&str>, address: IpAddr) -> Key {
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.seed);
        match (name, address.to_canonical()) {
            (Some(name), _) => {
                let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
                let mut letters = [0; MAX_NAME];
                let length = name.len().min(MAX_NAME);
                letters[..length].copy_from_slice(&name[..length]);
                letters[..length].make_ascii_lowercase();
                hasher.write(&letters[..length]);
            }
            (None, IpAddr::V4(v4)) => hasher.write_u32(v4.to_bits()),
            (None, IpAddr::V6(v6)) => hasher.write_u128(v6.to_bits()),
        }
        Key(hasher.finish())
    }

    /// The site's link, and whether it has stayed long enough to be moved.
    pub(crate) fn get(&self, key: Key, now: Timestamp) -> Option<(usize, bool)> {
        let site = &self.sites[*self.index.get(&key)? as usize];
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
        let site = Site { key, link, used: now, moved: now };
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
        let key = sites.key(Some("example.org"), any);
        sites.set(sites.key(Some("Example.ORG."), any), 3, at(0));
        assert_eq!(sites.get(key, at(1)), Some((3, false)));
        assert_eq!(sites.get(key, at(599)), Some((3, true)));
        assert_eq!(sites.get(key, at(600)), None);
        assert_ne!(sites.key(Some("example.com"), any), key);
    }

    #[test]
    fn is_bounded_and_forgets_the_oldest() {
        let mut sites = Sites::new(Duration::from_secs(600), 10, 1);
        let key = |i: u32| Key(u64::from(i) << 40 | 7);
        for i in 0..1_000 {
            sites.set(key(i), 1, at(u64::from(i)));
            assert!(sites.len() <= 10 && sites.sites.len() <= 10);
        }
        assert!(sites.get(key(989), at(1_000)).is_none() && sites.get(key(990), at(1_000)).is_some());
        for i in 0..10 {
            sites.set(key(i), 1, at(10_000 + u64::from(i)));
        }
        assert_eq!(sites.len(), 10);
    }
}
