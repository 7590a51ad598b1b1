//! What the user and the machine may say. Nothing here has to be said: every field has a default.

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;

use bondwire_units::{Bitrate, LinkId};

use crate::request::{Transport, is_port_in};

/// The most links at a time.
pub const MAX_LINKS: usize = 32;
/// The most rules; later ones are not kept.
pub const MAX_RULES: usize = 1024;
/// The most probe targets; later ones are not kept.
pub const MAX_TARGETS: usize = 8;

/// Settings of a [`crate::Balancer`].
#[derive(Clone, Debug)]
pub struct Config {
    /// Tried in order; the first that matches decides. At most [`MAX_RULES`].
    pub rules: Vec<Rule>,
    /// Which sites keep their link.
    pub stickiness: Stickiness,
    /// What is probed, and how often.
    pub probes: ProbeConfig,
    /// Ports of interactive flows: these take the link with the least delay. Default: [`interactive_ports`].
    pub interactive: Vec<Ports>,
    /// Whether interactive flows are chosen by delay at all; default yes. Without it they are spread like all others.
    pub prefer_delay: bool,
    /// The most sockets that are known at a time; default 65,536. Beyond it the one that was quiet longest is
    /// forgotten (it goes on, unseen). A socket takes about 300 bytes and its names.
    pub max_sockets: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            stickiness: Stickiness::default(),
            probes: ProbeConfig::default(),
            interactive: interactive_ports(),
            prefer_delay: true,
            max_sockets: 65_536,
        }
    }
}

/// One link, as [`crate::Balancer::set_link`] takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    /// The interface's number.
    pub id: LinkId,
    /// The interface's name: what rules speak of, and by which a link that comes back is known again.
    pub name: String,
    /// What it is; decides [`Priority::Automatic`].
    pub kind: LinkKind,
    /// When it is used.
    pub priority: Priority,
    /// A fixed weight in place of the measured capacity, in Mbit/s so that it compares with links that are
    /// measured; only the ratio matters. Default none: capacity is measured.
    pub weight: Option<u32>,
    /// What the user allows towards the internet; a ceiling of the measured capacity.
    pub limit_up: Option<Bitrate>,
    /// What the user allows from the internet.
    pub limit_down: Option<Bitrate>,
    /// Probe targets of this link alone, such as the resolvers that its network announced. At most
    /// [`MAX_TARGETS`] together with those of all links. Default none.
    pub targets: Vec<Target>,
}

impl LinkConfig {
    /// A link about which nothing is known but its name.
    pub fn new(id: LinkId, name: &str) -> Self {
        Self {
            id,
            name: name.to_owned(),
            kind: LinkKind::Unknown,
            priority: Priority::Automatic,
            weight: None,
            limit_up: None,
            limit_down: None,
            targets: Vec::new(),
        }
    }
}

/// What a link is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum LinkKind {
    Ethernet,
    Wifi,
    Cellular,
    Satellite,
    Tethered,
    #[default]
    Unknown,
}

/// When a link is used. The order is the order of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// By kind: cellular is secondary, everything else always.
    #[default]
    Automatic,
    /// Whenever it works.
    Always,
    /// When every `Always` link is full or down.
    Secondary,
    /// When every `Always` and `Secondary` link is down.
    Backup,
    /// Not at all, not for probes either.
    Never,
}

impl Priority {
    /// What `Automatic` means for a link of this kind.
    pub fn resolve(self, kind: LinkKind) -> Self {
        match (self, kind) {
            (Self::Automatic, LinkKind::Cellular) => Self::Secondary,
            (Self::Automatic, _) => Self::Always,
            (priority, _) => priority,
        }
    }
}

/// Some ports of a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The transport.
    pub transport: Transport,
    /// Remote ports.
    pub ports: RangeInclusive<u16>,
}

impl Ports {
    /// One port.
    pub const fn one(transport: Transport, port: u16) -> Self {
        Self { transport, ports: port..=port }
    }

    /// Whether a socket to `port` is meant.
    pub fn matches(&self, transport: Transport, port: u16) -> bool {
        self.transport == transport && is_port_in(&self.ports, port)
    }
}

/// Ports whose flows are small and wait for answers: remote shells and desktops, DNS, time, calls, games.
pub fn interactive_ports() -> Vec<Ports> {
    let tcp = [22..=23, 53..=53, 853..=853, 3389..=3389, 5900..=5903];
    let udp = [53..=53, 123..=123, 3074..=3074, 3478..=3481, 5004..=5005, 5060..=5061, 8801..=8810];
    let more = [19302..=19309, 27000..=27200, 50000..=50100];
    let with = |transport| move |ports: RangeInclusive<u16>| Ports { transport, ports };
    let udp = udp.into_iter().chain(more).map(with(Transport::Udp));
    tcp.into_iter().map(with(Transport::Tcp)).chain(udp).collect()
}

/// Sites that keep their link, so that a login does not see two addresses. A site is a host name if one is
/// known, else an address.
#[derive(Clone, Debug)]
pub struct Stickiness {
    /// Which sockets; default TCP and UDP 443.
    pub ports: Vec<Ports>,
    /// How long after its last new socket a site keeps its link; default 10 minutes.
    pub duration: Duration,
    /// The most sites; the one not used longest gives way. Default 16,384; a site takes about 80 bytes.
    pub max_sites: usize,
}

impl Default for Stickiness {
    fn default() -> Self {
        Self {
            ports: vec![Ports::one(Transport::Tcp, 443), Ports::one(Transport::Udp, 443)],
            duration: Duration::from_secs(600),
            max_sites: 16_384,
        }
    }
}

/// What a rule asks of a socket: all that is set must match; a rule with nothing set matches every socket.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    /// The remote address.
    pub prefix: Option<Prefix>,
    /// The remote port.
    pub ports: Option<RangeInclusive<u16>>,
    /// The transport.
    pub transport: Option<Transport>,
    /// The process's name, whole (Linux keeps 15 bytes of it).
    pub process: Option<String>,
    /// The process's user.
    pub uid: Option<u32>,
    /// The host name, in small letters: itself and its subdomains.
    pub name: Option<String>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Which sockets.
    pub when: Match,
    /// What to do with them.
    pub then: Action,
}

/// What a rule does. Links are named, since their numbers change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Take this link. While it does not work: another one, or, if `strict`, none.
    Link {
        /// The link's name.
        name: String,
        /// Whether the socket is refused while the link does not work.
        strict: bool,
    },
    /// Take this link only while no other works.
    Avoid {
        /// The link's name.
        name: String,
    },
    /// Leave the socket to the machine's own routes.
    Bypass,
}

/// An address prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Any address of it.
    pub address: IpAddr,
    /// Its length in bits; more than the address has means all.
    pub length: u8,
}

impl Prefix {
    /// Whether `address` is in it. IPv4 in IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let shift = 32 - u32::from(self.length.min(32));
                u64::from(a.to_bits()) >> shift == u64::from(b.to_bits()) >> shift
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let shift = 128 - u32::from(self.length.min(128));
                shift == 128 || a.to_bits() >> shift == b.to_bits() >> shift
            }
            _ => false,
        }
    }
}

/// Active probes.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Several, of different owners: one that does not answer must prove nothing. A target counts once it has
    /// answered over any link. At most [`MAX_TARGETS`]. Empty: passive evidence alone.
    pub targets: Vec<Target>,
    /// How often a link is probed that has heard nothing; default 1.5 s, with which a silent death is found
    /// within 3 s. At 84 bytes an echo each way that is 10 MB a day; a link that hears its own traffic is
    /// probed every 5 s.
    pub idle_interval: Duration,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        let target =
            |address: [u8; 4], port, method| Target { address: SocketAddr::from((address, port)), method };
        Self {
            targets: vec![
                target([1, 1, 1, 1], 0, ProbeMethod::Ping),
                target([8, 8, 8, 8], 53, ProbeMethod::Dns),
                target([9, 9, 9, 9], 443, ProbeMethod::Connect),
            ],
            idle_interval: Duration::from_millis(1500),
        }
    }
}

/// A place that should answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Where; the port means nothing to a ping.
    pub address: SocketAddr,
    /// How it is asked.
    pub method: ProbeMethod,
}

/// How a target is asked. A refusal is an answer: the link brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeMethod {
    /// An ICMP echo (an unprivileged ping socket does).
    Ping,
    /// A DNS query (for the root's name servers), any reply.
    Dns,
    /// A TCP connection, closed at once.
    Connect,
}
