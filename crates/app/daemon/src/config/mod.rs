//! The configuration: commented TOML in `--config-dir`, `client.toml` and `server.toml`.
//!
//! What a person may change stands here, with a default for everything that has one; keys and secrets stand in files of
//! their own (see [`crate::identity`]). An unknown key is an error and not a silent no-op: the message names the file, the
//! line, the column, and the nearest key that exists. Values are checked as they are read, so that each error has a place.

mod balance;
mod client;
mod link;
mod server;
mod streams;
pub(crate) mod suggest;

use std::path::Path;

use bondwire_api::Fault;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use balance::{BalanceConfig, BalanceRule, BalanceRules, LoginConfig};
pub(crate) use client::TEMPLATE as CLIENT_TEMPLATE;
pub use client::{ClientConfig, Copies, LinksConfig, ServerOverride};
pub use link::{Limit, LinkConfig};
pub(crate) use server::template as server_template;
pub use server::{Endpoints, LimitsConfig, NetworkConfig, ServerConfig};
pub use streams::{StreamClass, StreamRule, StreamRules, StreamsConfig};

use crate::files;
use crate::names::InterfaceName;

/// The name of the client's configuration file.
pub const CLIENT_FILE: &str = "client.toml";
/// The name of the server's configuration file.
pub const SERVER_FILE: &str = "server.toml";

/// What kind of device the tunnel is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A TUN device.
    #[default]
    Tun,
    /// A pair of veth devices read through a packet socket: for user namespaces without `/dev/net/tun`.
    Packet,
}

/// The tunnel's device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelConfig {
    /// Its kind; `tun`.
    pub device: DeviceKind,
    /// Its name; `bondwire0`.
    pub name: InterfaceName,
    /// The greatest inner packet, 1280 to 1440; 1440, which leaves room for the outer headers in 1500.
    pub mtu: Mtu,
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self {
            device: DeviceKind::Tun,
            name: "bondwire0".parse().expect("it is short and plain"),
            mtu: Mtu(1440),
        }
    }
}

/// A greatest inner packet in bytes: 1280 (what IPv6 needs) to 1440 (what fits).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Mtu(u16);

impl Mtu {
    /// Bytes.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<i64> for Mtu {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        match u16::try_from(value) {
            Ok(mtu @ 1280..=1440) => Ok(Self(mtu)),
            _ => Err(format!("an mtu of {value} is not possible: 1280 to 1440 bytes")),
        }
    }
}

/// Reads one configuration file; none if it is not there.
pub(crate) fn load<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Fault> {
    files::read(path)?.map(|text| parse(path, &text)).transpose()
}

/// Reads the text of a configuration file.
pub(crate) fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, Fault> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map_or_else(String::new, |span| {
            let (line, column) = line_and_column(text, span.start);
            format!(", line {line}, column {column}")
        });
        let (why, what_to_do) = explain(error.message());
        Fault::usage(format!("configuration error in {}{place}", path.display()), why, what_to_do)
    })
}

fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
    (line, column)
}

/// The tables of the configuration files.
const TABLES: [&str; 7] = ["links", "streams", "balance", "tunnel", "server", "network", "limits"];

/// A key as people have to write it: a table stands in brackets. There are tables on the top level only, where `tunnel` is one in both files.
fn shown(key: &str, known: &[&str]) -> String {
    match key {
        "link" if known.contains(&"tunnel") => "[link.NAME]".to_owned(),
        _ if known.contains(&"tunnel") && TABLES.contains(&key) => format!("[{key}]"),
        _ => key.to_owned(),
    }
}

/// Turns serde's words about unknown keys and values into a reason and a remedy.
fn explain(message: &str) -> (String, String) {
    for (start, thing) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some(rest) = message.strip_prefix(start) else { continue };
        let mut quoted = rest.split('`');
        let word = quoted.next().unwrap_or_default();
        // What follows alternates between `known` and the text between.
        let known: Vec<&str> = quoted.skip(1).step_by(2).collect();
        let all: Vec<String> = known.iter().map(|key| shown(key, &known)).collect();
        let list = format!("known here: {}", all.join(", "));
        let remedy = match suggest::nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean `{}`? {list}", shown(near, &known)),
            None => list,
        };
        return (format!("there is no {thing} `{word}` here"), remedy);
    }
    if message.ends_with("expected a map") {
        // Only what is keyed by links' names is a map.
        return (
            "a table for each link is needed here".to_owned(),
            "write `[link.NAME]` and the keys below it; the list of links that are used is `use` in `[links]`".to_owned(),
        );
    }
    (message.trim().replace('\n', "; "), "correct that line and try again".to_owned())
}

#[cfg(test)]
mod tests;
