//! Sockets, as the API tells of them: who speaks with whom, over which link, how it fares.

use serde::{Deserialize, Serialize};

/// The answer to `sockets`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sockets {
    /// The mode: in `balance` each socket has one link, in the others the bond spreads a socket's packets.
    pub mode: Option<crate::Mode>,
    /// Those that leave this machine over a link, the busiest first.
    pub sockets: Vec<SocketEntry>,
    /// How many more there are than are listed.
    pub left_out: u64,
}

/// One TCP connection or UDP flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SocketEntry {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// `created`, `bound`, `connecting`, `established`, `transferring`, `closing` or `closed`; of UDP: `active` or `idle`.
    pub stage: String,
    /// The program's name; none where it is not known: another user's, a LAN's.
    pub process: Option<String>,
    /// Its number.
    pub pid: Option<u32>,
    /// How it came to bondwire: `proxy`, `transparent` or `lan`; `direct` if bondwire does not lead it; `bond` in the packet modes.
    pub way: String,
    /// This end: address and port.
    pub local: String,
    /// The other end: address and port.
    pub remote: String,
    /// The other end's name, where it is known: a proxy is told names.
    pub name: Option<String>,
    /// The link that carries it; none where the bond spreads it over all.
    pub link: Option<String>,
    /// Why this link: a word of the policy, such as `load`, `delay`, `sticky` or `rule`.
    pub reason: Option<String>,
    /// Since bondwire knows it.
    pub age_ms: Option<u64>,
    /// Sent by this side.
    pub bytes_tx: u64,
    /// Received by this side.
    pub bytes_rx: u64,
    /// Sending now.
    pub tx_bps: u64,
    /// Receiving now.
    pub rx_bps: u64,
    /// Smoothed round-trip time; none for UDP, and until one was measured.
    pub rtt_ms: Option<f64>,
    /// Segments sent again; none for UDP.
    pub retransmits: Option<u64>,
}
