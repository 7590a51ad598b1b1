//! Whom each link is asked of, with files in a folder that stands for the root of the system.

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

fn route(to: &str, device: &str) -> Route {
    let to: Prefix = to.parse().expect("good");
    Route { to, ..Route::default_dev(to.family(), device, Route::MAIN) }
}

/// What the links' connected networks put into the main table, and a VPN.
fn routes() -> Vec<Route> {
    vec![
        route("0.0.0.0/0", "wan1"),
        route("192.168.1.0/24", "wan1"),
        route("10.0.0.0/24", "wan2"),
        route("10.8.0.0/24", "tun0"),
        route("10.8.0.0/16", "wan1"),
        Route { kind: RouteKind::Unreachable, ..route("203.0.113.0/24", "") },
    ]
}

fn sockets(all: &[&str]) -> Vec<SocketAddr> {
    all.iter().map(|ip| SocketAddr::new(ip.parse().expect("good"), 53)).collect()
}

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    fs::write(path, text).expect("written");
}

/// Two links in private networks of their own.
fn links() -> [Link; 2] {
    [link(1, "192.168.1.2/24"), link(2, "10.0.0.2/24")]
}

fn of(resolvers: &Resolvers, links: &[Link], at: usize) -> Vec<SocketAddr> {
    resolvers.of_link(&links[at], links.iter(), &routes())
}

#[test]
fn a_resolver_in_a_private_network_is_asked_over_the_link_that_leads_there() {
    let root = tempfile::tempdir().expect("a folder");
    write(
        root.path(),
        "etc/resolv.conf",
        "nameserver 192.168.1.1\nnameserver 10.0.0.1\nnameserver 9.9.9.9\n",
    );
    let mut resolvers = Resolvers::under(root.path(), Vec::new());
    let links = links();
    assert!(resolvers.look(links.iter()));
    assert_eq!(of(&resolvers, &links, 0), sockets(&["192.168.1.1", "9.9.9.9"]));
    assert_eq!(of(&resolvers, &links, 1), sockets(&["10.0.0.1", "9.9.9.9"]));
    // Without any route the addresses tell.
    assert_eq!(resolvers.of_link(&links[0], links.iter(), &[]), sockets(&["192.168.1.1", "9.9.9.9"]));
    // Two modems of the same maker.
    let twins = [link(1, "192.168.1.2/24"), link(2, "192.168.1.3/24")];
    assert_eq!(of(&resolvers, &twins, 1)[0], sockets(&["192.168.1.1"])[0]);
}

/// The only resolver is the first link's router. The second link must not ask it: it would be silent, or somebody else's; and when the first link
/// dies, names have to be found all the same.
#[test]
fn a_link_that_reaches_no_resolver_has_its_own_or_well_known_ones() {
    let root = tempfile::tempdir().expect("a folder");
    write(root.path(), "etc/resolv.conf", "nameserver 192.168.1.1\n");
    let mut resolvers = Resolvers::under(root.path(), Vec::new());
    let links = links();
    resolvers.look(links.iter());
    assert_eq!(of(&resolvers, &links, 0), sockets(&["192.168.1.1"]));
    assert_eq!(of(&resolvers, &links, 1), well_known());
    for (file, text) in [
        ("run/systemd/netif/leases/2", "ADDRESS=10.0.0.2\nDNS=10.0.0.1 10.8.0.1 192.168.1.1\n"),
        ("run/systemd/resolve/netif/2", "SERVERS=10.0.0.1#dns.example 127.0.0.1\n"),
        (
            "var/lib/dhcp/dhclient.wan2.leases",
            "lease {\n  option domain-name-servers 10.0.0.9;\n}\nlease {\n  option domain-name-servers 10.0.0.1,192.168.1.1;\n}\n",
        ),
    ] {
        write(root.path(), file, text);
        assert!(resolvers.look(links.iter()), "{file}");
        assert_eq!(of(&resolvers, &links, 1), sockets(&["10.0.0.1"]), "{file}");
        assert!(resolvers.known().contains(&"10.0.0.1".parse().expect("good")));
        fs::remove_file(root.path().join(file)).expect("removed");
        assert!(resolvers.look(links.iter()), "{file}");
    }
    assert_eq!(of(&resolvers, &links, 1), well_known());
}

#[test]
fn a_vpns_resolver_is_asked_over_no_link() {
    let root = tempfile::tempdir().expect("a folder");
    write(root.path(), "etc/resolv.conf", "nameserver 10.8.0.1\nnameserver 203.0.113.1\n");
    let mut resolvers = Resolvers::under(root.path(), Vec::new());
    let links = links();
    resolvers.look(links.iter());
    assert_eq!(of(&resolvers, &links, 0), well_known());
    assert_eq!(resolvers.anywhere(), sockets(&["10.8.0.1", "203.0.113.1"]));
}

/// Who names resolvers wants no others: not the system's, not well-known ones.
#[test]
fn what_the_configuration_names_is_not_mended() {
    let root = tempfile::tempdir().expect("a folder");
    write(root.path(), "etc/resolv.conf", "nameserver 9.9.9.9\n");
    let mut resolvers = Resolvers::under(root.path(), sockets(&["192.168.1.1"]));
    let links = links();
    resolvers.look(links.iter());
    assert_eq!(of(&resolvers, &links, 0), sockets(&["192.168.1.1"]));
    assert_eq!(of(&resolvers, &links, 1), []);
    // Programs ask the system's.
    assert_eq!(resolvers.known(), ["9.9.9.9".parse::<IpAddr>().expect("good")]);
}

#[test]
fn a_change_of_the_systems_resolvers_is_seen() {
    let root = tempfile::tempdir().expect("a folder");
    let mut resolvers = Resolvers::under(root.path(), Vec::new());
    let links = links();
    resolvers.look(links.iter());
    assert_eq!(resolvers.anywhere(), well_known());
    write(root.path(), "etc/resolv.conf", "nameserver 192.0.2.1\n");
    assert!(resolvers.look(links.iter()));
    assert!(!resolvers.look(links.iter()));
    assert_eq!(of(&resolvers, &links, 0), sockets(&["192.0.2.1"]));
    // What a resolver on this machine asks stands elsewhere.
    write(root.path(), "etc/resolv.conf", "nameserver 127.0.0.53\n");
    write(
        root.path(),
        "run/systemd/resolve/resolv.conf",
        "# comment\nsearch example\nnameserver 2001:db8::1\n",
    );
    assert!(resolvers.look(links.iter()));
    assert_eq!(resolvers.anywhere(), sockets(&["2001:db8::1"]));
}
