//! `server.toml`.

use std::net::{Ipv6Addr, SocketAddr};

use serde::Deserialize;

use super::TunnelConfig;
use crate::names::{Endpoint, Network4, Network6};

/// What a server is told. `endpoints` and `network` have no defaults; `server init` writes them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Where clients find this server; written into invites, 1 to 8.
    pub endpoints: Endpoints,
    /// The address and port that it listens on; all addresses and the port of the first endpoint.
    pub listen: Option<SocketAddr>,
    /// Whether clients leave with this server's address (NAT); true. Without it somebody has to route the network here.
    #[serde(default = "yes")]
    pub nat: bool,
    /// The addresses inside the tunnel.
    pub network: NetworkConfig,
    /// The tunnel's device.
    #[serde(default)]
    pub tunnel: TunnelConfig,
    /// What the server spends at most.
    #[serde(default)]
    pub limits: LimitsConfig,
}

impl ServerConfig {
    /// The address and port that it listens on.
    pub fn listen(&self) -> SocketAddr {
        let port = self.endpoints.0.first().map_or(0, Endpoint::port);
        self.listen.unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)))
    }
}

const fn yes() -> bool {
    true
}

/// Where clients find a server: 1 to 8 places.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<Endpoint>")]
pub struct Endpoints(pub(crate) Vec<Endpoint>);

impl TryFrom<Vec<Endpoint>> for Endpoints {
    type Error = String;

    fn try_from(endpoints: Vec<Endpoint>) -> Result<Self, String> {
        match endpoints.len() {
            1..=8 => Ok(Self(endpoints)),
            count => Err(format!("a server has 1 to 8 endpoints, and not {count}")),
        }
    }
}

/// The addresses inside the tunnel. The server has the first of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// The IPv4 network.
    pub v4: Network4,
    /// The IPv6 network, if there is one.
    #[serde(default)]
    pub v6: Option<Network6>,
}

/// What a server spends at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Sessions at a time; 256.
    pub max_sessions: u16,
    /// Memory for the packets of one session, in MiB; 32.
    pub memory_per_session_mib: u16,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self { max_sessions: 256, memory_per_session_mib: 32 }
    }
}

/// The file that `server init` writes. The values come from checked types, which need no escaping.
pub(crate) fn template(endpoint: &Endpoint, v4: Network4, v6: Option<Network6>) -> String {
    let v6 = v6.map_or_else(|| "#v6 = \"fd99:1:2:3::/64\"".to_owned(), |v6| format!("v6 = \"{v6}\""));
    let port = endpoint.port();
    format!(
        r#"# bondwire, server. What is commented out shows the default.
# Changes take effect at the next `bondwire server run`. The server's key is in server.key, its clients in clients/.

# Where clients find this server; written into invites. The first is tried first.
endpoints = ["{endpoint}"]

# The address and port to listen on, if not every address and the port of the first endpoint.
#listen = "[::]:{port}"

# Whether clients leave with this server's address (NAT).
# false: the routers around this server have to send the network's addresses to it.
#nat = true

[network]
# The addresses inside the tunnel. The server has the first, each client a fixed one of the others.
v4 = "{v4}"
{v6}

[tunnel]
# "tun", or "packet" for user namespaces without /dev/net/tun.
#device = "tun"
# The name of the interface.
#name = "bondwire0"
# The greatest packet inside the tunnel, 1280 to 1440 bytes.
#mtu = 1440

[limits]
# Sessions at a time.
#max_sessions = 256
# Memory for the packets of one session, in MiB.
#memory_per_session_mib = 32
"#
    )
}
