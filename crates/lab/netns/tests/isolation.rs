//! A lab ends as a whole, leaves nothing behind, and needs no root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use bondwire_netns::traffic::{Bulk, BulkOptions, BulkServer};
use bondwire_netns::{enter, isolated_test};
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use support::{build, ms};

const ONE_LINK: &str = "name = \"one\"\n[[links]]\nname = \"wan0\"\ndown = \"20 Mbit/s\"\nv6 = true\n";
const NOBODY: u32 = 65534;
/// Set where [`helper_waits_in_a_lab`] is started on purpose.
const HELPER: &str = "BONDWIRE_TEST_HELPER";

#[test]
fn nothing_is_left_after_a_lab() {
    let before = visible();
    isolated_test("nothing_is_left_after_a_lab", || {
        let inside = visible();
        drop(build(ONE_LINK));
        assert_eq!(visible(), inside);
    });
    assert_eq!(visible(), before);
}

#[test]
fn nothing_is_left_after_kill_9() {
    let before = visible();
    let Some((mut child, mut output)) = start_helper("wait") else { return };
    child.kill().unwrap();
    child.wait().unwrap();
    // The end of the output is the end of the last process that could write to it.
    output.read_to_string(&mut String::new()).unwrap();
    assert_eq!(visible(), before);
}

#[test]
fn a_signal_reaches_the_program_inside_and_its_exit_code_comes_out() {
    let Some((mut child, mut output)) = start_helper("wait") else { return };
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("ending"), "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(7));
}

#[test]
fn a_program_that_handles_no_signal_dies_of_it() {
    let Some((mut child, mut output)) = start_helper("deaf") else { return };
    let pid = Pid::from_raw(child.id().cast_signed()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    output.read_to_string(&mut String::new()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + SIGTERM));
}

/// Not a test of its own: builds a lab, says so, and waits for SIGTERM, which it does not handle if it is to be deaf.
#[test]
fn helper_waits_in_a_lab() {
    let Some(manner) = std::env::var_os(HELPER) else { return };
    if let Err(error) = enter() {
        println!("refused: {error}");
        return;
    }
    let lab = build(ONE_LINK);
    if manner == "deaf" {
        println!("\nready");
        loop {
            std::thread::park();
        }
    }
    let mut signals = Signals::new([SIGTERM]).unwrap();
    println!("\nready");
    let _ = signals.forever().next();
    println!("ending");
    drop(lab);
    std::process::exit(7);
}

#[test]
fn an_ordinary_user_has_a_lab_too() {
    let name = "an_ordinary_user_has_a_lab_too";
    if rustix::process::getuid().is_root() && std::env::var_os(HELPER).is_none() {
        return run_as_nobody(name);
    }
    isolated_test(name, || {
        let (lab, _) = build(ONE_LINK);
        let server = BulkServer::start(lab.web(), SocketAddr::new(lab.web_addr_v4().into(), 0)).unwrap();
        let options = BulkOptions { bytes: Some(1_000_000), limit: ms(60_000), ..BulkOptions::default() };
        let report = Bulk::start(lab.client(), &server, options).unwrap().finish().unwrap();
        assert!(report.complete && report.intact, "{report:?}");
        println!("{:?}", lab.emulator().report().unwrap());
    });
}

/// Runs the named test once more as nobody, from a copy that nobody can reach.
fn run_as_nobody(name: &str) {
    let folder = std::env::temp_dir().join(format!("bondwire-netns-test-{}", std::process::id()));
    fs::create_dir(&folder).unwrap();
    let program = folder.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    for path in [&folder, &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let status = Command::new(&program)
        .args(["--exact", name, "--nocapture"])
        .env(HELPER, "nobody")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .status();
    fs::remove_dir_all(&folder).unwrap();
    assert!(status.unwrap().success());
}

/// The helper in its lab, and what it prints from then on; none, with the reason printed, where labs are refused.
fn start_helper(manner: &str) -> Option<(Child, impl Read)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "helper_waits_in_a_lab", "--nocapture"])
        .env(HELPER, manner)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let telling = |line: &String| line == "ready" || line.contains("refused: ");
    let line = output.by_ref().lines().map(Result::unwrap).find(telling);
    if line.as_deref() == Some("ready") {
        return Some((child, output));
    }
    let status = child.wait().unwrap();
    println!("skipped: {}", line.unwrap_or_else(|| panic!("the helper ended without a word: {status}")));
    None
}

/// Interfaces and named namespaces of this process's surroundings.
fn visible() -> Vec<String> {
    let mut names: Vec<String> = fs::read_to_string("/proc/thread-self/net/dev")
        .unwrap()
        .lines()
        .skip(2)
        .filter_map(|line| line.split(':').next())
        .map(|name| name.trim().to_owned())
        .collect();
    if let Ok(entries) = fs::read_dir("/run/netns") {
        names.extend(
            entries.filter_map(Result::ok).map(|entry| entry.file_name().to_string_lossy().into_owned()),
        );
    }
    names.sort();
    names
}
