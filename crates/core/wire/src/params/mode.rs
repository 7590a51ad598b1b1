use core::fmt;
use core::str::FromStr;

/// How the bond uses its paths. Both sides of a session have the same one, and the client chooses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Every flow is split over all paths.
    Speed,
    /// As `Speed` for bulk; real-time flows go first, and are protected as far as the paths ask for it.
    #[default]
    Streaming,
    /// Each packet goes over several paths at once; the first copy wins.
    Redundant,
}

impl Mode {
    /// All modes, in the order in which they are listed to a user.
    pub const ALL: [Self; 3] = [Self::Speed, Self::Streaming, Self::Redundant];

    /// The byte that stands for it on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Speed => 1,
            Self::Streaming => 2,
            Self::Redundant => 3,
        }
    }

    /// The mode for which `byte` stands.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            1 => Some(Self::Speed),
            2 => Some(Self::Streaming),
            3 => Some(Self::Redundant),
            _ => None,
        }
    }

    /// The name by which users know it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::Streaming => "streaming",
            Self::Redundant => "redundant",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that is no mode.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no mode `{0}`: choose `speed`, `streaming` or `redundant`")]
pub struct ParseModeError(String);

impl FromStr for Mode {
    type Err = ParseModeError;

    /// Parses the name of a mode, in small or capital letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted = text.trim();
        let found = Self::ALL.into_iter().find(|mode| mode.name().eq_ignore_ascii_case(wanted));
        found.ok_or_else(|| ParseModeError(wanted.chars().take(32).collect()))
    }
}
