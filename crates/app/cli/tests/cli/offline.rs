//! Everything that needs no daemon and no network: from `server init` to `join`, and how each of them fails.

use std::os::unix::fs::PermissionsExt;

use crate::common::{Place, Ran, assert_golden, bondwire};

const INIT: [&str; 6] = ["server", "init", "--endpoint", "vpn.example.org:4433", "--network", "10.99.0.0/24"];

/// Takes the names out that differ from run to run.
fn plain(place: &Place, text: &str) -> String {
    text.replace(&place.dir.path().display().to_string(), "DIR")
}

#[test]
fn from_init_to_join() {
    let server = Place::new();
    let made = server.run(&INIT);
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let invited = server.run(&["server", "invite", "laptop"]);
    assert_eq!((invited.code, invited.stderr.as_str()), (Some(0), ""));
    let invite = invited.stdout.trim();
    assert_eq!(invited.stdout, format!("{invite}\n"), "the invite, and nothing else");
    assert!(invite.starts_with("bw1-") && !invite.contains(char::is_whitespace));
    assert!(
        !server.path("var").exists() && !server.path("sock").exists(),
        "only the configuration folder is touched"
    );
    let client = Place::new();
    let joined = client.run(&["join", invite]);
    assert_eq!(joined.code, Some(0), "{}", joined.stderr);
    assert_eq!(joined.stdout, "joined the server at vpn.example.org:4433\nnow connect: bondwire up\n");
    let listed = server.run(&["server", "clients"]);
    assert_golden("clients.txt", &listed.stdout);
    assert_eq!(server.run(&["server", "revoke", "laptop"]).stdout, "revoked laptop\n");
    assert!(server.run(&["server", "clients"]).stdout.contains("revoked"));
}

#[test]
fn with_json_stdout_holds_one_object() {
    let place = Place::new();
    let object = |args: &[&str]| -> serde_json::Value {
        let ran = place.run(&[args, &["--json"]].concat());
        assert_eq!(ran.code, Some(0), "{args:?}: {}", ran.stderr);
        assert_eq!(ran.stdout.lines().count(), 1);
        serde_json::from_str(&ran.stdout).expect("JSON")
    };
    assert_eq!(object(&INIT)["inner_v4"], "10.99.0.1");
    let invite = object(&["server", "invite", "a"]);
    let invite = invite["invite"].as_str().expect("text");
    assert_eq!(object(&["join", invite])["endpoints"][0], "vpn.example.org:4433");
    let clients = object(&["server", "clients"]);
    assert_eq!(
        (&clients["clients"][0]["name"], &clients["clients"][0]["state"]),
        (&"a".into(), &"invited".into())
    );
    assert_eq!(object(&["server", "revoke", "a"])["revoked"], "a");
    assert_eq!(object(&["down"])["undone"], 0);
}

#[test]
fn errors_say_what_why_and_what_to_do() {
    let place = Place::new();
    let mut all = String::new();
    let mut check = |title: &str, args: &[&str], code: i32| {
        let ran = place.run(args);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{title}: {}", ran.stderr);
        all.push_str(&format!("## {title}\n{}\n", plain(&place, &ran.stderr)));
    };
    check("no server yet", &["server", "invite", "a"], 2);
    check("not joined yet", &["up"], 2);
    check("not running", &["status"], 4);
    check("no invite", &["join", "hello"], 2);
    check("no client name", &["server", "invite", "../a"], 2);
    check("no endpoint", &["server", "init", "--endpoint", "host", "--network", "10.99.0.0/24"], 2);
    check("no port", &["server", "init", "--endpoint", "h:0", "--network", "10.99.0.0/24"], 2);
    check("no name", &["server", "invite"], 2);
    check("no command", &["server", "invit"], 2);
    check("no option", &["up", "--mod", "speed"], 2);
    check("no network", &["server", "init", "--endpoint", "h:1", "--network", "10.99.0.7/24"], 2);
    check("no mode", &["mode", "turbo"], 2);
    check("no priority", &["links", "set", "wan0", "priority", "fast"], 2);
    check("no limit", &["links", "set", "wan0", "limit-up", "fast"], 2);
    check("no priority of a link", &["up", "--link", "wan0:fast"], 2);
    assert_eq!(place.run(&INIT).code, Some(0));
    check("a server already", &INIT, 1);
    let invite = place.run(&["server", "invite", "laptop"]).stdout;
    check("unknown client", &["server", "revoke", "latop"], 2);
    assert_eq!(place.run(&["join", &invite]).code, Some(0));
    check("joined already", &["join", &invite], 1);
    std::fs::write(place.path("etc/client.toml"), "# mine\nmode = \"speed\"\nlink = [\"wan0\"]\n")
        .expect("written");
    check("a list where tables are", &["up"], 2);
    std::fs::write(place.path("etc/client.toml"), "# mine\nmode = \"speed\"\nlnks = [\"wan0\"]\n")
        .expect("written");
    check("a key that does not exist", &["up"], 2);
    let mut broken = invite.trim().to_owned();
    broken.pop();
    check("half an invite", &["join", "--force", &broken], 2);
    assert_golden("errors.txt", &all);
}

#[test]
fn an_invite_made_again_says_what_it_changes() {
    let place = Place::new();
    assert_eq!(place.run(&INIT).code, Some(0));
    let notes = |args: &[&str]| place.run(&[&["server", "invite", "laptop"], args].concat());
    assert_eq!(notes(&["--expires", "1h"]).stderr, "");
    assert_eq!(notes(&[]).stderr, "note: the earlier invite for `laptop` no longer works\n");
    assert_eq!(place.run(&["server", "revoke", "laptop"]).code, Some(0));
    assert_eq!(notes(&[]).stderr, "note: `laptop` was revoked; this lets it in again\n");
    let json = notes(&["--json"]);
    assert_eq!(json.stderr, "");
    assert!(json.stdout.contains("the earlier invite for `laptop` no longer works"), "{}", json.stdout);
}

#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    assert_eq!(place.run(&INIT).code, Some(0));
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").expect("every Linux has it");
    let run = |args: &[&str]| Ran::from(place.command(args).stdout(full()).output().expect("it runs"));
    for args in [&["server", "invite", "a"][..], &["server", "clients"], &["--version"]] {
        let ran = run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(ran.stderr.starts_with("error: cannot write the answer to stdout\n"), "{}", ran.stderr);
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let gone = place.command(&["server", "clients"]).stdout(writer).output().expect("it runs");
    assert_eq!(gone.status.code(), Some(0), "a reader that has gone is none");
}

#[test]
fn errors_in_json() {
    let place = Place::new();
    let fault = |ran: Ran, code: i32| -> serde_json::Value {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), ""), "{}", ran.stderr);
        serde_json::from_str(&ran.stderr).expect("JSON alone")
    };
    let status = fault(place.run(&["status", "--json"]), 4);
    assert_eq!(
        (&status["kind"], &status["what"]),
        (&"unreachable".into(), &"bondwire is not running".into())
    );
    assert!(status["what_to_do"].as_str().is_some_and(|text| text.contains("bondwire up")));
    let usage = fault(Ran::from(bondwire(&["--json", "mode", "turbo"]).output().expect("it runs")), 2);
    assert_eq!(usage["kind"], "usage");
    assert!(usage["why"].as_str().is_some_and(|why| why.contains("turbo")));
}

#[test]
fn a_folder_that_cannot_be_written_is_no_permission() {
    if rustix::process::geteuid().is_root() {
        // Root may write everywhere, but not where there is nothing to write to.
        let ran =
            Ran::from(bondwire(&["--config-dir", "/proc/bondwire"]).args(INIT).output().expect("it runs"));
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        return;
    }
    let place = Place::new();
    std::fs::create_dir(place.path("etc")).expect("made");
    std::fs::set_permissions(place.path("etc"), std::fs::Permissions::from_mode(0o500)).expect("set");
    assert_eq!(place.run(&INIT).code, Some(3));
}

/// Killed at any moment, `invite` leaves a list of whole clients, and goes on afterwards.
#[test]
fn killed_invites_leave_whole_clients() {
    let place = Place::new();
    assert_eq!(place.run(&INIT).code, Some(0));
    for round in 0..20_u64 {
        let name = format!("c{round}");
        let mut child = place
            .command(&["server", "invite", &name])
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        std::thread::sleep(std::time::Duration::from_micros(round * 300));
        child.kill().expect("killed, or ended already");
        child.wait().expect("ended");
        assert_eq!(place.run(&["server", "clients"]).code, Some(0));
    }
    let last = place.run(&["server", "invite", "last"]);
    assert_eq!(last.code, Some(0), "{}", last.stderr);
}
