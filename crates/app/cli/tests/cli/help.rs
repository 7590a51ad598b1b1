//! The reference of the command line: what can be typed, as golden files.

use crate::common::{Ran, assert_golden, bondwire};

#[test]
fn help_texts() {
    for (name, args) in [
        ("help.txt", &["--help"][..]),
        ("help-server.txt", &["server", "--help"]),
        ("help-server-init.txt", &["server", "init", "--help"]),
        ("help-server-invite.txt", &["server", "invite", "--help"]),
        ("help-server-run.txt", &["server", "run", "--help"]),
        ("help-server-clients.txt", &["server", "clients", "--help"]),
        ("help-server-revoke.txt", &["server", "revoke", "--help"]),
        ("help-join.txt", &["join", "--help"]),
        ("help-up.txt", &["up", "--help"]),
        ("help-balance.txt", &["balance", "--help"]),
        ("help-down.txt", &["down", "--help"]),
        ("help-status.txt", &["status", "--help"]),
        ("help-sockets.txt", &["sockets", "--help"]),
        ("help-streams.txt", &["streams", "--help"]),
        ("help-mode.txt", &["mode", "--help"]),
        ("help-links.txt", &["links", "--help"]),
        ("help-links-set.txt", &["links", "set", "--help"]),
    ] {
        let ran = Ran::from(bondwire(args).output().expect("it runs"));
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{name}");
        assert_golden(name, &ran.stdout);
    }
}

#[test]
fn version() {
    let ran = Ran::from(bondwire(&["--version"]).output().expect("it runs"));
    assert_eq!(ran.code, Some(0));
    assert_eq!(ran.stdout, format!("bondwire {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn every_command_accepts_the_three_places() {
    for command in [
        &["demo"][..],
        &["server", "init"],
        &["server", "invite"],
        &["server", "run"],
        &["server", "clients"],
        &["server", "revoke"],
        &["join"],
        &["up"],
        &["balance"],
        &["down"],
        &["status"],
        &["sockets"],
        &["streams"],
        &["mode"],
        &["links"],
        &["links", "set"],
    ] {
        let help = Ran::from(bondwire(command).arg("--help").output().expect("it runs")).stdout;
        for option in ["--config-dir <DIR>", "--state-dir <DIR>", "--socket <PATH>", "--json"] {
            assert!(help.contains(option), "{command:?} {option}");
        }
    }
}
