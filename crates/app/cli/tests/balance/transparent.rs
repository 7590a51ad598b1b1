//! The transparent way: programs that know nothing of it.
//!
//! The programs of the cgroup need root outside of a user namespace; elsewhere nftables does their work, and tests of what only they can
//! do are passed over.

use std::time::Instant;

use crate::support::{MEGABYTE, Process, in_lab, ms, seconds, until};
use crate::web::echo_addresses;
use crate::world::{HTTP, STICKY, Steadiness, World};

const ECHO: u16 = 7777;

/// Whether this process may load programs into the kernel: root of the first user namespace.
fn has_ebpf() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let is = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !is {
        println!("without root there is no eBPF: what only it can do is passed over");
    }
    is
}

#[test]
fn programs_are_spread_and_sites_keep_their_link() {
    in_lab("transparent::programs_are_spread_and_sites_keep_their_link", || {
        let mut world = World::twin();
        let before = world.side.snapshot();
        world.balance(&["--transparent"]);
        let url = world.url(HTTP, 1000);
        for _ in 0..20 {
            assert_eq!(world.curl(&[&url]), 1000);
        }
        let shares = world.shares();
        println!("shares: {shares:?}");
        assert!(shares.iter().all(|count| (8..=12).contains(count)), "{shares:?}");

        world.web.forget();
        let v6 = format!("http://[{}]:{HTTP}/bytes/1000", world.lab.web_addr_v6());
        for _ in 0..4 {
            assert_eq!(world.curl(&["-g", &v6]), 1000);
        }
        let from: Vec<_> = world.web.visits().iter().map(|visit| visit.from).collect();
        assert!(from.iter().all(|ip| ip.is_ipv6()) && from.iter().any(|ip| *ip != from[0]), "{from:?}");

        world.web.forget();
        let sticky = world.url(STICKY, 100);
        for _ in 0..6 {
            world.curl(&[&sticky]);
        }
        let mut shares = world.shares();
        shares.sort_unstable();
        assert_eq!(shares, [0, 6], "a login must not see two addresses");
        let ended = world.side.stop();
        ended.assert_done();
        assert!(ended.took <= seconds(2), "{:?}", ended.took);
        world.side.snapshot().assert_same(&before);
    });
}

#[test]
fn wget_and_several_connections_use_both_links() {
    in_lab("transparent::wget_and_several_connections_use_both_links", || {
        let mut world = World::twin();
        world.balance(&[]);
        let url = world.url(HTTP, 5 * MEGABYTE);
        let clients: Vec<Process> =
            (0..6).map(|_| world.start("wget", &["-q", "-O", "/dev/null", &url])).collect();
        for mut client in clients {
            client.wait_end(seconds(40)).assert_done();
        }
        let shares = world.shares();
        assert!(shares.iter().all(|count| *count >= 2), "{shares:?}");
        let status = world.side.status();
        assert!(status.links.iter().all(|link| link.bytes_rx > 10 * MEGABYTE), "{:?}", status.links);
    });
}

#[test]
fn a_client_with_several_connections_uses_both_links() {
    in_lab("transparent::a_client_with_several_connections_uses_both_links", || {
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        world.aria2(&[]);
    });
}

#[test]
fn sockets_are_listed_with_process_and_link() {
    in_lab("transparent::sockets_are_listed_with_process_and_link", || {
        if !has_ebpf() {
            return;
        }
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let url = world.url(HTTP, 500 * MEGABYTE);
        let curls: Vec<Process> = (0..2).map(|_| world.start_curl(&[&url])).collect();
        until("both are listed, and transfer", seconds(10), || {
            let sockets = world.side.control().sockets().expect("it runs").sockets;
            let ours: Vec<_> =
                sockets.iter().filter(|socket| socket.process.as_deref() == Some("curl")).collect();
            ours.len() == 2
                && ours.iter().all(|socket| {
                    socket.stage == "transferring"
                        && socket.rx_bps > 1_000_000
                        && socket.rtt_ms.is_some()
                        && socket.reason.as_deref() == Some("load")
                        && socket.link.is_some()
                        && curls.iter().any(|curl| Some(curl.id()) == socket.pid)
                })
                && ours[0].link != ours[1].link
        });
        let text = world.side.call(&["sockets"]).assert_done().stdout.clone();
        assert!(text.contains("curl (") && text.contains("line0") && text.contains("line1"), "{text}");
        let json = world.side.call(&["sockets", "--json"]).assert_done().stdout.clone();
        let json: serde_json::Value = serde_json::from_str(&json).expect("one object");
        assert_eq!(json["mode"], "balance");
    });
}

#[test]
fn a_silent_link_costs_new_sockets_little() {
    in_lab("transparent::a_silent_link_costs_new_sockets_little", || {
        // nftables leaves the first question to the kernel, which asks again after a second, and cannot tell which sockets are a dead link's.
        let ebpf = has_ebpf();
        let limit = if ebpf { ms(1_200) } else { ms(2_000) };
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let url = world.url(HTTP, 1000);
        let large = world.url(HTTP, 500 * MEGABYTE);
        let mut transfers: Vec<Process> = (0..4).map(|_| world.start_curl(&[&large])).collect();
        until("both links carry some", seconds(10), || world.shares().iter().sum::<usize>() == 4);
        let on_dead = world.shares()[0];
        assert!((1..=3).contains(&on_dead), "both links carry some: {on_dead} of 4");
        let steadiness = Steadiness::watch();
        world.lab.silence("line0").expect("a link");
        let died = Instant::now();
        let mut slow = Vec::new();
        while died.elapsed() < seconds(4) {
            let at = died.elapsed();
            let (ended, took) = world.time_curl(&steadiness, &["--connect-timeout", "5", &url]);
            if at >= seconds(1) {
                ended.assert_done();
            }
            if took.time > ms(400) {
                slow.push((at, took, ended.code));
            }
            took.assert_within(limit, &format!("a connect {at:?} after the death"));
        }
        println!("slow ones: {slow:?}");
        let over = transfers.iter_mut().map(Process::is_running).filter(|runs| !runs).count();
        assert!(over == on_dead || !ebpf, "transfers of the dead link are ended, the others go on");
        world.web.forget();
        for _ in 0..6 {
            world.curl(&[&url]);
        }
        assert_eq!(world.shares(), [0, 6]);
        world.lab.restore("line0").expect("a link");
        world.wait_share(&steadiness, "line0", || assert_eq!(world.curl(&[&url]), 1000));
    });
}

#[test]
fn transfers_of_a_dead_link_end_at_once() {
    in_lab("transparent::transfers_of_a_dead_link_end_at_once", || {
        if !has_ebpf() {
            return;
        }
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let large = world.url(HTTP, 500 * MEGABYTE);
        let mut transfers: Vec<Process> = (0..4).map(|_| world.start_curl(&[&large])).collect();
        until("all of them run", seconds(10), || world.shares().iter().sum::<usize>() == 4);
        let on_dead = world.shares()[1];
        assert!((1..=3).contains(&on_dead), "both links carry some: {:?}", world.shares());
        let mut ended = || transfers.iter_mut().map(Process::is_running).filter(|runs| !runs).count();
        assert_eq!(ended(), 0);
        let steadiness = Steadiness::watch();
        world.lab.silence("line1").expect("a link");
        let (took, timed) = steadiness
            .time(|| until("those of the dead link have ended", seconds(20), || ended() >= on_dead));
        println!("{on_dead} transfers ended {took:?} after their link's death");
        timed.assert_within(ms(1_200), "the end of a dead link's transfers");
        assert_eq!(ended(), on_dead, "the others go on");
    });
}

#[test]
fn a_site_whose_link_dies_moves_once() {
    in_lab("transparent::a_site_whose_link_dies_moves_once", || {
        let limit = if has_ebpf() { ms(1_200) } else { ms(2_000) };
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let url = world.url(STICKY, 100);
        assert_eq!(world.curl(&[&url]), 100);
        let (dead, other) = if world.shares()[0] == 1 { ("line0", "line1") } else { ("line1", "line0") };
        let steadiness = Steadiness::watch();
        world.web.forget();
        world.lab.silence(dead).expect("a link");
        let died = Instant::now();
        let mut last = Ok(());
        while died.elapsed() < seconds(3) {
            let at = died.elapsed();
            let (ended, took) = world.time_curl(&steadiness, &[&url]);
            took.assert_within(limit, &format!("a connect {at:?} after the death"));
            last = if ended.code == Some(0) { Ok(()) } else { Err(ended) };
            if at >= seconds(1) {
                assert!(last.is_ok(), "{last:?}");
            }
        }
        assert!(last.is_ok(), "{last:?}");
        world.wait_state(dead, &["down"], seconds(6));
        world.lab.restore(dead).expect("a link");
        world.wait_state(dead, &["active"], seconds(8));
        for _ in 0..4 {
            assert_eq!(world.curl(&[&url]), 100);
        }
        assert_eq!(world.web.count(world.address(dead)), 0, "it stays where it went");
        assert!(world.web.count(world.address(other)) > 4);
    });
}

#[test]
fn sockets_of_a_dead_link_can_be_kept() {
    in_lab("transparent::sockets_of_a_dead_link_can_be_kept", || {
        let mut world = World::twin();
        world.balance(&["--transparent", "--keep-sockets"]);
        let url = world.url(HTTP, 50 * MEGABYTE);
        let mut transfers: Vec<Process> = (0..2).map(|_| world.start_curl(&[&url])).collect();
        until("both run", seconds(10), || world.shares().iter().sum::<usize>() == 2);
        assert_eq!(world.shares(), [1, 1], "the link that is to die carries one");
        world.lab.silence("line0").expect("a link");
        world.wait_state("line0", &["down"], seconds(6));
        assert!(transfers.iter_mut().all(Process::is_running), "both are kept");
        world.lab.restore("line0").expect("a link");
        for mut transfer in transfers {
            transfer.wait_end(seconds(40)).assert_done();
        }
    });
}

#[test]
fn an_idle_link_that_dies_is_found_by_probes() {
    in_lab("transparent::an_idle_link_that_dies_is_found_by_probes", || {
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        world.wait_state("line1", &["active"], seconds(5));
        until("a target has answered over it", seconds(5), || {
            world.side.status().links.iter().any(|link| link.name == "line1" && link.rtt_ms.is_some())
        });
        let steadiness = Steadiness::watch();
        world.lab.silence("line1").expect("a link");
        let (took, timed) = steadiness.time(|| world.wait_state("line1", &["down"], seconds(20)));
        println!("found after {took:?}");
        timed.assert_within(seconds(3), "finding an idle link's death");
        world.lab.restore("line1").expect("a link");
        let (took, timed) = steadiness.time(|| world.wait_state("line1", &["active"], seconds(20)));
        println!("back after {took:?}");
        timed.assert_within(seconds(5), "taking an idle link back");
    });
}

#[test]
fn a_link_that_loses_its_carrier_is_left_at_once() {
    in_lab("transparent::a_link_that_loses_its_carrier_is_left_at_once", || {
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let url = world.url(HTTP, 1000);
        world.lab.carrier_loss("line0").expect("a link");
        world.wait_state("line0", &["down"], seconds(2));
        for _ in 0..6 {
            assert_eq!(world.curl(&["--connect-timeout", "2", &url]), 1000);
        }
        assert_eq!(world.shares(), [0, 6]);
        let steadiness = Steadiness::watch();
        world.lab.restore("line0").expect("a link");
        world.wait_share(&steadiness, "line0", || assert_eq!(world.curl(&[&url]), 1000));
    });
}

#[test]
fn sockets_of_an_address_that_is_lost_are_closed() {
    in_lab("transparent::sockets_of_an_address_that_is_lost_are_closed", || {
        if !has_ebpf() {
            return;
        }
        let mut world = World::twin();
        world.balance(&["--transparent"]);
        let large = world.url(HTTP, 500 * MEGABYTE);
        let mut transfers: Vec<Process> = (0..4).map(|_| world.start_curl(&[&large])).collect();
        until("all of them run", seconds(10), || world.shares().iter().sum::<usize>() == 4);
        let on_lost = world.shares()[0];
        world.lab.change_address("line0").expect("a link");
        let mut ended = || transfers.iter_mut().map(Process::is_running).filter(|runs| !runs).count();
        let took = until("those of the old address have ended", seconds(5), || ended() >= on_lost);
        println!("{on_lost} transfers ended {took:?} after their address was lost");
        assert_eq!(ended(), on_lost, "the others go on");
        world.web.forget();
        let url = world.url(HTTP, 1000);
        for _ in 0..8 {
            assert_eq!(world.curl(&[&url]), 1000);
        }
        let shares = world.shares();
        assert_eq!(shares.iter().sum::<usize>(), 8, "the new address is used");
        assert!(shares[0] > 0, "{shares:?}");
    });
}

#[test]
fn names_are_asked_over_the_links() {
    in_lab("transparent::names_are_asked_over_the_links", || {
        if !has_ebpf() {
            return;
        }
        let mut world = World::twin();
        let web = world.lab.web_addr_v4();
        world.configure(&format!("resolvers = [\"{web}\"]"));
        crate::web::resolver(world.lab.web(), web);
        crate::names::system_resolvers(&world, &["203.0.113.200"]);
        world.balance(&["--transparent"]);
        // The program asks somebody who is not there; the forwarder asks the links' resolvers.
        let ask = || crate::web::ask_name(world.lab.client(), "203.0.113.200:53", "www.example.org");
        assert_eq!(ask(), Some(web));
        let steadiness = Steadiness::watch();
        world.lab.silence("line0").expect("a link");
        for _ in 0..6 {
            let (answer, took) = steadiness.time(ask);
            assert_eq!(answer, Some(web));
            took.assert_within(ms(1_500), "a question after a link's death");
        }
    });
}

#[test]
fn datagrams_go_over_a_link() {
    in_lab("transparent::datagrams_go_over_a_link", || {
        if !has_ebpf() {
            return;
        }
        let mut world = World::twin();
        echo_addresses(world.lab.web(), ECHO);
        world.balance(&["--transparent"]);
        let web = world.lab.web_addr_v4();
        let mut seen = std::collections::BTreeMap::<String, usize>::new();
        for connected in [true, false].repeat(6) {
            let from = crate::web::ask_address(world.lab.client(), (web, ECHO).into(), connected)
                .expect("an answer");
            *seen.entry(from.ip().to_string()).or_default() += 1;
        }
        println!("{seen:?}");
        assert_eq!(seen.len(), 2, "both links carry some: {seen:?}");
        let open = world.lab.client().run(move || {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(b"where", (web, ECHO)).expect("sent");
            socket
        });
        until("a socket that never connects is listed", seconds(5), || {
            let sockets = world.side.control().sockets().expect("it runs").sockets;
            let remote = format!("{web}:{ECHO}");
            sockets.iter().any(|socket| {
                socket.protocol == "udp"
                    && socket.remote == remote
                    && socket.link.is_some()
                    && socket.process.is_some()
            })
        });
        drop(open);
    });
}

#[test]
fn nothing_is_left_behind() {
    in_lab("transparent::nothing_is_left_behind", || {
        let mut world = World::twin();
        let before = world.side.snapshot();
        for args in [&["--transparent"][..], &["--transparent", "--proxy", "127.0.0.1:1080"]] {
            world.balance(args);
            assert!(world.side.snapshot() != before, "a running daemon shows in the network");
            world.side.kill();
            let url = world.url(HTTP, 1000);
            assert_eq!(world.curl(&[&url]), 1000, "what a killed one leaves does not hinder");
            world.side.call(&["down"]).assert_done();
            world.side.snapshot().assert_same(&before);
        }
        world.balance(&["--transparent"]);
        world.side.kill();
        world.balance(&["--transparent"]);
        let url = world.url(HTTP, 1000);
        assert_eq!(world.curl(&[&url]), 1000);
        world.side.stop().assert_done();
        world.side.snapshot().assert_same(&before);
    });
}
