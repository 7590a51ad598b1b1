//! Whom names are asked of: which resolvers the system has, and which of them can be asked over each link.
//!
//! A resolver in a private network (the router at 192.168.1.1, a VPN's) is reached by one way only. Over any other link it would be silent, or
//! be somebody else's; so a link is asked of those alone that it leads to. Where that leaves none, the link's own ones are looked for, which its
//! network announced by DHCP; and at last well-known ones. What the configuration names is not mended: a link that reaches none of
//! those has none, and names are looked up over the others.
//!
//! A resolver on this machine (systemd-resolved at 127.0.0.53) would choose its way by itself, so what it asks is looked for instead.
//!
//! The files are looked at once a second, and read when they have changed.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bondwire_netctl::{Link, Prefix, Route, RouteKind};

use crate::config::BalanceConfig;

/// Where systemd-resolved writes what it asks, then what programs ask.
const FILES: [&str; 2] = ["run/systemd/resolve/resolv.conf", "etc/resolv.conf"];
/// What networks announced, by the link's number: systemd-networkd's leases and links, and what systemd-resolved was told of a link.
const ANNOUNCED: [(&str, &str); 3] = [
    ("run/systemd/netif/leases", "DNS="),
    ("run/systemd/netif/links", "DNS="),
    ("run/systemd/resolve/netif", "SERVERS="),
];
/// Where ISC's DHCP client keeps its leases, by the link's name.
const LEASES: &str = "var/lib/dhcp";
/// Resolvers of the system, or of a link, that are taken at most: the C library takes three.
const MOST: usize = 6;
/// Bytes of a file that are read at most.
const LONGEST: u64 = 256 * 1024;
/// Asked where there is nobody else: of different owners, reached from everywhere.
const WELL_KNOWN: [IpAddr; 4] = [
    IpAddr::V4(Ipv4Addr::new(9, 9, 9, 9)),
    IpAddr::V4(Ipv4Addr::new(1, 1, 1, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2620, 0xfe, 0, 0, 0, 0, 0, 0xfe)),
    IpAddr::V6(Ipv6Addr::new(0x2606, 0x4700, 0x4700, 0, 0, 0, 0, 0x1111)),
];

/// A file's length and time: others, or none, and it is another file.
type Stamp = Option<(u64, SystemTime)>;

/// The resolvers, as they are now.
#[derive(Debug)]
pub(super) struct Resolvers {
    root: PathBuf,
    /// What the configuration names, instead of all others.
    named: Vec<SocketAddr>,
    system: Vec<SocketAddr>,
    /// What each link's network announced, by the link's number.
    announced: BTreeMap<u32, Vec<SocketAddr>>,
    stamps: BTreeMap<PathBuf, Stamp>,
}

impl Resolvers {
    /// Those that the configuration names, or the system's.
    pub(super) fn new(config: &BalanceConfig) -> Self {
        let named = config.resolvers.iter().map(|resolver| resolver.address()).collect();
        Self::under(Path::new("/"), named)
    }

    fn under(root: &Path, named: Vec<SocketAddr>) -> Self {
        let (system, announced, stamps) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Self { root: root.to_owned(), named, system, announced, stamps }
    }

    /// Looks at the files again. Whether anything is different.
    pub(super) fn look<'a>(&mut self, links: impl Iterator<Item = &'a Link> + Clone) -> bool {
        let files = FILES.iter().map(|file| self.root.join(file));
        let files = files.chain(links.clone().flat_map(|link| self.files_of(link)).map(|(path, _)| path));
        let stamps: BTreeMap<PathBuf, Stamp> = files.map(|path| (path.clone(), stamp(&path))).collect();
        if stamps == self.stamps {
            return false;
        }
        self.stamps = stamps;
        let before = (self.system.clone(), self.announced.clone());
        let texts = FILES.iter().filter_map(|file| read(&self.root.join(file)));
        self.system = texts.map(|text| parse(&text)).find(|found| !found.is_empty()).unwrap_or_default();
        self.announced = links.map(|link| (link.index, self.announced_by(link))).collect();
        before != (self.system.clone(), self.announced.clone())
    }

    /// Whom programs ask: the system's, and those that networks announced.
    pub(super) fn known(&self) -> Vec<IpAddr> {
        self.system.iter().chain(self.announced.values().flatten()).map(SocketAddr::ip).collect()
    }

    /// Whom to ask for a name that no link is to be asked for.
    pub(super) fn anywhere(&self) -> Vec<SocketAddr> {
        let all = [&self.named, &self.system];
        all.into_iter().find(|all| !all.is_empty()).cloned().unwrap_or_else(well_known)
    }

    /// Those that can be asked over a link. `links` are all that are used, `routes` the main table's.
    pub(super) fn of_link<'a>(
        &self,
        link: &Link,
        links: impl Iterator<Item = &'a Link> + Clone,
        routes: &[Route],
    ) -> Vec<SocketAddr> {
        let reached = |all: &[SocketAddr]| -> Vec<SocketAddr> {
            let leads = |resolver: &&SocketAddr| leads_to(link, links.clone(), routes, resolver.ip());
            all.iter().filter(leads).copied().collect()
        };
        if !self.named.is_empty() {
            return reached(&self.named);
        }
        let own = self.announced.get(&link.index).map_or(&[][..], Vec::as_slice);
        let found = [&self.system[..], own].map(reached).into_iter().find(|found| !found.is_empty());
        found.unwrap_or_else(well_known)
    }

    /// Files that may say what a link's network announced, with the word before it; none: an ISC lease.
    fn files_of(&self, link: &Link) -> impl Iterator<Item = (PathBuf, Option<&'static str>)> {
        let by_number =
            ANNOUNCED.map(|(folder, word)| (self.root.join(folder).join(link.index.to_string()), Some(word)));
        let lease = self.root.join(LEASES).join(format!("dhclient.{}.leases", link.name));
        by_number.into_iter().chain([(lease, None)])
    }

    fn announced_by(&self, link: &Link) -> Vec<SocketAddr> {
        let files = self.files_of(link).filter_map(|(path, word)| Some((read(&path)?, word)));
        let found = files.map(|(text, word)| announced(&text, word));
        found.into_iter().find(|found| !found.is_empty()).unwrap_or_default()
    }
}

fn well_known() -> Vec<SocketAddr> {
    WELL_KNOWN.map(|address| SocketAddr::new(address, 53)).into()
}

/// Whether what is sent to `ip` over this link arrives: it is on the link's own network, or nowhere in particular.
fn leads_to<'a>(link: &Link, links: impl Iterator<Item = &'a Link>, routes: &[Route], ip: IpAddr) -> bool {
    let own = network_with(link, ip);
    let specific = routes
        .iter()
        .filter(|route| route.table == Route::MAIN && !route.to.is_default() && contains(route.to, ip));
    // The first one of a length is the better one.
    let best = specific.reduce(|best, next| if next.to.length > best.to.length { next } else { best });
    match (own, best) {
        // Two links may be in networks of the same numbers.
        (Some(own), Some(best)) if own >= best.to.length => true,
        (_, Some(best)) => {
            best.kind == RouteKind::Unicast && best.device.as_deref() == Some(link.name.as_str())
        }
        (Some(_), None) => true,
        (None, None) => {
            let mut others = links.filter(|other| other.index != link.index);
            !others.any(|other| network_with(other, ip).is_some())
        }
    }
}

/// The length of the prefix of a link's own network in which an address is.
fn network_with(link: &Link, ip: IpAddr) -> Option<u8> {
    let prefixes = link.addresses.iter().map(|address| address.prefix);
    prefixes.filter(|prefix| contains(*prefix, ip)).map(|prefix| prefix.length).max()
}

fn contains(prefix: Prefix, ip: IpAddr) -> bool {
    prefix.address.is_ipv4() == ip.is_ipv4() && Prefix::new(ip, prefix.length).network() == prefix.network()
}

fn stamp(path: &Path) -> Stamp {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

fn read(path: &Path) -> Option<String> {
    (fs::metadata(path).ok()?.len() <= LONGEST).then(|| fs::read_to_string(path).ok()).flatten()
}

/// `nameserver ADDRESS`, one a line.
fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        words.next().filter(|word| *word == "nameserver").and(words.next())
    });
    resolvers(addresses)
}

/// `DNS=ADDRESS ADDRESS`; in an ISC lease `option domain-name-servers ADDRESS, ADDRESS;`, the last of which counts.
fn announced(text: &str, word: Option<&str>) -> Vec<SocketAddr> {
    let word = word.unwrap_or("option domain-name-servers ");
    let mut lines = text.lines().filter_map(|line| line.trim().strip_prefix(word));
    let Some(list) = lines.next_back() else { return Vec::new() };
    // systemd may add the name of a certificate.
    resolvers(list.split([' ', ',', ';']).map(|word| word.split('#').next().unwrap_or(word)))
}

fn resolvers<'a>(words: impl Iterator<Item = &'a str>) -> Vec<SocketAddr> {
    let addresses = words.filter_map(|word| word.parse::<IpAddr>().ok());
    addresses.filter(|ip| !ip.is_loopback()).map(|ip| SocketAddr::new(ip, 53)).take(MOST).collect()
}

#[cfg(test)]
mod tests;
