//! From the bond's figures to the control API's.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use bondwire_api::{LinkStatus, Mode, Totals};
use bondwire_bond::{Counters, PathState, PathStatus};
use bondwire_path::{OVERHEAD_IPV4, OVERHEAD_IPV6};
use bondwire_units::PathId;

/// The API's name of a mode.
pub(crate) fn mode_of(mode: bondwire_wire::Mode) -> Mode {
    match mode {
        bondwire_wire::Mode::Speed => Mode::Speed,
        bondwire_wire::Mode::Streaming => Mode::Streaming,
        bondwire_wire::Mode::Redundant => Mode::Redundant,
    }
}

/// The bond's name of a mode.
pub(crate) fn mode_for(mode: Mode) -> bondwire_wire::Mode {
    match mode {
        // `balance` is refused wherever a bond's mode is said.
        Mode::Speed | Mode::Balance => bondwire_wire::Mode::Speed,
        Mode::Streaming => bondwire_wire::Mode::Streaming,
        Mode::Redundant => bondwire_wire::Mode::Redundant,
    }
}

/// What is known of a link without any path: nothing but its name.
pub(crate) fn idle_link(name: &str, kind: &str, state: &str, mtu: u16) -> LinkStatus {
    LinkStatus {
        name: name.to_owned(),
        kind: kind.to_owned(),
        priority: "always".to_owned(),
        state: state.to_owned(),
        rtt_ms: None,
        jitter_ms: None,
        loss: 0.0,
        spurious: 0.0,
        tx_bps: 0,
        rx_bps: 0,
        capacity_up_bps: 0,
        capacity_down_bps: 0,
        bytes_tx: 0,
        bytes_rx: 0,
        in_flight_bytes: 0,
        mtu,
        remote: None,
        share: None,
        sockets: None,
    }
}

/// Writes the figures of a link's paths into its status: sums, and the state and delay of the best path. Without paths it stays as it is.
pub(crate) fn fill<'a>(link: &mut LinkStatus, paths: impl IntoIterator<Item = &'a PathStatus>) {
    let mut best: Option<&PathStatus> = None;
    let (mut packets, mut spurious) = (0_u64, 0_u64);
    for path in paths {
        packets += path.packets_tx;
        spurious += path.spurious;
        link.tx_bps += path.tx.as_bps();
        link.rx_bps += path.rx.as_bps();
        link.capacity_up_bps += path.capacity_tx.as_bps();
        link.capacity_down_bps += path.capacity_rx.as_bps();
        link.in_flight_bytes += path.in_flight.get();
        if best.is_none_or(|best| rank(path) > rank(best)) {
            best = Some(path);
        }
    }
    let Some(best) = best else { return };
    link.state = state_of(best).to_owned();
    link.rtt_ms = best.rtt.map(|rtt| rtt.as_secs_f64() * 1e3);
    link.jitter_ms = best.rtt.map(|_| best.rtt_variation.as_secs_f64() * 1e3);
    link.loss = best.loss.clamp(0.0, 1.0);
    link.spurious = spurious as f64 / packets.max(1) as f64;
    link.mtu = best.mtu.saturating_add(overhead(best.remote));
    link.remote = Some(best.remote.to_string());
}

/// IP and UDP headers of a datagram to that address, in bytes.
fn overhead(remote: SocketAddr) -> u16 {
    let bytes = if remote.is_ipv4() { OVERHEAD_IPV4 } else { OVERHEAD_IPV6 };
    u16::try_from(bytes).unwrap_or(0)
}

/// A path that works counts for more than one that does not.
fn rank(path: &PathStatus) -> u8 {
    match path.state {
        PathState::Active => 3,
        PathState::Probing => 2,
        PathState::Suspect => 1,
        PathState::Down => 0,
    }
}

/// The word for a path's state. A path that is alive and kept out of use, by measurement or by its priority, stands by.
fn state_of(path: &PathStatus) -> &'static str {
    match path.state {
        PathState::Active if path.demoted || path.standby => "standby",
        PathState::Active => "active",
        PathState::Probing => "probing",
        PathState::Suspect => "suspect",
        PathState::Down => "down",
    }
}

/// Sums over links, and what became of inner packets.
pub(crate) fn totals(links: &[LinkStatus], counters: impl IntoIterator<Item = Counters>) -> Totals {
    let mut totals = Totals::default();
    for link in links {
        totals.tx_bps += link.tx_bps;
        totals.rx_bps += link.rx_bps;
        totals.capacity_up_bps += link.capacity_up_bps;
        totals.capacity_down_bps += link.capacity_down_bps;
        totals.bytes_tx += link.bytes_tx;
        totals.bytes_rx += link.bytes_rx;
    }
    for counters in counters {
        totals.packets_sent += counters.sent;
        totals.packets_delivered += counters.order.delivered;
        totals.packets_retransmitted += counters.repaired + counters.rescued;
        totals.duplicates_dropped += counters.order.duplicates;
        totals.packets_dropped += counters.drops.iter().map(|(_, count)| count).sum::<u64>()
            + counters.given_up
            + counters.reassembly_dropped;
    }
    totals
}

/// Bytes that a link, or a client, has carried since the daemon started, although paths and sessions come and go.
///
/// Bound: one entry for each key that was ever seen, and its paths of the newest session (at most 16 at a time).
#[derive(Debug, Default)]
pub(crate) struct Odometer<K: Ord> {
    entries: BTreeMap<K, Mileage>,
}

#[derive(Debug, Default)]
struct Mileage {
    /// Of paths that are gone.
    past: (u64, u64),
    paths: BTreeMap<PathId, (u64, u64)>,
}

impl<K: Ord> Odometer<K> {
    /// Notes what the paths of `key` have carried by now, and gives the sums, sent and received.
    pub(crate) fn note<'a>(&mut self, key: K, paths: impl IntoIterator<Item = &'a PathStatus>) -> (u64, u64) {
        let mileage = self.entries.entry(key).or_default();
        let mut gone = std::mem::take(&mut mileage.paths);
        for path in paths {
            let now = (path.bytes_tx.get(), path.bytes_rx.get());
            // Less than before is another session's path with the same number.
            if gone.get(&path.id).is_some_and(|before| before.0 <= now.0 && before.1 <= now.1) {
                gone.remove(&path.id);
            }
            mileage.paths.insert(path.id, now);
        }
        for (tx, rx) in gone.into_values() {
            mileage.past.0 += tx;
            mileage.past.1 += rx;
        }
        mileage.paths.values().fold(mileage.past, |sum, path| (sum.0 + path.0, sum.1 + path.1))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bondwire_bond::LinkPriority;
    use bondwire_units::{Bitrate, ByteCount, LinkId};

    use super::*;

    fn path(id: u8, state: PathState, bytes: u64) -> PathStatus {
        PathStatus {
            id: PathId(id),
            link: LinkId(1),
            remote: "192.0.2.1:4433".parse().expect("good"),
            state,
            demoted: false,
            standby: false,
            priority: LinkPriority::Always,
            rtt: Some(Duration::from_micros(20_500)),
            rtt_variation: Duration::from_millis(2),
            loss: 0.01,
            packets_tx: 1_000,
            spurious: 5,
            capacity_tx: Bitrate::from_bps(10),
            capacity_rx: Bitrate::from_bps(20),
            tx: Bitrate::from_bps(1),
            rx: Bitrate::from_bps(2),
            bytes_tx: ByteCount::new(bytes),
            bytes_rx: ByteCount::new(2 * bytes),
            in_flight: ByteCount::new(3),
            mtu: 1472,
        }
    }

    #[test]
    fn a_link_shows_its_best_path() {
        let mut link = idle_link("wan0", "ethernet", "down", 1500);
        fill(&mut link, &[]);
        assert_eq!((link.state.as_str(), link.mtu), ("down", 1500));
        fill(&mut link, &[path(1, PathState::Down, 0), path(2, PathState::Active, 0)]);
        assert_eq!((link.state.as_str(), link.mtu, link.rtt_ms), ("active", 1500, Some(20.5)));
        assert_eq!(link.spurious, 0.005, "of all that its paths sent");
        assert_eq!((link.tx_bps, link.rx_bps, link.capacity_up_bps, link.capacity_down_bps), (2, 4, 20, 40));
    }

    #[test]
    fn bytes_never_fall() {
        let mut odometer = Odometer::default();
        assert_eq!(odometer.note("wan0", &[path(1, PathState::Active, 100)]), (100, 200));
        assert_eq!(
            odometer.note("wan0", &[path(1, PathState::Active, 150), path(2, PathState::Active, 5)]),
            (155, 310)
        );
        assert_eq!(odometer.note("wan0", &[path(2, PathState::Active, 6)]), (156, 312), "a path was closed");
        assert_eq!(
            odometer.note("wan0", &[path(2, PathState::Active, 1)]),
            (157, 314),
            "a new session began"
        );
        assert_eq!(odometer.note("wan0", &[]), (157, 314));
        assert_eq!(odometer.note("wan1", &[]), (0, 0));
    }
}
