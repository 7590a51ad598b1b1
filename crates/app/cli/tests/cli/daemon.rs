//! The daemons on a private internet: their life, and how they explain what keeps them from it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bondwire_api::ControlClient;
use bondwire_netns::{Lab, LabOptions, Node, isolated_test};
use bondwire_scenario::Scenario;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{Place, Ran};

/// How long anything may take on a busy machine before it counts as not happening.
const PATIENCE: Duration = Duration::from_secs(30);
const PORT: u16 = 4433;

/// A lab with two links, `line0` and `line1`, a server that was made, and a client that has joined.
struct World {
    lab: Lab,
    server: Place,
    client: Place,
}

impl World {
    fn new() -> Self {
        let scenario = Scenario::builtin("twin").expect("it is built in");
        let options = LabOptions { realtime: false, ..LabOptions::default() };
        let lab = Lab::build(&scenario, options).expect("a lab");
        let world = Self { lab, server: Place::new(), client: Place::new() };
        let endpoint = format!("{}:{PORT}", world.lab.server_addr_v4());
        let made =
            world.server.run(&["server", "init", "--endpoint", &endpoint, "--network", "10.99.0.0/24"]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        set_device(&world.server, "server.toml", "#device = \"tun\"");
        join(&world.client, &world.invite("laptop", &[]));
        world
    }

    fn invite(&self, name: &str, args: &[&str]) -> String {
        let ran = self.server.run(&[&["server", "invite", name], args].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        ran.stdout.trim().to_owned()
    }

    fn serve(&self) -> Daemon {
        Daemon::start(self.lab.server(), self.server.command(&["server", "run"]))
    }

    fn up(&self, args: &[&str]) -> Daemon {
        Daemon::start(self.lab.client(), self.client.command(&[&["up"], args].concat()))
    }

    /// Runs a command on the client to its end.
    fn on_client(&self, place: &Place, args: &[&str]) -> Ran {
        run_on(self.lab.client(), place.command(args))
    }
}

fn join(place: &Place, invite: &str) {
    let ran = place.run(&["join", "--force", invite]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    set_device(place, "client.toml", "#device = \"tun\"");
}

/// Where the TUN device may not be opened (a user namespace), the other kind of device serves.
fn set_device(place: &Place, file: &str, line: &str) {
    if File::options().read(true).write(true).open("/dev/net/tun").is_ok() {
        return;
    }
    let path = place.path("etc").join(file);
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, text.replace(line, "device = \"packet\"")).expect("written");
}

/// Two clients on one machine need two tunnels.
fn name_tunnel(place: &Place, name: &str) {
    let path = place.path("etc/client.toml");
    let text = std::fs::read_to_string(&path).expect("a configuration");
    std::fs::write(&path, text.replace("#name = \"bondwire0\"", &format!("name = \"{name}\"")))
        .expect("written");
}

fn run_on(node: &Node, mut command: Command) -> Ran {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    Ran::from(node.spawn(command).expect("it starts").wait_with_output().expect("it ends"))
}

/// Routes, rules, devices and firewall of a machine, as an operator would look at them.
fn system(node: &Node) -> String {
    let commands = "ip route show table all; ip -6 route show table all; ip rule; ip -6 rule; ip -br link; nft list ruleset; \
                    cat /proc/sys/net/ipv4/ip_forward";
    let mut command = Command::new("sh");
    command.args(["-c", commands]);
    let ran = run_on(node, command);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "`ip` and `nft` are needed for this test");
    // What the kernel does for itself on every interface comes some time after the lab.
    let its_own = |line: &&str| !["fe80::", "anycast", "multicast"].iter().any(|word| line.contains(word));
    ran.stdout.lines().filter(its_own).collect::<Vec<_>>().join("\n")
}

/// A daemon in the foreground.
struct Daemon {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Daemon {
    /// Starts it, and waits for its line `ready`.
    fn start(node: &Node, mut command: Command) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = node.spawn(command).expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut daemon = Self { child, output };
        let mut line = String::new();
        // It ends by itself if it cannot get ready: then the line is empty.
        daemon.output.read_line(&mut line).expect("text");
        if line != "ready\n" {
            panic!("not ready: {line:?} {:?}", daemon.end());
        }
        daemon
    }

    fn kill(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has a number");
        kill_process(pid, signal).expect("it runs");
    }

    /// Waits for its end.
    fn end(self) -> Ran {
        Ran::from(self.child.wait_with_output().expect("it ends"))
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let since = Instant::now();
    while !condition() {
        assert!(since.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_bond_from_start_to_end() {
    isolated_test("daemon::a_bond_from_start_to_end", || {
        let world = World::new();
        let before = (system(world.lab.client()), system(world.lab.server()));
        let server = world.serve();
        let client = world.up(&["--mode", "speed", "--link", "line0", "--link", "line1"]);
        let control = ControlClient::new(world.client.path("sock"));
        until("both links are active", || {
            control.status().is_ok_and(|status| {
                status.links.len() == 2 && status.links.iter().all(|link| link.state == "active")
            })
        });
        let status = control.status().expect("it runs");
        assert_eq!((status.state.as_str(), status.inner_v4.as_deref()), ("connected", Some("10.99.0.2")));
        assert_eq!(world.client.run(&["mode", "redundant"]).code, Some(0));
        until("the mode is changed", || {
            control.status().is_ok_and(|status| status.mode == Some(bondwire_api::Mode::Redundant))
        });
        assert!(world.server.run(&["server", "clients"]).stdout.contains("connected"));
        // A server that was killed leaves things behind, and takes them away at its next start; its client comes back.
        server.kill(Signal::KILL);
        server.end();
        assert_ne!(system(world.lab.server()), before.1);
        let server = world.serve();
        let log_in = |place: &Place| ControlClient::new(place.path("sock")).clients().expect("a server");
        until("the client is back", || {
            log_in(&world.server)
                .clients
                .iter()
                .any(|client| client.state == bondwire_api::ClientState::Connected)
        });
        let second = world.on_client(&world.client, &["up"]);
        assert_eq!(second.code, Some(1));
        assert!(second.stderr.contains(&format!("(process {})", client.child.id())), "{}", second.stderr);
        // `down` ends a running client, and undoes what a killed one left.
        let down = world.on_client(&world.client, &["down"]);
        assert_eq!(down.code, Some(0), "{}", down.stderr);
        assert_eq!(client.end().code, Some(0));
        assert_eq!(system(world.lab.client()), before.0);
        let client = world.up(&[]);
        client.kill(Signal::KILL);
        client.end();
        assert_ne!(system(world.lab.client()), before.0);
        assert_eq!(world.on_client(&world.client, &["down"]).code, Some(0));
        assert_eq!(system(world.lab.client()), before.0);
        let since = Instant::now();
        server.kill(Signal::TERM);
        assert_eq!(server.end().code, Some(0));
        assert!(since.elapsed() < PATIENCE);
        assert_eq!(system(world.lab.server()), before.1);
    });
}

#[test]
fn refusals_are_explained() {
    isolated_test("daemon::refusals_are_explained", || {
        let world = World::new();
        let _server = world.serve();
        let refused = |place: &Place, words: &str| {
            let ran = world.on_client(place, &["up", "--wait", "20"]);
            assert_eq!(ran.code, Some(1), "{}", ran.stderr);
            assert!(ran.stderr.contains(words) && ran.stderr.contains("what to do:"), "{}", ran.stderr);
        };
        let used = world.invite("desk", &[]);
        join(&world.client, &used);
        let client = world.up(&[]);
        // The same invite on another machine.
        let other = Place::new();
        join(&other, &used);
        name_tunnel(&other, "other0");
        refused(&other, "used by another machine");
        // The same key on another machine.
        let copy = Place::new();
        let config = |place: &Place| place.path("etc");
        std::fs::create_dir(config(&copy)).expect("made");
        std::fs::copy(config(&world.client).join("client.key"), config(&copy).join("client.key"))
            .expect("copied");
        std::fs::copy(config(&world.client).join("client.toml"), config(&copy).join("client.toml"))
            .expect("copied");
        name_tunnel(&copy, "copy0");
        let twin = Daemon::start(world.lab.client(), copy.command(&["up", "--no-default-route"]));
        let replaced = client.end();
        assert_eq!(replaced.code, Some(1));
        assert!(replaced.stderr.contains("two machines have a copy"), "{}", replaced.stderr);
        // Its access ends while it is connected.
        assert_eq!(world.server.run(&["server", "revoke", "desk"]).code, Some(0));
        let revoked = twin.end();
        assert_eq!(revoked.code, Some(1));
        assert!(revoked.stderr.contains("revoked"), "{}", revoked.stderr);
        refused(&world.client, "revoked");
        // An invite that is too old, and one that is no longer.
        let late = world.invite("late", &["--expires", "1s"]);
        join(&world.client, &late);
        until("the invite is over", || world.server.run(&["server", "clients"]).stdout.contains("expired"));
        std::thread::sleep(Duration::from_millis(1_100));
        refused(&world.client, "expired");
        let fresh = world.invite("late", &[]);
        refused(&world.client, "does not know this client");
        join(&world.client, &fresh);
        let client = world.up(&[]);
        client.kill(Signal::INT);
        assert_eq!(client.end().code, Some(0));
    });
}

#[test]
fn obstacles_are_explained() {
    isolated_test("daemon::obstacles_are_explained", || {
        let world = World::new();
        let before = system(world.lab.client());
        let fails = |ran: Ran, code: i32, words: &[&str]| {
            assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
            for word in words.iter().chain(&["what to do:"]) {
                assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
            }
        };
        let up = |args: &[&str]| world.on_client(&world.client, &[&["up"], args].concat());
        fails(up(&["--link", "lime0"]), 2, &["there is no link `lime0`", "did you mean `line0`?", "line1"]);
        // Nobody answers: all links are named.
        fails(up(&["--wait", "2"]), 4, &["no connection", "`line0`: tried", "`line1`: tried", "no answer"]);
        // Nor is there anybody behind a name that does not exist.
        let config = world.client.path("etc/client.toml");
        let text = std::fs::read_to_string(&config).expect("text");
        let elsewhere =
            text.replace("#endpoints = [\"vpn.example.org:4433\"]", "endpoints = [\"nowhere.invalid:4433\"]");
        std::fs::write(&config, elsewhere).expect("written");
        fails(up(&["--wait", "2"]), 4, &["nowhere.invalid"]);
        // A right is missing, though the user is root.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set=-net_admin", "--inh-caps=-all"]).arg(env!("CARGO_BIN_EXE_bondwire"));
        command.args(world.client.command(&["up"]).get_args());
        fails(run_on(world.lab.client(), command), 3, &["no permission", "CAP_NET_ADMIN"]);
        // There is no TUN device.
        std::fs::write(&config, "[tunnel]\ndevice = \"tun\"\n").expect("written");
        let mut command = Command::new("unshare");
        let hide = "[ ! -d /dev/net ] || mount -t tmpfs none /dev/net; exec \"$@\"";
        command.args(["--mount", "sh", "-c", hide, "sh"]).arg(env!("CARGO_BIN_EXE_bondwire"));
        command.args(world.client.command(&["up"]).get_args());
        fails(run_on(world.lab.client(), command), 1, &["/dev/net/tun is missing", "modprobe tun"]);
        std::fs::write(&config, &text).expect("written");
        assert_eq!(system(world.lab.client()), before);
        // A link loses its address.
        let mut command = Command::new("ip");
        command.args(["address", "flush", "dev", "line1"]);
        assert_eq!(run_on(world.lab.client(), command).code, Some(0));
        fails(up(&["--link", "line1"]), 1, &["link `line1` has no address"]);
        assert_ne!(system(world.lab.client()), before, "its routes went with the address");
        let before = system(world.lab.server());
        // The server's port is taken, by a process that is named.
        let mut command = world.server.command(&["server", "run"]);
        let other = world.lab.server().run(|| std::net::UdpSocket::bind(("0.0.0.0", PORT))).expect("a port");
        command.env_remove("RUST_LOG");
        fails(
            run_on(world.lab.server(), command),
            1,
            &["UDP port 4433 is in use", &format!("(process {})", std::process::id())],
        );
        drop(other);
        assert_eq!(system(world.lab.server()), before);
    });
}
