//! Names where resolvers are in private networks: each is asked over the link that leads to it, and no name is lost with one.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::process::Command;
use std::thread;

use bondwire_netns::Node;

use crate::support::{Process, in_lab, seconds, until};
use crate::world::{HTTP, PROXY, World};

const SOCKS: &str = "socks5h://127.0.0.1:1080";

/// Runs a command on a machine.
#[track_caller]
fn run(node: &Node, line: &str) {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words);
    Process::start(node, command).wait_end(seconds(5)).assert_done();
}

/// Gives a machine a file of its own over `/etc/resolv.conf`, in which these resolvers stand.
pub(crate) fn system_resolvers(world: &World, resolvers: &[&str]) {
    let path = world.side.path("resolv.conf");
    let text: String = resolvers.iter().map(|resolver| format!("nameserver {resolver}\n")).collect();
    let is_first = !path.exists();
    std::fs::write(&path, text).expect("written");
    if is_first {
        // Seen by this machine of the lab alone, which has a mount namespace of its own.
        let path = path.to_str().expect("a name");
        run(world.lab.client(), &format!("mount --bind {path} /etc/resolv.conf"));
    }
}

/// A resolver at this address that answers every question with `answer`.
fn resolver(node: &Node, at: Ipv4Addr, answer: Ipv4Addr) {
    let socket = node.run(move || UdpSocket::bind((IpAddr::from(at), 53))).expect("a socket");
    thread::spawn(move || {
        let mut buffer = [0; 1024];
        while let Ok((length, client)) = socket.recv_from(&mut buffer[..512]) {
            // The question (RFC 1035, section 4.1): a name, which kind of address, which class.
            let Some(end) = buffer[12..length].iter().position(|byte| *byte == 0) else { continue };
            let (kind, rest) = (12 + end + 1, 12 + end + 5);
            let has_answer = buffer[kind..kind + 2] == [0, 1];
            let mut reply = buffer[..rest].to_vec();
            (reply[2], reply[3], reply[7], reply[11]) = (0x81, 0x80, u8::from(has_answer), 0);
            if has_answer {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                reply.extend(answer.octets());
            }
            let _ = socket.send_to(&reply, client);
        }
    });
}

/// Whether this process may load programs into the kernel: root of the first user namespace.
fn has_ebpf() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The system's only resolver is the first link's router. The second link has none, so it asks a well-known one; and when the first link is
/// dead, names are found all the same.
#[test]
fn a_links_private_resolver_dies_and_names_are_found() {
    in_lab("names::a_links_private_resolver_dies_and_names_are_found", || {
        let mut world = World::twin();
        let web = world.lab.web_addr_v4();
        let router = world.lab.link("line0").expect("a link").gateway_v4.expect("an address");
        resolver(world.lab.provider("line0").expect("a link"), router, web);
        let well_known = Ipv4Addr::new(9, 9, 9, 9);
        run(world.lab.core(), "ip address add 9.9.9.9/32 dev lo");
        resolver(world.lab.core(), well_known, web);
        system_resolvers(&world, &[&router.to_string()]);
        world.balance(&["--proxy", PROXY]);
        let url = |name: usize| format!("http://host{name}.example:{HTTP}/bytes/1000");
        for name in 0..10 {
            assert_eq!(world.curl(&["--proxy", SOCKS, &url(name)]), 1000);
        }
        assert!(world.shares().iter().all(|count| *count > 0), "{:?}", world.shares());
        // What was asked in vain would count against the link.
        let status = world.side.status();
        assert!(status.links.iter().all(|link| link.state == "active"), "{:?}", status.links);
        world.lab.silence("line0").expect("a link");
        world.wait_state("line0", &["down"], seconds(20));
        for name in 10..14 {
            assert_eq!(world.curl(&["--proxy", SOCKS, &url(name)]), 1000);
        }
    });
}

/// Two links, each with a resolver in its own private network: neither is asked over the other link, and the one that is left suffices.
#[test]
fn of_two_private_resolvers_one_dies() {
    in_lab("names::of_two_private_resolvers_one_dies", || {
        let mut world = World::twin();
        let web = world.lab.web_addr_v4();
        let mut routers = Vec::new();
        for link in ["line0", "line1"] {
            let router = world.lab.link(link).expect("a link").gateway_v4.expect("an address");
            resolver(world.lab.provider(link).expect("a link"), router, web);
            routers.push(router.to_string());
        }
        system_resolvers(&world, &routers.iter().map(String::as_str).collect::<Vec<_>>());
        world.balance(&["--transparent"]);
        let ask = |resolver: &str, name: usize| {
            let server = format!("{resolver}:53");
            crate::web::ask_name(world.lab.client(), &server, &format!("host{name}.example"))
        };
        for name in 0..4 {
            assert_eq!(ask(&routers[0], name), Some(web));
        }
        world.lab.silence("line0").expect("a link");
        world.wait_state("line0", &["down"], seconds(20));
        if !has_ebpf() {
            // nftables redirects nothing: what is asked of the dead link's resolver is lost, and of the other's is not.
            assert_eq!(ask(&routers[1], 10), Some(web));
            return;
        }
        // Programs go on asking the dead link's router, and are answered by the other one.
        for name in 10..14 {
            assert_eq!(ask(&routers[0], name), Some(web));
        }
        // New resolvers are known as soon as the file says so: a question to the first one, where nobody is, is answered by the second.
        resolver(world.lab.web(), web, web);
        system_resolvers(&world, &["203.0.113.77", &web.to_string()]);
        until("the new resolvers are asked", seconds(10), || ask("203.0.113.77", 20) == Some(web));
    });
}
