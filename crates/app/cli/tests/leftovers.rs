//! However a daemon ends, the machine's network is as before: at once, or at the latest after the next start or `down`.
#![forbid(unsafe_code)]

mod support;

use std::process::Command;

use bondwire_netns::traffic::Direction;
use bondwire_netns::{LabOptions, Node};
use rustix::process::Signal;
use support::{Bond, Ended, MEGABYTE, Options, Process, Snapshot, assert_whole, in_lab, seconds};

/// What is promised for SIGINT and SIGTERM.
#[track_caller]
fn assert_quick(ended: &Ended) {
    ended.assert_done();
    assert!(ended.took <= seconds(2), "it took {:?} to end", ended.took);
}

#[track_caller]
fn assert_changed(now: &Snapshot, before: &Snapshot) {
    assert!(now != before, "a running daemon shows in the network");
    assert!(now.contains("bondwire0"));
}

#[test]
fn a_client_leaves_nothing_behind() {
    in_lab("a_client_leaves_nothing_behind", || {
        let mut bond = Bond::profile("twin", Options { inside_v6: true, ..Options::default() });
        let before = bond.client.snapshot();
        bond.start_server();
        for signal in [Signal::TERM, Signal::INT] {
            bond.start_client();
            bond.client.wait_active(2);
            assert_changed(&bond.client.snapshot(), &before);
            assert_quick(&bond.client.end(signal));
            bond.client.snapshot().assert_same(&before);
        }

        bond.start_client();
        bond.client.wait_active(2);
        bond.client.kill();
        assert!(
            bond.client.snapshot() != before,
            "`kill -9` leaves rules behind, or this test tests nothing"
        );
        let down = bond.client.call(&["down"]);
        assert!(down.assert_done().stdout.starts_with("undid "), "{down:?}");
        bond.client.snapshot().assert_same(&before);
        assert_eq!(
            bond.client.call(&["down"]).assert_done().stdout,
            "bondwire was not running, and left nothing to undo"
        );

        bond.start_client();
        bond.client.kill();
        bond.start_client();
        bond.client.wait_active(2);
        assert_whole(&bond.transfer(Direction::Down, MEGABYTE).finish().expect("a transfer"), MEGABYTE);
        let pid = bond.client.process().id();
        let down = bond.client.call(&["down"]);
        assert_eq!(down.assert_done().stdout, format!("stopped bondwire (process {pid})"));
        bond.client.process().wait_end(seconds(1)).assert_done();
        bond.client.snapshot().assert_same(&before);
    });
}

#[test]
fn a_server_leaves_nothing_behind() {
    in_lab("a_server_leaves_nothing_behind", || {
        let lab = LabOptions { server_forwards: false, ..LabOptions::default() };
        let mut bond =
            Bond::profile("twin", Options { inside_v6: true, nat: true, lab, ..Options::default() });
        let before = bond.server.snapshot();
        bond.start_server();
        assert_changed(&bond.server.snapshot(), &before);
        assert_quick(&bond.server.stop());
        bond.server.snapshot().assert_same(&before);

        bond.start_server();
        bond.server.kill();
        assert!(
            bond.server.snapshot() != before,
            "`kill -9` leaves rules behind, or this test tests nothing"
        );
        bond.server.call(&["down"]).assert_done();
        bond.server.snapshot().assert_same(&before);

        bond.start_server();
        bond.server.kill();
        bond.start_server();
        bond.start_client();
        assert_whole(&bond.transfer(Direction::Down, MEGABYTE).finish().expect("a transfer"), MEGABYTE);
        assert_quick(&bond.server.stop());
        bond.server.snapshot().assert_same(&before);
    });
}

/// What other VPNs put in place: WireGuard's wg-quick takes all that has not its mark, Tailscale has rules with marks.
fn other_vpns(node: &Node) {
    for line in [
        "link add vpn0 type veth peer name vpn0-peer",
        "link set vpn0 up",
        "link set vpn0-peer up",
        "address add 10.8.0.2/24 dev vpn0",
        "route add default dev vpn0 table 51820",
        "rule add not fwmark 51820 table 51820 priority 32764",
        "rule add table main suppress_prefixlength 0 priority 32763",
        "rule add fwmark 0x80000/0xff0000 table main priority 5210",
        "rule add fwmark 0x80000/0xff0000 unreachable priority 5250",
        "rule add table 52 priority 5270",
        "route add 100.100.100.100 dev vpn0 table 52",
    ] {
        let mut command = Command::new("ip");
        command.args(line.split(' '));
        Process::start(node, command).wait_end(seconds(5)).assert_done();
    }
}

#[test]
fn it_works_beside_other_vpns_and_strict_reverse_path_filters() {
    in_lab("it_works_beside_other_vpns_and_strict_reverse_path_filters", || {
        let lab = LabOptions { rp_filter: 1, ..LabOptions::default() };
        let mut bond = Bond::profile("twin", Options { lab, ..Options::default() });
        bond.start_server();
        other_vpns(bond.client.node());
        let before = bond.client.snapshot();
        bond.start_client();
        bond.client.wait_active(2);
        let during = bond.client.snapshot();
        for view in ["ip -4 rule", "ip -4 route show table all"] {
            for line in before.view(view) {
                assert!(during.view(view).contains(line), "gone: {line}");
            }
        }
        for direction in [Direction::Down, Direction::Up] {
            let transfer = bond.transfer(direction, 10 * MEGABYTE);
            assert_whole(&transfer.finish().expect("a transfer"), 10 * MEGABYTE);
        }
        for link in ["line0", "line1"] {
            let (rx, tx) = bond.client.carried(link);
            assert!(rx > 2 * MEGABYTE && tx > 2 * MEGABYTE, "{link}: {rx} received, {tx} sent");
        }
        assert_quick(&bond.client.stop());
        bond.client.snapshot().assert_same(&before);
    });
}

#[test]
fn without_a_default_route_only_the_servers_network_is_in_the_bond() {
    in_lab("without_a_default_route_only_the_servers_network_is_in_the_bond", || {
        let mut bond = Bond::profile("twin", Options::default());
        bond.start_server();
        let before = bond.client.snapshot();
        bond.client.start(&["up", "--no-default-route"]);
        bond.client.wait_active(2);
        assert_whole(&bond.transfer(Direction::Down, MEGABYTE).finish().expect("a transfer"), MEGABYTE);
        let (rx, _) = ["line0", "line1"]
            .map(|link| bond.client.carried(link))
            .into_iter()
            .fold((0, 0), |sum, link| (sum.0 + link.0, sum.1 + link.1));
        assert!(rx < MEGABYTE / 2, "{rx} bytes of it came through the bond");
        assert_quick(&bond.client.stop());
        bond.client.snapshot().assert_same(&before);
    });
}
