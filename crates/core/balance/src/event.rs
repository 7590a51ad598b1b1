//! What the balancer tells the world: events, probes, snapshots.

use core::net::SocketAddr;
use core::time::Duration;

use bondwire_units::{Bitrate, ByteCount, LinkId, Timestamp};

use crate::config::{LinkKind, Priority, Target};
use crate::request::{Reason, SocketId, Stage, Transport};

/// A link's health; see the module `health` for every transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkState {
    /// It works.
    Stable,
    /// Something speaks against it; new sockets avoid it while probes find out.
    Failing,
    /// It does not work; no new socket while another link lives.
    Failed,
    /// It answers again, and has to go on doing so for the hold-down.
    Returning,
}

/// What spoke for or against a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// A connect got no answer.
    ConnectUnanswered,
    /// The interface could not be used.
    LocalError,
    /// It sends and hears nothing.
    SendsOnly,
    /// Its sockets send again and again, and nothing is acknowledged.
    Retransmits,
    /// Connections were reset, and nothing else was heard.
    Resets,
    /// Probes were not answered, by any target.
    ProbesUnanswered,
    /// A probe was answered.
    ProbeAnswered,
    /// Traffic was answered.
    TrafficAnswered,
    /// Its hold-down is over.
    HeldLongEnough,
    /// Nothing can probe it, so it is tried.
    TriedAgain,
    /// It appeared.
    Appeared,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A link's health changed.
    LinkState {
        /// The link.
        link: LinkId,
        /// Its state before.
        from: LinkState,
        /// Its state now.
        to: LinkState,
        /// Why.
        why: Evidence,
    },
    /// A UDP flow goes on over another link, since its own failed or vanished: bind it there.
    SocketMoved {
        /// The flow.
        socket: SocketId,
        /// Where it was.
        from: LinkId,
        /// Where it goes.
        to: LinkId,
    },
    /// The link failed or vanished, and another one works: its TCP sockets are to be closed, so that applications
    /// connect anew. (While none works it is held back: what hangs may yet go on.)
    Evict {
        /// The link.
        link: LinkId,
    },
    /// [`crate::Balancer::plan`] has something new. At most one in 30 ms, except when a link's state changed.
    PlanChanged,
}

/// The number of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub u64);

/// A question to be sent over one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Its number.
    pub id: ProbeId,
    /// The link.
    pub link: LinkId,
    /// Whom to ask, and how.
    pub target: Target,
    /// After how long nobody needs to listen for an answer. To the balancer it is silent sooner, after a patience of
    /// its own; late answers are still worth telling.
    pub timeout: Duration,
}

/// How everything stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Each link, in the order of their numbers.
    pub links: Vec<LinkStatus>,
    /// Sockets in the table.
    pub sockets: usize,
    /// Sites that have a link.
    pub sites: usize,
    /// Sockets opened or adopted.
    pub opened: u64,
    /// Sockets refused.
    pub refused: u64,
    /// Sockets that the table had no room to remember.
    pub forgotten: u64,
    /// Sockets that got a second link in a race.
    pub raced: u64,
    /// UDP flows that were moved.
    pub moved: u64,
}

/// How a link stands. Rates and capacities are of what the interface carries.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkStatus {
    /// Its number.
    pub link: LinkId,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: LinkKind,
    /// Its priority; never [`Priority::Automatic`].
    pub priority: Priority,
    /// Its health.
    pub state: LinkState,
    /// Since when.
    pub since: Timestamp,
    /// What spoke last for or against it.
    pub why: Evidence,
    /// Its share of the next sockets, 0 to 1.
    pub share: f64,
    /// What it is believed to carry up; none while nothing was ever seen.
    pub capacity_up: Option<Bitrate>,
    /// What it is believed to carry down.
    pub capacity_down: Option<Bitrate>,
    /// Whether it was seen full: the capacities are more than lower bounds.
    pub is_capacity_known: bool,
    /// What it carries up now.
    pub rate_up: Bitrate,
    /// What it carries down now.
    pub rate_down: Bitrate,
    /// Whether it is full now.
    pub is_full: bool,
    /// Round-trip time now, load included; none if not measured.
    pub rtt: Option<Duration>,
    /// Round-trip time of the idle link.
    pub idle_rtt: Option<Duration>,
    /// Segments sent again, of those sent, lately: 0 to 1.
    pub retransmits: f64,
    /// Its sockets in the table.
    pub sockets: u32,
    /// Sockets that it got in all.
    pub opened: u64,
    /// Connects that failed on it or were not answered in time.
    pub connects_failed: u64,
    /// How often it failed.
    pub failures: u64,
    /// How long the next connect over it may take before another link is raced.
    pub patience: Duration,
}

/// How a socket stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SocketStatus<'a> {
    /// Its number.
    pub socket: SocketId,
    /// Stream or datagrams.
    pub transport: Transport,
    /// The remote end.
    pub remote: SocketAddr,
    /// The host name, if known.
    pub name: Option<&'a str>,
    /// The process, if known.
    pub process: Option<&'a str>,
    /// Its link; none: bypassed.
    pub link: Option<LinkId>,
    /// Why that one.
    pub reason: Reason,
    /// Where it is in its life.
    pub stage: Stage,
    /// When it was opened.
    pub opened: Timestamp,
    /// Bytes sent.
    pub up: ByteCount,
    /// Bytes received.
    pub down: ByteCount,
    /// What it sends now.
    pub rate_up: Bitrate,
    /// What it receives now.
    pub rate_down: Bitrate,
    /// How long its connect took.
    pub connect_rtt: Option<Duration>,
}
