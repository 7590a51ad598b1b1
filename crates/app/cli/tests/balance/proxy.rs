//! The way through the proxy: curl and wget over SOCKS5 and HTTP, names, a link that dies.

use std::process::Command;
use std::time::Instant;

use bondwire_api::Mode;
use rustix::process::Signal;

use crate::support::{MEGABYTE, Process, in_lab, ms, seconds, until};
use crate::world::{HTTP, PROXY, STICKY, Steadiness, World};

const SOCKS: &str = "socks5h://127.0.0.1:1080";
const WEB_PROXY: &str = "http://127.0.0.1:1080";

#[test]
fn clients_of_all_kinds_are_spread() {
    in_lab("proxy::clients_of_all_kinds_are_spread", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        let url = world.url(HTTP, 1000);
        for _ in 0..10 {
            assert_eq!(world.curl(&["--proxy", SOCKS, &url]), 1000);
            assert_eq!(world.curl(&["--proxy", WEB_PROXY, &url]), 1000);
            assert_eq!(world.curl(&["--proxy", WEB_PROXY, "--proxytunnel", &url]), 1000);
        }
        let shares = world.shares();
        println!("shares: {shares:?}");
        assert_eq!(shares.iter().sum::<usize>(), 30);
        assert!(shares.iter().all(|count| *count >= 8), "{shares:?}");

        let wget = ["-q", "-O", "/dev/null", "-e", "use_proxy=on", "-e", "http_proxy=127.0.0.1:1080", &url];
        world.run("wget", &wget).assert_done();
        let v6 = format!("http://[{}]:{HTTP}/bytes/1000", world.lab.web_addr_v6());
        assert_eq!(world.curl(&["-g", "--proxy", SOCKS, &v6]), 1000);

        let status = world.side.status();
        assert_eq!((status.mode, status.server.as_deref()), (Some(Mode::Balance), Some(PROXY)));
        assert!(status.links.iter().all(|link| link.bytes_rx > 10_000), "{:?}", status.links);
        world.side.stop().assert_done();
    });
}

#[test]
fn a_site_keeps_its_link() {
    in_lab("proxy::a_site_keeps_its_link", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        let url = world.url(STICKY, 100);
        for _ in 0..8 {
            world.curl(&["--proxy", SOCKS, &url]);
        }
        let mut shares = world.shares();
        shares.sort_unstable();
        assert_eq!(shares, [0, 8], "a login must not see two addresses");
    });
}

#[test]
fn a_site_whose_link_dies_moves_once() {
    in_lab("proxy::a_site_whose_link_dies_moves_once", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        let url = world.url(STICKY, 100);
        let get = || assert_eq!(world.curl(&["--proxy", SOCKS, &url]), 100);
        get();
        let (dead, other) = if world.shares()[0] == 1 { ("line0", "line1") } else { ("line1", "line0") };
        let steadiness = Steadiness::watch();
        world.web.forget();
        world.lab.silence(dead).expect("a link");
        for _ in 0..6 {
            let (ended, took) = world.time_curl(&steadiness, &["--proxy", SOCKS, &url]);
            ended.assert_done();
            took.assert_within(ms(1_200), "a connect to a site whose link is dead");
        }
        world.wait_state(dead, &["down"], seconds(6));
        world.lab.restore(dead).expect("a link");
        world.wait_state(dead, &["active"], seconds(8));
        (0..4).for_each(|_| get());
        assert_eq!(world.web.count(world.address(other)), 10, "it stays where it went");
    });
}

#[test]
fn rules_and_a_password_are_kept_to() {
    in_lab("proxy::rules_and_a_password_are_kept_to", || {
        let mut world = World::twin();
        world.configure(
            "rules = [{ port = 8081, link = \"line1\" }]\nlogin = { user = \"me\", password = \"secret\" }",
        );
        world.balance(&["--proxy", PROXY]);
        let url = world.url(8081, 100);
        for _ in 0..4 {
            world.curl(&["--proxy", SOCKS, "--proxy-user", "me:secret", &url]);
            world.curl(&["--proxy", WEB_PROXY, "--proxy-user", "me:secret", &url]);
        }
        assert_eq!(world.shares(), [0, 8]);
        for args in [&["--proxy", SOCKS][..], &["--proxy", SOCKS, "--proxy-user", "me:wrong"]] {
            let ended = world.start_curl(&[args, &[&url]].concat()).wait_end(seconds(20));
            assert_ne!(ended.code, Some(0), "{ended:?}");
        }
        assert_eq!(world.shares(), [0, 8], "nothing went out for them");
    });
}

#[test]
fn priorities_are_kept_to_and_change_at_once() {
    in_lab("proxy::priorities_are_kept_to_and_change_at_once", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        let url = world.url(HTTP, 1000);
        world.side.call(&["links", "set", "line0", "priority", "backup"]).assert_done();
        world.wait_state("line0", &["standby"], seconds(3));
        for _ in 0..6 {
            world.curl(&["--proxy", SOCKS, &url]);
        }
        assert_eq!(world.shares(), [0, 6]);
        let links = world.side.control().links().expect("it runs").links;
        assert_eq!((links[0].status.priority.as_str(), links[0].status.share), ("backup", Some(0.0)));
        let mode = world.side.call(&["mode", "speed"]);
        mode.assert_failed(2, &["not changed", "without a server", "bondwire up"]);
        world.lab.silence("line1").expect("a link");
        world.wait_state("line1", &["down"], seconds(6));
        world.web.forget();
        assert_eq!(world.curl(&["--proxy", SOCKS, &url]), 1000);
        assert_eq!(world.shares(), [1, 0]);
    });
}

#[test]
fn a_silent_link_is_not_seen_by_applications() {
    in_lab("proxy::a_silent_link_is_not_seen_by_applications", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        let url = world.url(HTTP, 1000);
        for _ in 0..4 {
            world.curl(&["--proxy", SOCKS, &url]);
        }
        let steadiness = Steadiness::watch();
        world.lab.silence("line0").expect("a link");
        let died = Instant::now();
        // Each is answered by the other link, before anybody knows that the first one is dead and after.
        while died.elapsed() < seconds(4) {
            let what = format!("a connect {:?} after the death", died.elapsed());
            let (ended, took) = world.time_curl(&steadiness, &["--proxy", SOCKS, &url]);
            ended.assert_done();
            took.assert_within(ms(1_200), &what);
        }
        world.wait_state("line0", &["down"], seconds(3));
        world.web.forget();
        for _ in 0..4 {
            world.curl(&["--proxy", SOCKS, &url]);
        }
        assert_eq!(world.shares(), [0, 4]);
        world.lab.restore("line0").expect("a link");
        world.wait_share(&steadiness, "line0", || assert_eq!(world.curl(&["--proxy", SOCKS, &url]), 1000));
    });
}

#[test]
fn names_are_asked_of_a_links_own_resolver_and_none_over_a_link_that_is_never() {
    in_lab("proxy::names_are_asked_of_a_links_own_resolver_and_none_over_a_link_that_is_never", || {
        let mut world = World::twin();
        let links = ["line0", "line1"];
        let gateways = links.map(|link| {
            let gateway = world.lab.link(link).expect("a link").gateway_v4.expect("an address");
            format!("\"{gateway}\"")
        });
        world.configure(&format!("resolvers = [{}]", gateways.join(", ")));
        let web = world.lab.web_addr_v4();
        let asked = links.map(|link| crate::web::resolver(world.lab.provider(link).expect("a link"), web));
        world.balance(&["--proxy", PROXY]);
        let get = |name: &str| {
            let url = format!("http://{name}:{HTTP}/bytes/1000");
            world.start_curl(&["--proxy", SOCKS, &url]).wait_end(seconds(40))
        };
        for at in 0..8 {
            let name = format!("host{at}.example.org");
            world.web.forget();
            get(&name).assert_done();
            let shares = world.shares();
            for (link, share) in shares.iter().enumerate() {
                assert_eq!(*share > 0, asked[link].count(&name) > 0, "{name} {link}: {shares:?} {asked:?}");
            }
        }
        assert!(asked.iter().all(|asked| asked.below(".example.org") >= 2), "{asked:?}");

        world.side.call(&["links", "set", "line1", "priority", "never"]).assert_done();
        world.wait_state("line1", &["down", "standby"], seconds(3));
        for at in 0..4 {
            get(&format!("host{at}.example.net")).assert_done();
        }
        world.lab.silence("line0").expect("a link");
        let late = format!("http://late.example.net:{HTTP}/bytes/1000");
        let ended = world.start_curl(&["--proxy", SOCKS, "--max-time", "5", &late]).wait_end(seconds(40));
        assert_ne!(ended.code, Some(0), "no link is left that may be used");
        assert!(asked[0].below(".example.net") >= 4, "{asked:?}");
        assert_eq!(asked[1].below(".example.net"), 0, "a link that is never used: {asked:?}");
    });
}

#[test]
fn a_client_with_several_connections_uses_both_links() {
    in_lab("proxy::a_client_with_several_connections_uses_both_links", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        world.aria2(&[&format!("--all-proxy={WEB_PROXY}")]);
    });
}

#[test]
fn transfers_of_a_dead_link_end_at_once() {
    in_lab("proxy::transfers_of_a_dead_link_end_at_once", || {
        let mut world = World::twin();
        world.balance(&["--proxy", PROXY]);
        let url = world.url(HTTP, 500 * MEGABYTE);
        let mut transfers: Vec<Process> =
            (0..4).map(|_| world.start_curl(&["--proxy", SOCKS, &url])).collect();
        until("all of them run", seconds(10), || world.shares().iter().sum::<usize>() == 4);
        let listed = world.side.control().sockets().expect("it runs");
        assert_eq!(listed.mode, Some(Mode::Balance));
        let ours = listed.sockets.iter().filter(|socket| socket.process.as_deref() == Some("curl"));
        let ours: Vec<_> = ours.filter(|socket| socket.way == "proxy" && socket.link.is_some()).collect();
        assert_eq!(ours.len(), 4, "{:?}", listed.sockets);
        assert!(ours.iter().all(|socket| socket.rtt_ms.is_some()), "{ours:?}");
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
fn an_ordinary_user_can_run_the_proxy() {
    in_lab("proxy::an_ordinary_user_can_run_the_proxy", || {
        let world = World::twin();
        // Without any capability, and with folders that belong to somebody else.
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-all", "--inh-caps", "-all", "--"]);
        command.arg(crate::support::Options::built()).args(["balance", "--proxy", PROXY]);
        command.args(["--link", "line0", "--link", "line1"]);
        world.side.complete(&mut command, &[]);
        let mut process = Process::start(world.lab.client(), command);
        process.wait_ready(seconds(10));
        let url = world.url(HTTP, 1000);
        for _ in 0..8 {
            world.curl(&["--proxy", SOCKS, &url]);
        }
        let shares = world.shares();
        assert!(shares.iter().all(|count| *count >= 2), "{shares:?}");
        process.signal(Signal::TERM);
        let ended = process.wait_end(seconds(5));
        ended.assert_done();
        assert!(ended.took <= seconds(2), "{:?}", ended.took);
    });
}
