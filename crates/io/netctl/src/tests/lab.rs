//! Namespaces, commands in them, and pictures of their state.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

/// Set in the process that runs inside the namespace, to the test's name.
const INSIDE: &str = "BONDWIRE_TEST_INSIDE";

/// Runs `body` in a fresh network namespace: starts this program again under `unshare`, for that one test.
///
/// An ordinary user without user namespaces cannot have one, and only then is the test passed over.
pub(super) fn in_namespace(test: &str, body: impl FnOnce()) {
    if std::env::var(INSIDE).is_ok_and(|name| name == test) {
        run("ip link set lo up");
        body();
        return;
    }
    let arguments = if is_root() { ["-n"].as_slice() } else { &["-U", "-r", "-n"] };
    if !is_root() && !Command::new("unshare").args(arguments).arg("true").status().unwrap().success() {
        eprintln!("{test} needs root or user namespaces");
        return;
    }
    let status = Command::new("unshare")
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, test)
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed inside its namespace");
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").unwrap().lines().any(|line| line.starts_with("Uid:\t0\t"))
}

/// Runs a command line, split at blanks, and gives what it printed.
pub(super) fn run(line: &str) -> String {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "`{line}`: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Everything that bondwire may change, as text.
pub(super) fn picture() -> String {
    let mut text = String::new();
    for line in [
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
        "ip -brief link",
        "ip -brief address",
        "nft list ruleset",
        "cat /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv6/conf/all/forwarding",
    ] {
        text.push_str(&format!("# {line}\n{}", run(line)));
    }
    text
}

/// Compares two pictures, and shows the lines that differ.
pub(super) fn assert_same(before: &str, after: &str) {
    let missing: Vec<&str> =
        before.lines().filter(|line| !after.lines().any(|other| other == *line)).collect();
    let left: Vec<&str> = after.lines().filter(|line| !before.lines().any(|other| other == *line)).collect();
    assert!(before == after, "missing: {missing:#?}\nleft behind: {left:#?}");
}

/// A second namespace, alive for as long as this value: a process that waits for the end of its input.
pub(super) struct Elsewhere {
    child: Child,
    _input: ChildStdin,
}

impl Elsewhere {
    pub(super) fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["-n", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let input = child.stdin.take().unwrap();
        let elsewhere = Self { child, _input: input };
        elsewhere.run("ip link set lo up");
        elsewhere
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn run(&self, line: &str) -> String {
        run(&format!("nsenter -t {} -n {line}", self.pid()))
    }

    /// Starts this test program in the namespace, for one of its tests, and waits for its first line.
    pub(super) fn start_self(&self, test: &str) -> Child {
        let mut child = Command::new("nsenter")
            .args(["-t", &self.pid().to_string(), "-n"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(INSIDE, test)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().ends_with("ready")), "{test} did not start");
        child
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process was started for that test.
pub(super) fn is_inside(test: &str) -> bool {
    std::env::var(INSIDE).is_ok_and(|name| name == test)
}

/// A client with two links, each to its own side of a router that also has the address 203.0.113.1 (2001:db8:f::1).
///
/// Links are `wan0` and `wan1`, 10.1.N.2 and 2001:db8:N::2, the gateways end in 1; both have a default route in `main`, `wan0`'s is preferred.
pub(super) fn two_links() -> Elsewhere {
    let router = Elsewhere::new();
    for conf in ["default", "lo"] {
        for run_in in [&run as &dyn Fn(&str) -> String, &|line| router.run(line)] {
            run_in(&format!("sysctl -qw net.ipv6.conf.{conf}.accept_dad=0"));
            run_in(&format!("sysctl -qw net.ipv6.conf.{conf}.addr_gen_mode=1"));
        }
    }
    for link in 0..2 {
        run(&format!("ip link add wan{link} type veth peer name isp{link} netns {}", router.pid()));
        run(&format!("ip address add 10.1.{link}.2/24 dev wan{link}"));
        run(&format!("ip address add 2001:db8:{link}::2/64 dev wan{link} nodad"));
        run(&format!("ip link set wan{link} up"));
        router.run(&format!("ip address add 10.1.{link}.1/24 dev isp{link}"));
        router.run(&format!("ip address add 2001:db8:{link}::1/64 dev isp{link} nodad"));
        router.run(&format!("ip link set isp{link} up"));
        run(&format!("ip route add default via 10.1.{link}.1 dev wan{link} metric {}", 100 + link));
        run(&format!("ip -6 route add default via 2001:db8:{link}::1 dev wan{link} metric {}", 100 + link));
    }
    settle(&["wan0", "wan1"]);
    router.run("ip address add 203.0.113.1/32 dev lo");
    router.run("ip address add 2001:db8:f::1/128 dev lo nodad");
    router
}

/// A device that stands for the tunnel: nothing in it ever answers.
pub(super) fn tunnel_stand_in() {
    run("ip link add bwtun type veth peer name bwpeer");
    run("ip address add 10.99.0.2/24 dev bwtun");
    run("ip address add fd99::2/64 dev bwtun nodad");
    run("ip link set bwtun up");
    run("ip link set bwpeer up");
    settle(&["bwtun", "bwpeer"]);
}

/// Waits until the kernel has told itself of the carrier of these devices, which it does a little later than it answers.
fn settle(devices: &[&str]) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (routes, links) = (run("ip -6 route show table local"), run("ip -brief link"));
        let ready = |device: &&str| routes.contains(&format!("multicast ff00::/8 dev {device} "));
        if devices.iter().all(ready) && !links.contains("NO-CARRIER") {
            return;
        }
        assert!(Instant::now() < deadline, "the links do not come up:\n{links}{routes}");
    }
}
