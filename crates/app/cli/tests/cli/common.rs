//! Running the real binary in folders of its own.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// A place with its own configuration, state and socket.
#[derive(Debug)]
pub(crate) struct Place {
    /// Removed in the end.
    pub(crate) dir: tempfile::TempDir,
}

impl Place {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory") }
    }

    /// The binary with this place's folders and these arguments.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = bondwire(args);
        let at = |name: &str| self.dir.path().join(name);
        command
            .arg("--config-dir")
            .arg(at("etc"))
            .arg("--state-dir")
            .arg(at("var"))
            .arg("--socket")
            .arg(at("sock"));
        command
    }

    /// Runs it to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Ran {
        Ran::from(self.command(args).output().expect("it runs"))
    }

    /// A path in the place.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }
}

/// What a run gave.
#[derive(Debug)]
pub(crate) struct Ran {
    /// The exit code.
    pub(crate) code: Option<i32>,
    /// All of stdout.
    pub(crate) stdout: String,
    /// All of stderr.
    pub(crate) stderr: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

/// The binary with these arguments.
pub(crate) fn bondwire(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bondwire"));
    command.args(args).stdin(Stdio::null()).env_remove("RUST_LOG").env("COLUMNS", "100");
    command
}

/// Compares a text with a file below `tests/golden`; `UPDATE_GOLDEN=1` writes the file.
pub(crate) fn assert_golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).expect("written");
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, golden,
        "{name} has changed; if that is right: UPDATE_GOLDEN=1 cargo test -p bondwire-cli"
    );
}
