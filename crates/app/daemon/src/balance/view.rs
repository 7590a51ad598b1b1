//! How it stands, for the control API.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use bondwire_api::{LinkStatus, Mode, Role, Status, Totals};
use bondwire_balance::{LinkState, Priority, Snapshot};
use bondwire_netctl::Link;

use super::BalanceOptions;
use super::counters::Carried;
use crate::links::LinkChoice;
use crate::status::idle_link;

/// Links whose counters are remembered after they have gone.
const MAX_SEEN: usize = 64;

/// What there is to say before anything was looked at.
pub(super) fn first(options: &BalanceOptions) -> Status {
    View::new(options.proxy).status(&Snapshot { ..empty() }, &[], None)
}

fn empty() -> Snapshot {
    Snapshot {
        links: Vec::new(),
        sockets: 0,
        sites: 0,
        opened: 0,
        refused: 0,
        forgotten: 0,
        raced: 0,
        moved: 0,
    }
}

/// Makes statuses, and remembers what the links carried before.
#[derive(Debug)]
pub(super) struct View {
    started: Instant,
    proxy: Option<SocketAddr>,
    /// By name: what an interface's counters said last, and what was carried by then since the start. At most [`MAX_SEEN`].
    carried: BTreeMap<String, (Carried, Carried)>,
}

impl View {
    /// A view of a balancer that starts now.
    pub(super) fn new(proxy: Option<SocketAddr>) -> Self {
        Self { started: Instant::now(), proxy, carried: BTreeMap::new() }
    }

    /// Where the proxy listens, once the system has chosen the port.
    pub(super) fn set_proxy(&mut self, address: SocketAddr) {
        self.proxy = Some(address);
    }

    /// Notes an interface's counters.
    pub(super) fn note(&mut self, name: &str, now: Carried) {
        if let Some((last, sum)) = self.carried.get_mut(name) {
            // An interface that was made anew counts from zero.
            let step = |now: u64, last: u64| if now >= last { now - last } else { now };
            sum.rx += step(now.rx, last.rx);
            sum.tx += step(now.tx, last.tx);
            *last = now;
        } else if self.carried.len() < MAX_SEEN {
            self.carried.insert(name.to_owned(), (now, Carried::default()));
        }
    }

    /// How everything stands. The links are those of the policy, and those that belong to it and cannot be used now.
    pub(super) fn status(&self, snapshot: &Snapshot, links: &[&Link], choice: Option<&LinkChoice>) -> Status {
        let shown: Vec<LinkStatus> = links.iter().map(|link| self.link(snapshot, link, choice)).collect();
        let mut totals = Totals::default();
        for link in &shown {
            totals.tx_bps += link.tx_bps;
            totals.rx_bps += link.rx_bps;
            totals.capacity_up_bps += link.capacity_up_bps;
            totals.capacity_down_bps += link.capacity_down_bps;
            totals.bytes_tx += link.bytes_tx;
            totals.bytes_rx += link.bytes_rx;
        }
        let reason = (!shown.is_empty() && shown.iter().all(|link| link.state == "down"))
            .then(|| "no link works at present".to_owned());
        Status {
            role: Role::Client,
            mode: Some(Mode::Balance),
            state: "balancing".to_owned(),
            reason,
            server: self.proxy.map(|address| address.to_string()),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            device: None,
            inner_v4: None,
            inner_v6: None,
            mtu: 0,
            links: shown,
            flows: snapshot.sockets as u64,
            totals,
        }
    }

    fn link(&self, snapshot: &Snapshot, link: &Link, choice: Option<&LinkChoice>) -> LinkStatus {
        let wanted = choice.map(|choice| choice.wanted(link));
        let kind = wanted.map_or(link.kind, |wanted| wanted.kind).to_string();
        let mtu = u16::try_from(link.mtu).unwrap_or(u16::MAX);
        let unused = if link.is_usable() { "standby" } else { "down" };
        let mut status = idle_link(&link.name, &kind, unused, mtu);
        if let Some(wanted) = wanted {
            wanted.priority().clone_into(&mut status.priority);
        }
        if let Some((_, sum)) = self.carried.get(&link.name) {
            (status.bytes_tx, status.bytes_rx) = (sum.tx, sum.rx);
        }
        let Some(known) = snapshot.links.iter().find(|known| known.link.0 == link.index) else {
            return status;
        };
        let millis = |time: core::time::Duration| time.as_secs_f64() * 1e3;
        status.state = state_of(known).to_owned();
        status.rtt_ms = known.rtt.map(millis);
        status.loss = known.retransmits.clamp(0.0, 1.0);
        (status.tx_bps, status.rx_bps) = (known.rate_up.as_bps(), known.rate_down.as_bps());
        status.capacity_up_bps = known.capacity_up.map_or(0, |rate| rate.as_bps());
        status.capacity_down_bps = known.capacity_down.map_or(0, |rate| rate.as_bps());
        status.share = Some(known.share);
        status.sockets = Some(known.sockets.into());
        status
    }
}

/// The word for a link's state. One that works and waits for its turn stands by.
fn state_of(link: &bondwire_balance::LinkStatus) -> &'static str {
    match link.state {
        LinkState::Stable if link.share == 0.0 && link.priority != Priority::Always => "standby",
        LinkState::Stable => "active",
        LinkState::Failing => "suspect",
        LinkState::Failed => "down",
        LinkState::Returning => "probing",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_carried_never_falls() {
        let mut view = View::new(None);
        for (rx, tx) in [(1000, 10), (1500, 20), (100, 5)] {
            view.note("wan0", Carried { rx, tx });
        }
        assert_eq!(view.carried["wan0"].1, Carried { rx: 600, tx: 15 });
        for index in 0..2 * MAX_SEEN {
            view.note(&format!("ppp{index}"), Carried::default());
        }
        assert_eq!(view.carried.len(), MAX_SEEN);
    }

    #[test]
    fn before_anything_is_known_the_mode_is() {
        let options = BalanceOptions {
            proxy: Some("127.0.0.1:1080".parse().expect("good")),
            ..BalanceOptions::default()
        };
        let status = first(&options);
        assert_eq!((status.mode, status.server.as_deref()), (Some(Mode::Balance), Some("127.0.0.1:1080")));
        assert_eq!(status.reason, None);
    }
}
