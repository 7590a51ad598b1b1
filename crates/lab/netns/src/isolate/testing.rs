use std::io::{self, BufRead, BufReader};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::{
    INSIDE, IsolationError, STAGE_VARIABLE, SUPERVISED_CHILD, Stage, arguments, settle, supervise, wrapper,
};

/// How long an isolated test may take.
const LIMIT: Duration = Duration::from_secs(600);
const RAN: &str = "isolated test ran: ";

/// For libtest: runs `body` inside a lab's wrapper. `name` is the test's full path within its binary, such as
/// `lab::tests::links_carry_packets`. The test binary is started again for this test alone; what it prints is passed on.
///
/// Where the system refuses namespaces the test prints the reason and is skipped. A test that takes more than ten
/// minutes is ended and fails.
///
/// # Panics
/// If the test fails inside, or there is no test of that name.
pub fn isolated_test(name: &str, body: impl FnOnce()) {
    match Stage::current() {
        Stage::Inside => {
            settle().expect("a process inside can set itself up");
            println!("{RAN}{name}");
            let watchdog = start_watchdog(name);
            body();
            drop(watchdog);
        }
        Stage::Supervisor => {
            let code = supervise::supervise(arguments()).expect("the supervisor can start the test");
            std::process::exit(code);
        }
        Stage::Outside => match run_again(name) {
            Ok(()) => {}
            Err(Failure::NoNamespaces(reason)) => println!("skipped {name}: {reason}"),
            Err(Failure::Failed(why)) => panic!("{name}: {why}"),
        },
    }
}

enum Failure {
    NoNamespaces(IsolationError),
    Failed(String),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("cannot run the test binary again: {error}"))
    }
}

fn run_again(name: &str) -> Result<(), Failure> {
    let mut command = wrapper().map_err(|error| match error {
        error @ IsolationError::Refused { .. } => Failure::NoNamespaces(error),
        other => Failure::Failed(other.to_string()),
    })?;
    let (output, writer) = io::pipe()?;
    command.args(["--exact", name, "--nocapture", "--include-ignored"]).env(STAGE_VARIABLE, SUPERVISED_CHILD);
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    // The command holds the pipe's writing end too: without this the output would never end.
    drop(command);
    let marker = format!("{RAN}{name}");
    let mut ran = false;
    for line in BufReader::new(output).lines() {
        let line = line?;
        ran |= line.ends_with(&marker);
        println!("{line}");
    }
    let status = child.wait()?;
    if !status.success() {
        return Err(Failure::Failed(format!("failed inside the lab ({status}); its output is above")));
    }
    if !ran {
        return Err(Failure::Failed("this binary has no test of that name; give its full path".to_owned()));
    }
    Ok(())
}

/// Ends the process after [`LIMIT`], unless what it returns is dropped before.
fn start_watchdog(name: &str) -> mpsc::Sender<()> {
    let (alive, watched) = mpsc::channel::<()>();
    let name = name.to_owned();
    thread::spawn(move || {
        if watched.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name}: not done after {} s", LIMIT.as_secs());
            std::process::exit(124);
        }
    });
    debug_assert_eq!(std::env::var(STAGE_VARIABLE).as_deref(), Ok(INSIDE));
    alive
}
