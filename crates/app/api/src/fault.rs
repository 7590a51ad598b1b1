//! Errors as people meet them.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Whose turn it is after a failure; decides the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// It was tried and failed.
    Failed,
    /// The command or its configuration was wrong.
    Usage,
    /// The caller may not do this.
    Permission,
    /// The other side did not answer.
    Unreachable,
}

impl FaultKind {
    /// The exit code that scripts rely on: 1 failed, 2 bad usage, 3 no permission, 4 not reachable.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Permission => 3,
            Self::Unreachable => 4,
        }
    }
}

/// One error in the form that every error of bondwire has: what, why, what to do.
///
/// `Display` gives the three parts on three lines, leaving out those that are empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Decides the exit code.
    pub kind: FaultKind,
    /// What did not happen, in a few words without a full stop.
    pub what: String,
    /// Why it did not.
    pub why: String,
    /// What the reader can do about it.
    pub what_to_do: String,
}

impl Fault {
    /// Something that was tried and failed.
    pub fn failed(what: impl Into<String>, why: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { kind: FaultKind::Failed, what: what.into(), why: why.into(), what_to_do: what_to_do.into() }
    }

    /// A wrong command or configuration.
    pub fn usage(what: impl Into<String>, why: impl Into<String>, what_to_do: impl Into<String>) -> Self {
        Self { kind: FaultKind::Usage, ..Self::failed(what, why, what_to_do) }
    }

    /// Something that the caller may not do.
    pub fn permission(
        what: impl Into<String>,
        why: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self { kind: FaultKind::Permission, ..Self::failed(what, why, what_to_do) }
    }

    /// Another side that did not answer.
    pub fn unreachable(
        what: impl Into<String>,
        why: impl Into<String>,
        what_to_do: impl Into<String>,
    ) -> Self {
        Self { kind: FaultKind::Unreachable, ..Self::failed(what, why, what_to_do) }
    }

    /// A failed system call: no permission is told apart from all else, and its remedy is to become root.
    pub fn from_io(what: impl Into<String>, error: &std::io::Error, what_to_do: impl Into<String>) -> Self {
        if error.kind() == std::io::ErrorKind::PermissionDenied {
            return Self::permission(
                what,
                error.to_string(),
                "run it as root (sudo), or as the owner of that file",
            );
        }
        Self::failed(what, error.to_string(), what_to_do)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.why.is_empty() {
            write!(f, "\n  why:        {}", self.why.replace('\n', "\n              "))?;
        }
        if !self.what_to_do.is_empty() {
            write!(f, "\n  what to do: {}", self.what_to_do.replace('\n', "\n              "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Fault {}
