//! Who may connect, who is connected, and what ends it.
#![forbid(unsafe_code)]

mod support;

use std::fs;
use std::net::{IpAddr, SocketAddr};

use bondwire_api::{ClientState, Mode};
use bondwire_netns::Node;
use bondwire_netns::traffic::{Bulk, BulkOptions, Direction, Probe, ProbeOptions};
use support::{Bond, MEGABYTE, Options, Side, assert_whole, in_lab, ms, seconds, until};

const UP: [&str; 3] = ["up", "--wait", "15"];

#[test]
fn a_client_and_its_sockets_survive_a_restart_of_the_server() {
    in_lab("a_client_and_its_sockets_survive_a_restart_of_the_server", || {
        let mut bond = Bond::profile("twin", Options::default()).started();
        let options = BulkOptions { limit: seconds(60), ..BulkOptions::default() };
        let transfer = Bulk::start(bond.lab.client(), &bond.web, options).expect("a transfer");
        for killed in [true, false] {
            let least = transfer.received() + 5 * MEGABYTE;
            until("data flows", seconds(20), || transfer.received() > least);
            if killed {
                bond.server.kill();
            } else {
                bond.server.stop().assert_done();
            }
            let mark = bond.client.process().mark();
            bond.start_server();
            let back = bond.client.process().wait_log(mark, "connected as", seconds(5));
            let least = transfer.received() + MEGABYTE;
            let flows =
                until("the same socket's data flows again", seconds(15), || transfer.received() > least);
            println!(
                "killed: {killed}; the client is back after {back:?}, its download after {flows:?} more"
            );
        }
        transfer.stop();
        let report = transfer.finish().expect("a transfer");
        assert!(report.error.is_none() && report.intact, "{:?}", report.error);
        bond.kept_up();
    });
}

#[test]
fn sockets_that_go_through_a_bond_are_listed() {
    in_lab("sockets_that_go_through_a_bond_are_listed", || {
        let bond = Bond::profile("twin", Options::default()).started();
        let transfer = bond.transfer(Direction::Down, 60 * MEGABYTE);
        let listed = || {
            let sockets = bond.client.control().sockets().expect("it runs");
            assert_eq!(sockets.mode, Some(Mode::Speed));
            sockets.sockets.into_iter().find(|socket| socket.bytes_rx > MEGABYTE)
        };
        until("the download is listed", seconds(10), || listed().is_some());
        // A rate is what was moved since the question before.
        until("with its rate", seconds(10), || listed().is_some_and(|socket| socket.rx_bps > 0));
        let socket = listed().expect("it runs");
        assert_eq!((socket.way.as_str(), socket.protocol.as_str(), socket.link), ("bond", "tcp", None));
        assert_eq!(socket.pid, Some(std::process::id()));
        assert!(socket.local.starts_with("10.99.0.2:"), "{}", socket.local);
        assert_whole(&transfer.finish().expect("a transfer"), 60 * MEGABYTE);
        let fault = bond.server.control().sockets().expect_err("a server has none");
        assert!(fault.what_to_do.contains("on the client"), "{fault}");
        let fault = bond.client.control().set_mode(Mode::Balance).expect_err("no mode of a bond");
        assert!(fault.what_to_do.contains("bondwire balance"), "{fault}");
    });
}

/// A probe of 40 packets between two machines, which ends 300 ms after the last one.
fn probe(from: &Node, to: &Node, address: &str) -> (u64, u64) {
    let address: IpAddr = address.split('/').next().and_then(|text| text.parse().ok()).expect("an address");
    let options = ProbeOptions { duration: ms(200), patience: ms(300), ..ProbeOptions::default() };
    let probe = Probe::start(from, to, SocketAddr::new(address, 0), options).expect("a probe");
    let report = probe.finish().expect("a probe");
    (report.sent, report.lost())
}

#[test]
fn two_clients_share_a_server_and_do_not_reach_each_other() {
    in_lab("two_clients_share_a_server_and_do_not_reach_each_other", || {
        let bond = Bond::profile("twin", Options::default()).started();
        let (host, mut second) = bond.add_side("second");
        bond.join(&second, &bond.invite("second"));
        second.start(&UP);
        let is_connected = || {
            let clients = bond.server.control().clients().expect("the server answers").clients;
            clients.iter().map(|client| client.state).collect::<Vec<_>>() == [ClientState::Connected; 2]
        };
        until("the server shows both as connected", seconds(2), is_connected);

        let nodes = [bond.lab.client(), &host.node];
        let transfers = nodes.map(|node| {
            let options =
                BulkOptions { bytes: Some(10 * MEGABYTE), limit: seconds(30), ..BulkOptions::default() };
            Bulk::start(node, &bond.web, options).expect("a transfer")
        });
        for transfer in transfers {
            assert_whole(&transfer.finish().expect("a transfer"), 10 * MEGABYTE);
        }
        let (rx, _) = second.carried("eth0");
        assert!(rx > 10 * MEGABYTE, "{rx} bytes came through the second bond");

        let inner = [&bond.client, &second].map(|side| side.status().inner_v4.expect("an address"));
        assert_ne!(inner[0], inner[1]);
        for (from, to, address) in [(0, 1, &inner[1]), (1, 0, &inner[0])] {
            let (sent, lost) = probe(nodes[from], nodes[to], address);
            assert_eq!(lost, sent, "client {from} reaches client {to}");
            assert_eq!(
                probe(nodes[from], bond.lab.server(), "10.99.0.1").1,
                0,
                "client {from} reaches the server"
            );
            assert_eq!(
                probe(bond.lab.server(), nodes[from], &inner[from]).1,
                0,
                "the server reaches client {from}"
            );
        }
    });
}

#[test]
fn two_machines_with_one_key_are_told_so() {
    in_lab("two_machines_with_one_key_are_told_so", || {
        let mut bond = Bond::profile("twin", Options::default());
        let before = bond.client.snapshot();
        bond.start_server();
        bond.start_client();
        let (host, mut copy) = bond.add_side("copy");
        copy_folder(&bond.client, &copy);
        copy.start(&UP);
        let ended = bond.client.process().wait_end(seconds(5));
        ended.assert_failed(1, &["another machine has taken over", "same key", "invite"]);
        bond.client.snapshot().assert_same(&before);
        let options = BulkOptions { bytes: Some(MEGABYTE), ..BulkOptions::default() };
        let transfer = Bulk::start(&host.node, &bond.web, options).expect("a transfer");
        assert_whole(&transfer.finish().expect("a transfer"), MEGABYTE);
    });
}

fn copy_folder(from: &Side, to: &Side) {
    fs::create_dir_all(to.path("config")).expect("a folder");
    for entry in fs::read_dir(from.path("config")).expect("a folder").flatten() {
        fs::copy(entry.path(), to.path("config").join(entry.file_name())).expect("copied");
    }
}

#[test]
fn a_revoked_client_is_out_at_once() {
    in_lab("a_revoked_client_is_out_at_once", || {
        let mut bond = Bond::profile("twin", Options::default());
        let before = bond.client.snapshot();
        let mut bond = {
            bond.start_server();
            bond.start_client();
            bond
        };
        let transfer = bond.transfer(Direction::Down, 500 * MEGABYTE);
        until("data flows", seconds(10), || transfer.received() > MEGABYTE);
        let mark = bond.server.process().mark();
        bond.server.call(&["server", "revoke", "client"]).assert_done();
        let gone = bond.server.process().wait_log(mark, "client `client` is gone", seconds(1));
        let ended = bond.client.process().wait_end(seconds(2));
        println!("the session ended {gone:?} after the command, the client after {:?} more", ended.took);
        ended.assert_failed(1, &["revoked", "new invite"]);
        transfer.stop();
        bond.client.snapshot().assert_same(&before);

        let up = bond.up();
        let again = bond.client.call(&up.iter().map(String::as_str).collect::<Vec<_>>());
        again.assert_failed(1, &["revoked", "new invite"]);
        bond.client.snapshot().assert_same(&before);
        let state = bond.server.control().clients().expect("the server answers").clients[0].state;
        assert_eq!(state, ClientState::Revoked);
    });
}

#[test]
fn invites_that_do_not_count_are_told_why() {
    in_lab("invites_that_do_not_count_are_told_why", || {
        let mut bond = Bond::profile("twin", Options::default());
        bond.start_server();

        let short = bond.server.call(&["server", "invite", "late", "--expires", "1s"]);
        let late = short.assert_done().stdout.trim().to_owned();
        let (_, mut first) = bond.add_side("first");
        let invite = bond.invite("shared");
        bond.join(&first, &invite);
        first.start(&UP);
        first.stop().assert_done();
        let (_, second) = bond.add_side("second");
        bond.join(&second, &invite);
        second.call(&UP).assert_failed(1, &["used by another machine", "new invite"]);
        first.start(&UP);
        first.stop().assert_done();

        let state = |name: &str| {
            let clients = bond.server.control().clients().expect("the server answers").clients;
            clients.iter().find(|client| client.name == name).map(|client| client.state)
        };
        until("the invite has expired", seconds(5), || state("late") == Some(ClientState::Expired));
        let (_, third) = bond.add_side("third");
        bond.join(&third, &late);
        third.call(&UP).assert_failed(1, &["expired", "new invite"]);

        fs::remove_file(bond.server.path("config/clients/shared.toml")).expect("a file");
        until("the client is forgotten", seconds(5), || state("shared").is_none());
        first.call(&UP).assert_failed(1, &["does not know this client", "new invite"]);
    });
}
