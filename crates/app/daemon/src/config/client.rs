//! `client.toml`.

use std::collections::BTreeMap;

use bondwire_api::Mode;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::{BalanceConfig, LinkConfig, StreamsConfig, TunnelConfig};
use crate::names::{Endpoint, InterfaceName};

/// What a client may be told. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientConfig {
    /// The mode at start; `streaming`.
    #[serde(deserialize_with = "bond_mode")]
    pub mode: Mode,
    /// In mode `redundant`, over how many links a packet goes at most, 2 to 5; 5.
    pub max_redundant: Copies,
    /// Whether all traffic goes through the bond; true.
    pub default_route: bool,
    /// Which links are used.
    pub links: LinksConfig,
    /// What is wanted of single links, by name.
    pub link: BTreeMap<InterfaceName, LinkConfig>,
    /// What is real-time, and what is not.
    pub streams: StreamsConfig,
    /// What `bondwire balance` is told.
    pub balance: BalanceConfig,
    /// The tunnel's device.
    pub tunnel: TunnelConfig,
    /// Where the server is, when that is not where the invite said.
    pub server: ServerOverride,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Streaming,
            max_redundant: Copies(5),
            default_route: true,
            links: LinksConfig::default(),
            link: BTreeMap::new(),
            streams: StreamsConfig::default(),
            balance: BalanceConfig::default(),
            tunnel: TunnelConfig::default(),
            server: ServerOverride::default(),
        }
    }
}

/// A mode that a bond has.
fn bond_mode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mode, D::Error> {
    match Mode::deserialize(deserializer)? {
        Mode::Balance => Err(D::Error::custom(
            "`balance` is no mode of a bond, since it has no server; start it with `bondwire balance`",
        )),
        mode => Ok(mode),
    }
}

/// Which links are used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinksConfig {
    /// Their names; empty: all that have an address and a gateway.
    #[serde(rename = "use")]
    pub chosen: Vec<InterfaceName>,
}

/// Where the server is, when that is not where the invite said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServerOverride {
    /// `host:port`, the best first; empty: those of the invite.
    pub endpoints: Vec<Endpoint>,
}

/// Over how many links a packet goes at most: 2 to 5.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Copies(u8);

impl Copies {
    /// Copies, the first one included.
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<i64> for Copies {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        match u8::try_from(value) {
            Ok(copies @ 2..=5) => Ok(Self(copies)),
            _ => Err(format!("{value} copies are not possible: 2 to 5")),
        }
    }
}

/// The file that `join` writes when there is none.
pub(crate) const TEMPLATE: &str = r#"# bondwire, client. All keys are optional; what is commented out shows the default.
# Changes take effect at the next `bondwire up`. The keys of this client are in client.key.

# How packets are spread: "speed", "streaming" or "redundant".
# "streaming" is "speed" in which calls, games and live video go first (see [streams]).
#mode = "streaming"

# In mode "redundant": over how many links each packet goes at most (2 to 5).
#max_redundant = 5

# Whether all traffic of this machine goes through the bond.
# false: only what is sent to the server's network.
#default_route = true

[links]
# The interfaces to use. An empty list means all that have an address and a gateway.
#use = ["eth0", "wlan0"]

# What is wanted of one link; a table for each. `bondwire links set` changes all but the kind while bondwire runs.
#[link.wwan0]
# When it is used: "always"; "secondary": when the others are full or gone; "backup": when all others are gone; "never";
# "automatic": cellular links are secondary, all others always.
#priority = "automatic"
# The most that it may carry, in bits per second: "5M", "800k"; at least "100k".
#limit_up = "none"
#limit_down = "none"
# What it is, where the guess is wrong: "ethernet", "wifi", "cellular", "satellite", "tethered" or "unknown".
#kind = "cellular"

[streams]
# Which flows are calls, games or live video is seen by how they behave. A rule decides otherwise; the first that matches wins.
# What a rule names has to match: remote (address or network), port (either end's; also "5000-5010"), protocol ("udp"), dscp
# (0 to 63, or "EF", "AF41" ...). Its class is "real-time", "bulk" or "default".
#rules = [{ remote = "203.0.113.0/24", port = 9000, class = "real-time" }]

[balance]
# For `bondwire balance`, which needs no server and nothing else of this file. The first rule that matches a socket decides. What a
# rule names has to match: remote (address or network), port, protocol ("tcp", "udp"), process, uid, name (of the host, and all
# below it). It says one thing to do: link = "wan0" (another one while that is down), only = "wan0", avoid = "wwan0", bypass = true.
#rules = [{ name = "bank.example", link = "eth0" }, { process = "rsync", avoid = "wwan0" }]
# Sites that keep their link, so that a login does not see two addresses, and for how long after their last new socket.
#sticky_ports = ["tcp/443", "udp/443"]
#sticky_minutes = 10
# Whether remote shells, DNS, calls and games take the link with the least delay.
#prefer_delay = true
# What is asked whether a link works: several, of different owners.
#probes = ["ping 1.1.1.1", "dns 8.8.8.8", "tcp 9.9.9.9:443"]
# Resolvers for names that the proxy is told. Empty: those of this system.
#resolvers = []
# Whether DNS questions of programs are asked over the links and raced (--transparent).
#dns = true
# Who may use the proxy.
#login = { user = "me", password = "secret" }

[tunnel]
# "tun", or "packet" for user namespaces without /dev/net/tun.
#device = "tun"
# The name of the interface.
#name = "bondwire0"
# The greatest packet inside the tunnel, 1280 to 1440 bytes.
#mtu = 1440

[server]
# Where the server is, if it has moved since the invite was made.
#endpoints = ["vpn.example.org:4433"]
"#;
