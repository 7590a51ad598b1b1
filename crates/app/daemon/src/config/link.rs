//! What is wanted of one link: `[link.NAME]` in `client.toml`, and the same in the state folder for what `links set` said.

use core::fmt;
use core::str::FromStr;

use bondwire_api::Priority;
use bondwire_netctl::LinkKind;
use bondwire_units::Bitrate;
use serde::{Deserialize, Serialize};

/// A smaller limit than this is of no use: acknowledgements and probes alone would exceed it.
const MIN_LIMIT: Bitrate = Bitrate::from_bps(100_000);

/// What is wanted of one link. What is not said is left as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinkConfig {
    /// What kind of link it is, where the guess is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<LinkKind>,
    /// When it is used; `automatic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// The most that is sent there; `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_up: Option<Limit>,
    /// The most that the server sends there; `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_down: Option<Limit>,
}

/// A limit of a link in one direction, with the outer headers: `none`, or at least 100 kbit/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Limit(Option<Bitrate>);

impl Limit {
    /// The rate; none: no limit.
    pub fn rate(self) -> Option<Bitrate> {
        self.0
    }
}

impl TryFrom<Option<Bitrate>> for Limit {
    type Error = String;

    fn try_from(rate: Option<Bitrate>) -> Result<Self, String> {
        match rate {
            Some(rate) if rate < MIN_LIMIT => Err(format!(
                "a limit of {} bit/s is too small: 100 kbit/s or more, or `none`; a link that is not to be used has the priority `never`",
                rate.as_bps()
            )),
            rate => Ok(Self(rate)),
        }
    }
}

impl FromStr for Limit {
    type Err = String;

    /// Parses `none`, `5M`, `800k`, `1.5 Gbit/s`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "none" {
            return Ok(Self(None));
        }
        let rate: Bitrate = text.parse().map_err(|_| {
            let shown: String = text.chars().take(32).flat_map(char::escape_default).collect();
            format!(
                "`{shown}` is not a limit: a number and a unit, such as 5M, 800k or 1.5G (bit/s), or `none`"
            )
        })?;
        Self::try_from(Some(rate))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(rate) => write!(f, "{} bit/s", rate.as_bps()),
            None => f.write_str("none"),
        }
    }
}

impl TryFrom<String> for Limit {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        limit.to_string()
    }
}
