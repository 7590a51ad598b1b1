//! What goes wrong on real machines, and what bondwire says then: what, why, what to do. Nothing is left behind.
#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;
use support::{Bond, Ended, MEGABYTE, Options, Process, assert_whole, in_lab, seconds};

/// Runs a command on a machine.
#[track_caller]
fn run(node: &Node, line: &str) -> Ended {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a word"));
    command.args(words);
    let ended = Process::start(node, command).wait_end(seconds(5));
    ended.assert_done();
    ended
}

#[test]
fn a_port_in_use_names_who_holds_it() {
    in_lab("a_port_in_use_names_who_holds_it", || {
        let bond = Bond::profile("twin", Options::default());
        let before = bond.server.snapshot();
        let _holder = bond.lab.server().run(|| UdpSocket::bind("0.0.0.0:4433")).expect("a socket");
        let ended = bond.server.call(&["server", "run"]);
        let pid = std::process::id();
        ended
            .assert_failed(1, &["4433", &format!("(process {pid})"), &format!("kill {pid}"), "another port"]);
        bond.server.snapshot().assert_same(&before);
    });
}

#[test]
fn a_silent_server_is_told_by_links() {
    in_lab("a_silent_server_is_told_by_links", || {
        let mut bond = Bond::profile("twin", Options::default());
        let before = bond.client.snapshot();
        let silent = |bond: &Bond| {
            let ended = bond.client.call(&["up", "--wait", "2"]);
            let tried = [
                "198.51.100.10:4433",
                "link `line0`: tried ",
                "link `line1`: tried ",
                "no answer",
                "firewall",
            ];
            ended.assert_failed(4, &tried);
            bond.client.snapshot().assert_same(&before);
        };
        silent(&bond);

        // A server that was set up anew has another key.
        bond.start_server();
        let (_, anew) = bond.add_side("anew");
        bond.init_server(&anew);
        let invite = anew.call(&["server", "invite", "client"]).assert_done().stdout.clone();
        bond.client.call(&["join", "--force", invite.trim()]).assert_done();
        bond.client.configure("client.toml", "");
        silent(&bond);
        bond.server.stop().assert_done();
    });
}

#[test]
fn links_that_cannot_be_used_are_told() {
    in_lab("links_that_cannot_be_used_are_told", || {
        let bond = Bond::profile("twin", Options::default());
        run(bond.client.node(), "ip link add bare0 type veth peer name bare1");
        run(bond.client.node(), "ip link set bare1 up");
        let before = bond.client.snapshot();
        let up = |link: &str| bond.client.call(&["up", "--wait", "5", "--link", link]);
        up("lime0").assert_failed(2, &["no link `lime0`", "did you mean `line0`", "line0, line1"]);
        up("bare0").assert_failed(1, &["link `bare0` is switched off"]);
        bond.client.snapshot().assert_same(&before);
        run(bond.client.node(), "ip link set bare0 up");
        up("bare0").assert_failed(1, &["link `bare0` has no address"]);
        bond.lab.carrier_loss("line0").expect("a link");
        up("line0").assert_failed(1, &["link `line0` is not connected"]);
    });
}

#[test]
fn a_second_instance_is_refused_and_does_no_harm() {
    in_lab("a_second_instance_is_refused_and_does_no_harm", || {
        let mut bond = Bond::profile("twin", Options::default()).started();
        let during = bond.client.snapshot();
        let pid = format!("process {}", bond.client.process().id());
        bond.client.call(&["up"]).assert_failed(1, &["running already", &pid, "bondwire down"]);
        let other = bond.add_side_at_client("other");
        bond.join(&other, &bond.invite("other"));
        other.call(&["up", "--wait", "5"]).assert_failed(1, &["bondwire0", "taken"]);
        bond.server.call(&["server", "run"]).assert_failed(1, &["running already"]);
        bond.client.snapshot().assert_same(&during);
        let transfer = bond.transfer(Direction::Down, MEGABYTE);
        assert_whole(&transfer.finish().expect("a transfer"), MEGABYTE);
        bond.client.stop().assert_done();
    });
}

#[test]
fn without_a_tun_device_it_says_how_to_get_one() {
    in_lab("without_a_tun_device_it_says_how_to_get_one", || {
        let bond = Bond::profile("twin", Options::default());
        if Path::new("/dev/net").exists() {
            run(bond.client.node(), "mount -t tmpfs none /dev/net");
        }
        let before = bond.client.snapshot();
        fs::write(bond.client.path("config/client.toml"), "[tunnel]\ndevice = \"tun\"\n").expect("written");
        let ended = bond.client.call(&["up", "--wait", "5"]);
        ended.assert_failed(1, &["/dev/net/tun is missing", "modprobe tun"]);
        bond.client.snapshot().assert_same(&before);
    });
}

#[test]
fn without_the_right_to_change_the_network_it_says_what_is_missing() {
    in_lab("without_the_right_to_change_the_network_it_says_what_is_missing", || {
        let bond = Bond::profile("twin", Options::default());
        for (side, args) in [(&bond.client, &["up", "--wait", "5"][..]), (&bond.server, &["server", "run"])] {
            let before = side.snapshot();
            let program = &bond.options.program;
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]).arg(program);
            side.complete(&mut command, args);
            let ended = Process::start(side.node(), command).wait_end(seconds(10));
            ended.assert_failed(3, &["no permission", "root"]);
            side.snapshot().assert_same(&before);
        }
    });
}
