use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bondwire_netns::Node;
use rustix::process::{Pid, Signal, kill_process};

/// A running command. It is killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    name: String,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

impl Output {
    /// A waiter that gives up panics with this lock; what was printed is whole all the same.
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What it has printed so far.
#[derive(Debug, Default)]
struct Lines {
    stdout: Vec<String>,
    stderr: Vec<String>,
    /// How many of the two were closed.
    closed: u8,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// All of stdout.
    pub(crate) stdout: String,
    /// All of stderr.
    pub(crate) stderr: String,
    /// How long was waited for its end.
    pub(crate) took: Duration,
}

impl Process {
    /// Starts a command on a machine.
    pub(crate) fn start(node: &Node, mut command: Command) -> Self {
        let name = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = node.spawn(command).expect("it can be started");
        let output = Arc::<Output>::default();
        let (stdout, stderr) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
        collect(stdout, &output, |lines| &mut lines.stdout);
        collect(stderr, &output, |lines| &mut lines.stderr);
        Self { child, name, output }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the line `ready`.
    pub(crate) fn wait_ready(&self, limit: Duration) -> Duration {
        self.wait("the line `ready`", limit, |lines| lines.stdout.iter().any(|line| line == "ready"))
    }

    /// How many lines it has logged; a mark for [`Process::wait_log`].
    pub(crate) fn mark(&self) -> usize {
        self.lines().stderr.len()
    }

    /// Waits for a line of its log that holds `text`, from the line `mark` on.
    pub(crate) fn wait_log(&self, mark: usize, text: &str, limit: Duration) -> Duration {
        self.wait(&format!("`{text}`"), limit, |lines| {
            lines.stderr.iter().skip(mark).any(|line| line.contains(text))
        })
    }

    /// All that it has logged.
    pub(crate) fn log(&self) -> String {
        self.lines().stderr.join("\n")
    }

    /// Waits for its end.
    pub(crate) fn wait_end(&mut self, limit: Duration) -> Ended {
        let start = Instant::now();
        self.wait("its end", limit, |lines| lines.closed == 2);
        let code = self.child.wait().expect("it can be waited for").code();
        let lines = self.lines();
        Ended {
            code,
            stdout: lines.stdout.join("\n"),
            stderr: lines.stderr.join("\n"),
            took: start.elapsed(),
        }
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process has a number");
        kill_process(pid, signal).expect("it runs");
    }

    /// `kill -9`. When this returns it is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// The memory that it holds at present, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("it runs");
        let kib = text.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        kib.and_then(|kib| kib.trim().parse::<u64>().ok()).expect("a number") * 1024
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.output.lock()
    }

    fn wait(&self, what: &str, limit: Duration, is_so: impl Fn(&Lines) -> bool) -> Duration {
        let start = Instant::now();
        let mut lines = self.lines();
        loop {
            if is_so(&lines) {
                return start.elapsed();
            }
            let left = limit.saturating_sub(start.elapsed());
            assert!(
                !left.is_zero() && lines.closed < 2,
                "{}\ndid not give {what} within {limit:?}; stdout:\n{}\nstderr:\n{}",
                self.name,
                lines.stdout.join("\n"),
                lines.stderr.join("\n")
            );
            lines = self.output.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended, and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            println!("--- {}\n{}", self.name, self.log());
        }
    }
}

fn collect(from: impl Read + Send + 'static, output: &Arc<Output>, part: fn(&mut Lines) -> &mut Vec<String>) {
    let output = Arc::clone(output);
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            part(&mut output.lock()).push(line);
            output.changed.notify_all();
        }
        output.lock().closed += 1;
        output.changed.notify_all();
    });
}

impl Ended {
    /// It was done.
    #[track_caller]
    pub(crate) fn assert_done(&self) -> &Self {
        assert_eq!(self.code, Some(0), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        self
    }

    /// It failed with this exit code, and its error, which says what, why and what to do, holds all these texts.
    #[track_caller]
    pub(crate) fn assert_failed(&self, code: i32, texts: &[&str]) -> &Self {
        let fault = self.stderr.rfind("error: ").map_or("", |at| &self.stderr[at..]);
        println!("{fault}\n");
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        for part in ["error: ", "why: ", "what to do: "] {
            assert!(fault.contains(part), "no `{part}` in:\n{}", self.stderr);
        }
        for text in texts {
            assert!(fault.contains(text), "no `{text}` in:\n{}", self.stderr);
        }
        self
    }
}
