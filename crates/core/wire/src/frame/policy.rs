//! What the user wants of a path: when it is used, and how much it may carry.

use core::fmt;

use bondwire_units::{Bitrate, PathId};

/// When a path is used. The order is the order of preference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LinkPriority {
    /// Whenever it is alive.
    #[default]
    Always,
    /// When the paths that are `Always` are full, or gone.
    Secondary,
    /// When no other path is alive.
    Backup,
}

impl LinkPriority {
    /// All priorities, the most preferred first.
    pub const ALL: [Self; 3] = [Self::Always, Self::Secondary, Self::Backup];

    /// The byte that stands for it on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Always => 0,
            Self::Secondary => 1,
            Self::Backup => 2,
        }
    }

    /// The priority for which `byte` stands.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(Self::Always),
            1 => Some(Self::Secondary),
            2 => Some(Self::Backup),
            _ => None,
        }
    }

    /// The name by which users know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Secondary => "secondary",
            Self::Backup => "backup",
        }
    }
}

impl fmt::Display for LinkPriority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How the client wants a path to be used (PATH-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkPolicy {
    /// The path.
    pub path: PathId,
    /// Rises with each statement of the session; the highest about a path wins.
    pub sequence: u64,
    /// When it is used.
    pub priority: LinkPriority,
    /// The most that the server may send there, in bits per second of IP bytes; none: no limit.
    pub ceiling: Option<Bitrate>,
}
