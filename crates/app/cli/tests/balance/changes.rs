//! Links whose addresses change, links without a family, flows of machines behind this one: who is moved, closed, refused, listed.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

use bondwire_netns::Node;
use bondwire_scenario::Scenario;

use crate::lan::machine_behind;
use crate::support::{MEGABYTE, Process, in_lab, seconds, until};
use crate::web::echo_addresses;
use crate::world::{HTTP, PROXY, World};

const SOCKS: &str = "socks5h://127.0.0.1:1080";
const ECHO: u16 = 7777;

/// A proxy alone closes what is its own, and leaves other programs' sockets alone, even where it could close them.
#[test]
fn a_new_lease_resets_the_proxys_transfers_and_nobody_elses() {
    in_lab("changes::a_new_lease_resets_the_proxys_transfers_and_nobody_elses", || {
        let mut world = World::twin();
        world.configure("rules = [{ port = 80, link = \"line0\" }]");
        world.balance(&["--proxy", PROXY]);
        let url = world.url(HTTP, 500 * MEGABYTE);
        let own = world.address("line0").to_string();
        let mut direct = world.start_curl(&["--interface", &own, &url]);
        let mut proxied = world.start_curl(&["--proxy", SOCKS, &url]);
        until("both run", seconds(10), || world.web.count(world.address("line0")) == 2);
        world.lab.change_address("line0").expect("a link");
        until("the proxy's transfer is reset", seconds(5), || !proxied.is_running());
        assert!(direct.is_running(), "another program's socket is its own affair");
        world.web.forget();
        until("the new address is used", seconds(5), || {
            world.curl(&["--proxy", SOCKS, &world.url(HTTP, 1000)]);
            world.web.count(world.address("line0")) > 0
        });
    });
}

/// A client of the proxy's that sends datagrams.
struct Datagrams {
    /// The association lives as long as this.
    _control: TcpStream,
    socket: UdpSocket,
    head: Vec<u8>,
}

impl Datagrams {
    fn open(node: &Node, to: SocketAddr) -> Self {
        let (control, socket) = node.run(|| {
            let mut control = TcpStream::connect(PROXY).expect("the proxy");
            control.write_all(&[5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0]).expect("asked");
            let mut reply = [0; 12];
            control.read_exact(&mut reply).expect("answered");
            assert_eq!(reply[..4], [5, 0, 5, 0]);
            let port = u16::from_be_bytes([reply[10], reply[11]]);
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
            socket.connect(("127.0.0.1", port)).expect("the association");
            socket.set_read_timeout(Some(Duration::from_millis(200))).expect("set");
            (control, socket)
        });
        let IpAddr::V4(ip) = to.ip() else { unreachable!("the lab's web host has one") };
        let head = [&[0, 0, 0, 1][..], &ip.octets(), &to.port().to_be_bytes()].concat();
        Self { _control: control, socket, head }
    }

    /// The address that the remote sees of a datagram; none if it was lost.
    fn ask(&self) -> Option<String> {
        self.socket.send(&[&self.head[..], b"who"].concat()).expect("sent");
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[self.head.len()..length]).into_owned())
    }
}

/// The kernel calls a source address that is gone an invalid argument; the association's sockets are made anew.
#[test]
fn an_association_outlives_its_links_address() {
    in_lab("changes::an_association_outlives_its_links_address", || {
        let mut world = World::twin();
        echo_addresses(world.lab.web(), ECHO);
        // With a second link the flow would go on over that one.
        world.side.start(&["balance", "--proxy", PROXY, "--link", "line0"]);
        let client = Datagrams::open(world.lab.client(), (world.lab.web_addr_v4(), ECHO).into());
        let seen_from = |ip: IpAddr| client.ask().is_some_and(|seen| seen.contains(&ip.to_string()));
        until("datagrams pass", seconds(5), || seen_from(world.address("line0")));
        let before = world.address("line0");
        world.lab.change_address("line0").expect("a link");
        assert_ne!(world.address("line0"), before);
        until("they pass from the new address", seconds(5), || seen_from(world.address("line0")));
    });
}

/// Only the third link has IPv6.
const SIX: &str = r#"
    name = "six"
    [[links]]
    name = "line0"
    up = "50 Mbit/s"
    down = "50 Mbit/s"
    delay = "10 ms"
    [[links]]
    name = "line1"
    up = "50 Mbit/s"
    down = "50 Mbit/s"
    delay = "10 ms"
    [[links]]
    name = "line2"
    up = "50 Mbit/s"
    down = "50 Mbit/s"
    delay = "10 ms"
    v6 = true
"#;

/// A family that no link has leaves by none that is `never` to be used; by one that nobody spoke of it does.
#[test]
fn a_link_that_is_never_used_carries_no_ipv6_either() {
    in_lab("changes::a_link_that_is_never_used_carries_no_ipv6_either", || {
        let mut world = World::of(&Scenario::parse(SIX).expect("a scenario"));
        let v6 = format!("http://[{}]:{HTTP}/bytes/1000", world.lab.web_addr_v6());
        world.side.start(&[
            "balance",
            "--transparent",
            "--link",
            "line0",
            "--link",
            "line1",
            "--link",
            "line2:never",
        ]);
        let ended = world.start_curl(&["-g", &v6]).wait_end(seconds(40));
        assert_ne!(ended.code, Some(0), "{ended:?}");
        assert!(ended.took < seconds(5), "it is refused, and does not hang: {ended:?}");
        assert_eq!(world.curl(&[&world.url(HTTP, 1000)]), 1000);
        assert!(world.web.visits().iter().all(|visit| visit.from.is_ipv4()));
        world.side.stop().assert_done();
        world.side.start(&["balance", "--transparent", "--link", "line0", "--link", "line1"]);
        assert_eq!(world.curl(&["-g", &v6]), 1000, "left alone");
    });
}

#[test]
fn a_lans_flows_are_listed_with_their_link() {
    in_lab("changes::a_lans_flows_are_listed_with_their_link", || {
        let mut world = World::twin();
        let pc = machine_behind(world.lab.client());
        // Where the namespace may not count bytes, the flows are listed without.
        let counts = world
            .lab
            .client()
            .run(|| std::fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1").is_ok());
        world.balance(&["--lan", "lan0"]);
        let url = world.url(HTTP, 500 * MEGABYTE);
        let downloads: Vec<Process> = (0..2)
            .map(|_| {
                let mut command = Command::new("curl");
                command.args(["-sS", "-o", "/dev/null", "--noproxy", "*", "--max-time", "30", &url]);
                Process::start(&pc, command)
            })
            .collect();
        until("both are listed, each on its link", seconds(15), || {
            let sockets = world.side.control().sockets().expect("it runs").sockets;
            let theirs: Vec<_> = sockets.iter().filter(|socket| socket.way == "lan").collect();
            theirs.len() == 2
                && theirs.iter().all(|socket| {
                    socket.local.starts_with("192.168.77.2:")
                        && socket.protocol == "tcp"
                        && socket.link.is_some()
                        && (!counts || (socket.stage == "transferring" && socket.rx_bps > 1_000_000))
                })
                && theirs[0].link != theirs[1].link
        });
        let text = world.side.call(&["sockets"]).assert_done().stdout.clone();
        assert!(text.contains("192.168.77.2:"), "{text}");
        drop(downloads);
    });
}
