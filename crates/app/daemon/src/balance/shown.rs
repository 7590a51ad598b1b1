//! Sockets as `bondwire sockets` shows them: what the policy knows of each, and what the kernel measures.
//!
//! A socket of the proxy's is listed as its client opened it; the kernel knows two for it, one to the client and one that leaves over the
//! link, and the figures of the latter are shown. All others are listed as the kernel has them, with the policy's word on why. Those that bondwire
//! does not lead are listed too, since they load the links: who is bound to an address, who was connected to.
//!
//! A LAN's flows have no socket here. Connection tracking knows them by the links' marks, and so it does this machine's in the nftables way.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use bondwire_api::{Mode, SocketEntry, Sockets};
use bondwire_balance::{Reason, SocketId, SocketStatus, Stage, Transport};
use bondwire_capture::slot_of;
use bondwire_netctl::FlowStage;
use bondwire_sockets::{Protocol, Socket};
use bondwire_units::{LinkId, Timestamp};

use super::captured::Captured;
use super::desk::Desk;
use super::policy::Policy;
use super::tracked::{Flow, Tracked};
use super::traffic::Placed;
use crate::sockets::{SocketWatch, listed};

/// What is known of sockets that the kernel's program led, by cookie.
#[derive(Clone, Debug)]
pub(super) struct Led {
    /// The policy's number.
    pub(super) id: SocketId,
    /// Why it got its link.
    pub(super) reason: &'static str,
    /// The last look at sockets showed it.
    pub(super) seen: bool,
}

/// All that a picture is made from.
pub(super) struct Sources<'a> {
    pub(super) placed: &'a [Placed],
    pub(super) left_out: usize,
    pub(super) watch: &'a SocketWatch,
    pub(super) policy: &'a Policy,
    pub(super) desk: &'a Desk,
    /// None where no sockets are led: the proxy alone.
    pub(super) captured: Option<&'a Captured>,
    pub(super) led: &'a BTreeMap<u64, Led>,
    pub(super) tracked: &'a Tracked,
    /// This machine's addresses on links: what does not begin at one of them is a LAN's.
    pub(super) own: &'a BTreeSet<IpAddr>,
    /// Whether a LAN's flows are led.
    pub(super) lan: bool,
    pub(super) names: &'a BTreeMap<u32, String>,
    /// The sockets of the proxy's clients on this machine: their own ends, and their inodes.
    pub(super) clients: &'a BTreeMap<SocketAddr, u64>,
}

/// What the kernel measures of the proxy's own sockets, by where they go.
type Measured = BTreeMap<(Transport, SocketAddr, u32), Vec<SocketEntry>>;

impl Sources<'_> {
    /// The picture.
    pub(super) fn sockets(&self) -> Sockets {
        let mut entries = Vec::new();
        let mut measured = Measured::new();
        let mut seen = BTreeSet::new();
        for placed in self.placed {
            let socket = &placed.seen.socket;
            seen.insert(socket.cookie);
            let entry = SocketEntry {
                link: placed.link.and_then(|link| self.name(link)),
                ..self.watch.entry(&placed.seen)
            };
            if entry.pid == Some(std::process::id()) {
                let transport = transport_of(socket.protocol);
                let link = placed.link.map_or(0, |link| link.0);
                measured.entry((transport, socket.remote, link)).or_default().push(entry);
            } else {
                entries.push(self.of_program(entry, socket));
            }
        }
        self.policy.with(|balancer, now| {
            let own = balancer.sockets(now).filter(|socket| self.desk.has(socket.socket));
            entries.extend(own.map(|socket| {
                let client = self.desk.client_of(socket.socket);
                let inode = client.and_then(|client| self.clients.get(&client));
                let program = inode.and_then(|inode| self.watch.owner(*inode));
                SocketEntry {
                    way: "proxy".to_owned(),
                    process: program.map(|program| program.name.clone()),
                    pid: program.map(|program| program.pid),
                    ..self.of_policy(&socket, &mut measured, now)
                }
            }));
            // Datagrams of a socket that never connects: the kernel's list does not say where they go.
            let unseen = self.led.iter().filter(|(cookie, _)| !seen.contains(*cookie));
            entries.extend(unseen.filter_map(|(_, led)| {
                let socket = balancer.socket(led.id, now)?;
                let entry = self.of_policy(&socket, &mut measured, now);
                (socket.transport == Transport::Udp).then(|| SocketEntry {
                    way: "transparent".to_owned(),
                    reason: Some(led.reason.to_owned()),
                    ..entry
                })
            }));
        });
        let mut left_out = self.left_out;
        if self.lan {
            let theirs = self.tracked.all().filter(|flow| !self.own.contains(&flow.tracked.source.ip()));
            entries.extend(theirs.map(|flow| self.of_lan(flow)));
            left_out += self.tracked.left_out();
        }
        listed(Some(Mode::Balance), entries, left_out)
    }

    /// The link by which a tracked flow leaves.
    fn link_of(&self, flow: &Flow) -> Option<String> {
        self.name(self.captured?.link_of_mark(flow.tracked.mark)?)
    }

    /// A flow of a machine behind this one.
    fn of_lan(&self, flow: &Flow) -> SocketEntry {
        let (sent, received) = flow.bytes.unwrap_or_default();
        SocketEntry {
            protocol: if flow.tracked.is_tcp { "tcp".to_owned() } else { "udp".to_owned() },
            stage: stage_of(flow).to_owned(),
            way: "lan".to_owned(),
            local: flow.tracked.source.to_string(),
            remote: flow.tracked.destination.to_string(),
            link: self.link_of(flow),
            age_ms: Some(u64::try_from(flow.since.elapsed().as_millis()).unwrap_or(u64::MAX)),
            bytes_tx: sent,
            bytes_rx: received,
            tx_bps: flow.tx.as_bps(),
            rx_bps: flow.rx.as_bps(),
            ..SocketEntry::default()
        }
    }

    /// A socket that a program opened itself.
    fn of_program(&self, mut entry: SocketEntry, socket: &Socket) -> SocketEntry {
        let led = self.led.get(&socket.cookie);
        // nftables marks a flow and leaves its socket as it is.
        let flow = self.tracked.flow(socket.protocol, socket.local, socket.remote);
        let is_marked = socket.mark.is_some_and(|mark| slot_of(mark).is_some());
        let is_led =
            led.is_some() || is_marked || flow.is_some_and(|flow| slot_of(flow.tracked.mark).is_some());
        if is_led { "transparent" } else { "direct" }.clone_into(&mut entry.way);
        if entry.link.is_none() {
            entry.link = flow.and_then(|flow| self.link_of(flow));
        }
        if let Some(flow) = flow.filter(|flow| !flow.tracked.is_tcp) {
            (entry.bytes_tx, entry.bytes_rx) = flow.bytes.unwrap_or_default();
            (entry.tx_bps, entry.rx_bps) = (flow.tx.as_bps(), flow.rx.as_bps());
        }
        entry.reason = led.map(|led| led.reason.to_owned());
        if let Some(led) = led {
            self.policy.with(|balancer, now| {
                let Some(socket) = balancer.socket(led.id, now) else { return };
                entry.age_ms = Some(millis(socket.opened, now));
                entry.name = socket.name.map(str::to_owned);
                if socket.transport == Transport::Udp {
                    word_of(socket.stage).clone_into(&mut entry.stage);
                }
            });
        }
        entry
    }

    /// A socket as the policy knows it.
    fn of_policy(&self, socket: &SocketStatus<'_>, measured: &mut Measured, now: Timestamp) -> SocketEntry {
        let link = socket.link.map_or(0, |link| link.0);
        // Several to one place cannot be told apart; each shows the figures of one of them.
        let figures = measured.get_mut(&(socket.transport, socket.remote, link)).and_then(Vec::pop);
        let figures = figures.unwrap_or_default();
        SocketEntry {
            protocol: match socket.transport {
                Transport::Tcp => "tcp".to_owned(),
                Transport::Udp => "udp".to_owned(),
            },
            stage: word_of(socket.stage).to_owned(),
            process: socket.process.map(str::to_owned),
            pid: None,
            remote: socket.remote.to_string(),
            name: socket.name.map(str::to_owned),
            link: socket.link.and_then(|link| self.name(link)),
            reason: Some(why(socket.reason).to_owned()),
            age_ms: Some(millis(socket.opened, now)),
            bytes_tx: socket.up.get(),
            bytes_rx: socket.down.get(),
            tx_bps: socket.rate_up.as_bps(),
            rx_bps: socket.rate_down.as_bps(),
            ..figures
        }
    }

    fn name(&self, link: LinkId) -> Option<String> {
        self.names.get(&link.0).cloned()
    }
}

fn millis(since: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(now.since(since).as_millis()).unwrap_or(u64::MAX)
}

fn transport_of(protocol: Protocol) -> Transport {
    match protocol {
        Protocol::Tcp => Transport::Tcp,
        Protocol::Udp => Transport::Udp,
    }
}

/// As the policy's words have it, from what connection tracking says.
fn stage_of(flow: &Flow) -> &'static str {
    match (flow.tracked.is_tcp, flow.tracked.stage) {
        (false, _) if flow.moves => "active",
        (false, _) => "idle",
        (true, FlowStage::Opening) => "connecting",
        (true, FlowStage::Closing) => "closing",
        (true, FlowStage::Open) if flow.tx.as_bps() + flow.rx.as_bps() > 0 => "transferring",
        (true, FlowStage::Open) => "established",
    }
}

fn word_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Created => "created",
        Stage::Bound => "bound",
        Stage::Connecting => "connecting",
        Stage::Established => "established",
        Stage::Transferring => "transferring",
        Stage::Closing => "closing",
        Stage::Closed => "closed",
        Stage::Active => "active",
        Stage::Idle => "idle",
    }
}

fn why(reason: Reason) -> &'static str {
    match reason {
        Reason::Rule => "rule",
        Reason::Sticky => "sticky",
        Reason::Delay => "delay",
        Reason::Load => "load",
        Reason::SpillOver => "spill-over",
        Reason::Fallback => "fallback",
        Reason::LastHope => "last hope",
        Reason::Race => "race",
        Reason::Adopted => "kernel",
    }
}
