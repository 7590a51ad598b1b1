//! Links as a user sees and steers them: when each is used, and how much it may carry.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::LinkStatus;

/// When a link is used, as a user says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// By its kind: cellular links are `secondary`, all others `always`.
    #[default]
    Automatic,
    /// Whenever it is alive.
    Always,
    /// When the `always` links are full, or gone.
    Secondary,
    /// When no other link is alive.
    Backup,
    /// Not at all: no path leads over it.
    Never,
}

impl Priority {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 5] = [Self::Automatic, Self::Always, Self::Secondary, Self::Backup, Self::Never];

    /// The name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Automatic => "automatic",
            Self::Always => "always",
            Self::Secondary => "secondary",
            Self::Backup => "backup",
            Self::Never => "never",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|priority| priority.name() == text).ok_or_else(|| {
            let shown: String = text.chars().take(32).flat_map(char::escape_default).collect();
            format!("there is no priority `{shown}`: automatic, always, secondary, backup or never")
        })
    }
}

/// One link with what is wanted of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkEntry {
    /// How it stands; its `priority` is the one in effect, never `automatic`.
    #[serde(flatten)]
    pub status: LinkStatus,
    /// The priority that was asked for.
    pub priority_setting: Priority,
    /// The most that is sent there, in bits per second with the outer headers; none: no limit.
    pub limit_up_bps: Option<u64>,
    /// The most that the server sends there; none: no limit.
    pub limit_down_bps: Option<u64>,
}

/// The answer to `links`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Links {
    /// Those that belong to the bond, whether they are used at present or not.
    pub links: Vec<LinkEntry>,
}

/// What can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKey {
    /// When it is used.
    Priority,
    /// The most that is sent there.
    LimitUp,
    /// The most that the server sends there.
    LimitDown,
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkChange {
    /// When it is used.
    Priority(Priority),
    /// The most that is sent there, in bits per second; none lifts the limit.
    LimitUp(Option<u64>),
    /// The most that the server sends there, in bits per second; none lifts the limit.
    LimitDown(Option<u64>),
    /// What was set before is forgotten: the configuration counts again.
    Default(LinkKey),
}

/// The request to change something of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkRequest {
    /// Its name.
    pub link: String,
    /// What changes.
    pub set: LinkChange,
}

/// The answer to a change of a link.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkAnswer {
    /// The link from now on.
    pub link: LinkEntry,
    /// What there is to say about it.
    pub remark: Option<String>,
}
