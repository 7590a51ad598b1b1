//! Nothing is left behind, whatever the end.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use bondwire_netctl::{Changes, Journal};

use super::lab::{
    HOST, allows_ebpf, capture, config, links, picture, plan, run, share, tcp, with_ebpf, with_lab,
};
use crate::{Capture, CaptureError, Config, LinkName, Way};

/// Where the process that dies keeps its journal; set for it alone.
const STATE: &str = "BONDWIRE_TEST_STATE";

/// Not a test by itself: captures and waits to be killed.
#[test]
fn dying() {
    let Ok(state) = std::env::var(STATE) else { return };
    let (changes, _) = Changes::open(Path::new(&state)).unwrap();
    let config = Config { lan: vec!["wan1".to_owned()], ..Config::new(links()) };
    let mut capture = Capture::attach(config, Arc::new(Mutex::new(changes))).unwrap();
    capture.apply(&plan([0, 1_000])).unwrap();
    capture.move_link(0, 1).unwrap();
    println!("ready, by {:?}", capture.way());
    loop {
        std::thread::park();
    }
}

#[test]
fn a_killed_process_captures_nothing_and_the_next_start_cleans() {
    with_lab("tests::leaving::a_killed_process_captures_nothing_and_the_next_start_cleans", |_| {
        let before = picture();
        let state = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::leaving::dying", "--nocapture"])
            .env(STATE, state.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.find_map(|line| line.unwrap().split("ready, by ").nth(1).map(str::to_owned));
        let way = ready.expect("it captures");
        assert!(!allows_ebpf() || way == "Ebpf");
        assert!(share(4, || tcp(HOST, 80)) == 0, "it captures other processes");
        child.kill().unwrap();
        child.wait().unwrap();
        if way == "Ebpf" {
            assert_eq!(share(4, || tcp(HOST, 80)), 4, "programs outlive their process");
        }
        assert!(picture().contains("table inet bondwire_balance"));
        let recovery = Journal::recover(state.path()).unwrap();
        assert!(recovery.failed.is_empty() && recovery.undone > 10, "{recovery:?}");
        assert_eq!(picture(), before);
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
    });
}

#[test]
fn detaching_leaves_the_machine_as_it_was() {
    with_ebpf("tests::leaving::detaching_leaves_the_machine_as_it_was", |_| {
        let before = picture();
        for end in [|capture: Capture| capture.detach().unwrap(), drop] {
            let mut capture = capture(Way::Ebpf);
            capture.apply(&plan([500, 500])).unwrap();
            capture.move_link(0, 1).unwrap();
            assert_ne!(picture(), before);
            end(capture);
            assert_eq!(picture(), before);
        }
    });
}

#[test]
fn links_come_and_go() {
    with_ebpf("tests::leaving::links_come_and_go", |_| {
        let before = picture();
        let mut capture = capture(Way::Ebpf);
        capture.apply(&plan([500, 500])).unwrap();
        run("ip link set wan1 down");
        capture.refresh().unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
        run("ip link set wan1 up");
        run("ip route add default via 10.1.1.1 dev wan1 metric 101");
        capture.refresh().unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 2);
        run("ip link set wan1 name other");
        capture.refresh().unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
        capture.set_link(LinkName { slot: 1, name: "other".to_owned() }).unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 2);
        capture.remove_link(1).unwrap();
        assert_eq!(share(4, || tcp(HOST, 80)), 4);
        assert!(matches!(capture.move_link(1, 0), Err(CaptureError::UnknownLink { slot: 1 })));
        capture.detach().unwrap();
        assert_eq!(run("nft list ruleset"), "");
        assert!(before.contains(&run("ip rule")));
    });
}

#[test]
fn programs_attach_where_cgroups_are_out_of_sight() {
    with_ebpf("tests::leaving::programs_attach_where_cgroups_are_out_of_sight", |lab| {
        // A machine of the lab has a /sys of its own, with nothing mounted in it.
        lab.router.run(|| {
            assert!(std::fs::read_dir("/sys/fs/cgroup").is_ok_and(|mut entries| entries.next().is_none()));
            let config = Config { way: Some(Way::Ebpf), ..Config::new(Vec::new()) };
            Capture::attach(config, super::lab::unjournaled()).unwrap().detach().unwrap();
        });
    });
}

#[test]
fn attaching_refuses_slots_that_no_link_can_have() {
    with_lab("tests::leaving::attaching_refuses_slots_that_no_link_can_have", |_| {
        let links = vec![LinkName { slot: 16, name: "wan0".to_owned() }];
        let config = Config { links, ..config(Way::Nftables) };
        let refused = Capture::attach(config, super::lab::unjournaled());
        assert!(matches!(refused, Err(CaptureError::NoSuchSlot { slot: 16 })));
    });
}
