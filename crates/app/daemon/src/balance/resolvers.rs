//! The resolvers of this system, for names that the proxy is told and for DNS that is forwarded.
//!
//! A resolver on this machine (systemd-resolved at 127.0.0.53) would choose its way by itself, so what it asks is looked for instead.

use std::net::{IpAddr, SocketAddr};

use bondwire_netctl::{Link, Prefix};

/// Where systemd-resolved writes what it asks, then what programs ask.
const FILES: [&str; 2] = ["/run/systemd/resolve/resolv.conf", "/etc/resolv.conf"];
/// Resolvers of the system that are taken at most: the C library takes three.
const MOST: usize = 6;
/// Asked where the system names none but itself: of different owners, reached from everywhere.
const WELL_KNOWN: [[u8; 4]; 2] = [[9, 9, 9, 9], [1, 1, 1, 1]];

/// Those of the system, or well-known ones.
pub(super) fn of_system() -> Vec<SocketAddr> {
    let texts = FILES.iter().filter_map(|file| std::fs::read_to_string(file).ok());
    let found = texts.map(|text| parse(&text)).find(|found| !found.is_empty());
    found.unwrap_or_else(|| WELL_KNOWN.map(|address| SocketAddr::from((address, 53))).into())
}

/// Those of `all` that a link can reach: not those on another link's own network.
pub(super) fn of_link(link: &Link, others: &[Link], all: &[SocketAddr]) -> Vec<SocketAddr> {
    let local = |link: &Link, ip: IpAddr| {
        link.addresses.iter().any(|address| {
            let network = address.prefix.network();
            Prefix::new(ip, network.length).network() == network
        })
    };
    let elsewhere = |ip: IpAddr| others.iter().any(|other| other.index != link.index && local(other, ip));
    all.iter().copied().filter(|resolver| local(link, resolver.ip()) || !elsewhere(resolver.ip())).collect()
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let addresses = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let ip: IpAddr = words.next().filter(|word| *word == "nameserver").and(words.next())?.parse().ok()?;
        (!ip.is_loopback()).then_some(SocketAddr::new(ip, 53))
    });
    addresses.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use bondwire_netctl::{LinkAddress, LinkKind};

    use super::*;

    fn link(index: u32, prefix: &str) -> Link {
        Link {
            index,
            name: format!("wan{index}"),
            mtu: 1500,
            kind: LinkKind::Ethernet,
            is_virtual: false,
            is_loopback: false,
            is_up: true,
            has_carrier: true,
            hardware: Vec::new(),
            addresses: vec![LinkAddress {
                prefix: prefix.parse().expect("good"),
                is_global: true,
                is_tentative: false,
            }],
            gateway4: None,
            gateway6: None,
        }
    }

    #[test]
    fn a_resolver_on_a_links_own_network_is_that_links() {
        let links = [link(1, "192.168.1.2/24"), link(2, "10.0.0.2/24")];
        let all = ["192.168.1.1:53", "10.0.0.1:53", "9.9.9.9:53"].map(|text| text.parse().expect("good"));
        assert_eq!(of_link(&links[0], &links, &all), [all[0], all[2]]);
        assert_eq!(of_link(&links[1], &links, &all), [all[1], all[2]]);
    }

    #[test]
    fn a_resolver_on_this_machine_does_not_count() {
        let text = "# comment\nsearch example\nnameserver 127.0.0.53\nnameserver 192.0.2.1\nnameserver 2001:db8::1\n";
        assert_eq!(parse(text), ["192.0.2.1:53", "[2001:db8::1]:53"].map(|text| text.parse().expect("good")));
        assert!(!of_system().is_empty());
    }
}
