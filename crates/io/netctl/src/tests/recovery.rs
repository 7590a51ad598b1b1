use std::fs;
use std::path::Path;
use std::process::Command;

use super::lab::{assert_same, in_namespace, picture, run, tunnel_stand_in, two_links};
use crate::{Changes, Forwarding, Ipv6Policy, Journal, NetError};

/// Where the process that dies keeps its journal; set for it alone.
const STATE: &str = "BONDWIRE_TEST_STATE";

fn change_everything(state: &Path) -> Changes {
    let (mut changes, _) = Changes::open(state).unwrap();
    changes.route_link("wan0").unwrap();
    changes.route_link("wan1").unwrap();
    changes.default_through("bwtun", Ipv6Policy::Through).unwrap();
    let networks = vec!["10.99.0.0/24".parse().unwrap()];
    changes.forwarding_and_nat(&Forwarding { tunnel: "bwtun".to_owned(), networks, nat: true }).unwrap();
    changes
}

/// Not a test by itself: makes all changes and dies without undoing any.
#[test]
fn dying() {
    let Ok(state) = std::env::var(STATE) else { return };
    let changes = change_everything(Path::new(&state));
    run(&format!("kill -9 {}", std::process::id()));
    drop(changes);
}

fn die_after_changing_everything(state: &Path) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "tests::recovery::dying"])
        .env(STATE, state)
        .status()
        .unwrap();
    assert!(!status.success(), "it was to be killed");
}

#[test]
fn a_killed_run_is_undone() {
    in_namespace("tests::recovery::a_killed_run_is_undone", || {
        let _router = two_links();
        tunnel_stand_in();
        let state = tempfile::tempdir().unwrap();
        let before = picture();
        die_after_changing_everything(state.path());
        assert!(picture().contains("table inet bondwire"));
        let recovery = Journal::recover(state.path()).unwrap();
        assert!(recovery.failed.is_empty() && recovery.undone > 10, "{recovery:?}");
        assert_same(&before, &picture());
        assert_eq!(Journal::recover(state.path()).unwrap().undone, 0);
    });
}

#[test]
fn a_killed_run_is_undone_by_the_next_start_although_things_are_gone() {
    in_namespace(
        "tests::recovery::a_killed_run_is_undone_by_the_next_start_although_things_are_gone",
        || {
            let _router = two_links();
            tunnel_stand_in();
            let state = tempfile::tempdir().unwrap();
            die_after_changing_everything(state.path());
            // The tunnel device dies with its process; a link and a rule went too, and a line was cut off by the crash.
            run("ip link del bwtun");
            run("ip link del wan1");
            run("nft delete table inet bondwire");
            let journal = state.path().join("network.journal");
            let mut text = fs::read_to_string(&journal).unwrap();
            text.push_str("{\"do\":99,\"chan");
            fs::write(&journal, text).unwrap();
            let (mut changes, recovery) = Changes::open(state.path()).unwrap();
            assert!(recovery.failed.is_empty(), "{recovery:?}");
            assert_eq!(changes.netlink().own_rules().unwrap(), 0);
            assert!(!picture().contains("table 518"), "{}", picture());
            assert_eq!(fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");
        },
    );
}

#[test]
fn a_setting_that_was_changed_since_is_left_alone() {
    in_namespace("tests::recovery::a_setting_that_was_changed_since_is_left_alone", || {
        let state = tempfile::tempdir().unwrap();
        let (mut changes, _) = Changes::open(state.path()).unwrap();
        let key = "net/ipv4/ip_default_ttl";
        changes.sync("test", &[crate::Change::sysctl(key, "99").unwrap().unwrap()]).unwrap();
        run("sysctl -qw net.ipv4.ip_default_ttl=77");
        assert_eq!(changes.undo().len(), 0);
        assert_eq!(run("sysctl -n net.ipv4.ip_default_ttl"), "77\n");
    });
}

#[test]
fn a_living_run_is_not_undone() {
    let state = tempfile::tempdir().unwrap();
    let (_changes, _) = Changes::open(state.path()).unwrap();
    assert!(matches!(Journal::recover(state.path()), Err(NetError::JournalInUse { .. })));
    assert!(matches!(Changes::open(state.path()), Err(NetError::JournalInUse { .. })));
}

#[test]
fn a_journal_of_an_earlier_boot_or_another_namespace_undoes_nothing() {
    let state = tempfile::tempdir().unwrap();
    let journal = state.path().join("network.journal");
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let change = r#"{"do":1,"change":"sysctl","key":"none","old":"0","new":"1"}"#;
    fs::write(
        &journal,
        format!("{{\"bondwire_journal\":1,\"boot\":\"long ago\",\"namespace\":1}}\n{change}\n"),
    )
    .unwrap();
    let recovery = Journal::recover(state.path()).unwrap();
    assert!(recovery.undone == 0 && recovery.failed.is_empty() && recovery.set_aside.is_none());
    assert!(!journal.exists());

    let header = format!("{{\"bondwire_journal\":1,\"boot\":\"{}\",\"namespace\":1}}", boot.trim());
    fs::write(&journal, format!("{header}\n{change}\n")).unwrap();
    let recovery = Journal::recover(state.path()).unwrap();
    assert!(recovery.undone == 0 && recovery.failed.is_empty());
    assert!(recovery.set_aside.unwrap().exists() && !journal.exists());
}

#[test]
fn what_cannot_be_undone_stays_in_the_journal() {
    let state = tempfile::tempdir().unwrap();
    {
        // A namespace and boot that fit, and a setting that is no file: reading it fails, and not because it is gone.
        let (changes, _) = Changes::open(state.path()).unwrap();
        let journal = state.path().join("network.journal");
        let mut text = fs::read_to_string(&journal).unwrap();
        text.push_str("{\"do\":1,\"change\":\"sysctl\",\"key\":\"net\",\"old\":\"0\",\"new\":\"1\"}\n");
        let copy = tempfile::tempdir().unwrap();
        fs::write(copy.path().join("network.journal"), text).unwrap();
        drop(changes);
        let recovery = Journal::recover(copy.path()).unwrap();
        assert_eq!((recovery.undone, recovery.failed.len()), (0, 1));
        assert!(copy.path().join("network.journal").exists());
    }
}
