//! What the API says. The names are stable: scripts rely on them.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// How traffic is spread over the links.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Every flow is split over all links.
    Speed,
    /// As `speed`, with real-time flows first and protected.
    Streaming,
    /// Each packet goes over several links; the first copy wins.
    Redundant,
    /// Each socket goes over one link: no bond, no server, no tunnel.
    Balance,
}

impl Mode {
    /// The modes of a bond, in the order in which they are shown. `balance` is none: it is a command of its own.
    pub const ALL: [Self; 3] = [Self::Speed, Self::Streaming, Self::Redundant];

    /// The name that people type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::Streaming => "streaming",
            Self::Redundant => "redundant",
            Self::Balance => "balance",
        }
    }

    /// What has to be said to someone who chooses this mode, if anything.
    pub const fn remark(self) -> Option<&'static str> {
        match self {
            Self::Speed | Self::Streaming | Self::Redundant | Self::Balance => None,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = String;

    /// Parses the name of a bond's mode.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == Self::Balance.name() {
            return Err(
                "`balance` is no mode of a bond, since it has no server; start it with `bondwire balance`"
                    .to_owned(),
            );
        }
        Self::ALL
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| format!("there is no mode `{text}`; the modes are speed, streaming and redundant"))
    }
}

/// Which side a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// `bondwire up` and `bondwire balance`.
    Client,
    /// `bondwire server run`.
    Server,
}

/// Who answers on a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Its process.
    pub pid: u32,
    /// Which side it is.
    pub role: Role,
    /// Its version.
    pub version: String,
}

/// The answer to `status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Which side this is.
    pub role: Role,
    /// The mode of the session; none on a server, where each client has its own.
    pub mode: Option<Mode>,
    /// `connecting`, `connected`, `refused`, `replaced` or `closed` on a client, `running` on a server, `balancing` in mode `balance`.
    pub state: String,
    /// Why it is in that state, when there is something to say (what was tried, who refused).
    pub reason: Option<String>,
    /// The server's outer address on a client; the address that is listened on, on a server; the proxy's in mode `balance`.
    pub server: Option<String>,
    /// The process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Since the daemon started.
    pub uptime_ms: u64,
    /// The tunnel's device.
    pub device: Option<String>,
    /// This side's address inside the tunnel.
    pub inner_v4: Option<String>,
    /// This side's IPv6 address inside the tunnel.
    pub inner_v6: Option<String>,
    /// Greatest inner packet.
    pub mtu: u16,
    /// The links of a client; the paths of all clients on a server, named by the client and the remote address.
    pub links: Vec<LinkStatus>,
    /// Inner flows that are alive; sockets in mode `balance`.
    pub flows: u64,
    /// Sums over all links, and what became of packets.
    pub totals: Totals,
}

/// One link, measured. On a server: one path of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    /// The interface's name; on a server the client's name.
    pub name: String,
    /// `ethernet`, `wifi`, `cellular`, `satellite`, `tethered` or `unknown`.
    pub kind: String,
    /// `always`, `secondary`, `backup` or `never`.
    pub priority: String,
    /// `probing`, `active`, `standby`, `suspect` or `down`.
    pub state: String,
    /// Smoothed round-trip time; none until one was measured.
    pub rtt_ms: Option<f64>,
    /// Variation of the round-trip time (RFC 9002, section 5.3); none until one was measured.
    pub jitter_ms: Option<f64>,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// Share of the packets sent in this session that were taken for lost and arrived after all, 0 to 1: what was sent again needlessly.
    /// 0 in mode `balance`.
    #[serde(default)]
    pub spurious: f64,
    /// Sending now.
    pub tx_bps: u64,
    /// Receiving now.
    pub rx_bps: u64,
    /// What the link could carry upwards; 0 until measured.
    pub capacity_up_bps: u64,
    /// What the link could carry downwards; 0 until measured.
    pub capacity_down_bps: u64,
    /// Sent since the daemon started.
    pub bytes_tx: u64,
    /// Received since the daemon started.
    pub bytes_rx: u64,
    /// Sent and not yet acknowledged.
    pub in_flight_bytes: u64,
    /// Greatest outer packet, IP header included.
    pub mtu: u16,
    /// The address of the other side on this link.
    pub remote: Option<String>,
    /// In mode `balance`: its share of the next sockets, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// In mode `balance`: the sockets that it carries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sockets: Option<u64>,
}

/// Sums over all links, and what became of inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Sending now, over all links.
    pub tx_bps: u64,
    /// Receiving now, over all links.
    pub rx_bps: u64,
    /// Sum of the links' measured capacity upwards.
    pub capacity_up_bps: u64,
    /// Sum of the links' measured capacity downwards.
    pub capacity_down_bps: u64,
    /// Sent since the daemon started, over all links.
    pub bytes_tx: u64,
    /// Received since the daemon started, over all links.
    pub bytes_rx: u64,
    /// Inner packets taken from the tunnel device.
    pub packets_sent: u64,
    /// Inner packets given to the tunnel device.
    pub packets_delivered: u64,
    /// Inner packets sent again after a loss.
    pub packets_retransmitted: u64,
    /// Copies that came after the first.
    pub duplicates_dropped: u64,
    /// Packets dropped, whatever the reason.
    pub packets_dropped: u64,
}

/// Where a client of a server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientState {
    /// Its invite was not used yet.
    Invited,
    /// Its invite's time was over before it was used.
    Expired,
    /// It has joined; whether it is connected is known to a running server only.
    Joined,
    /// It has a session now.
    Connected,
    /// It may not connect any more.
    Revoked,
}

impl ClientState {
    /// The word that is shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Expired => "expired",
            Self::Joined => "joined",
            Self::Connected => "connected",
            Self::Revoked => "revoked",
        }
    }
}

/// One client of a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientEntry {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub state: ClientState,
    /// Its stable inner IPv4 address.
    pub v4: Option<String>,
    /// Its stable inner IPv6 address.
    pub v6: Option<String>,
    /// Its pinned key, base64; none until its first handshake.
    pub public_key: Option<String>,
    /// When an unused invite stops working, Unix seconds.
    pub invite_expires: u64,
}

/// The answer to `clients`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clients {
    /// Sorted by name.
    pub clients: Vec<ClientEntry>,
}

/// The request to change the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModeChange {
    /// The mode wanted.
    pub mode: Mode,
}

/// The answer to a change of mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeAnswer {
    /// The mode from now on.
    pub mode: Mode,
    /// What there is to say about it.
    pub remark: Option<String>,
}
