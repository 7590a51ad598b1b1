//! The flows that connection tracking knows by the links' marks: a LAN's, and of this machine those of which no socket tells enough.
//!
//! A flow that still sends is told by its bytes where the kernel counts them, and otherwise by the time that is left until it would be forgotten:
//! each packet starts that anew.
//!
//! Bound: [`bondwire_netctl::MAX_FLOWS`] flows.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bondwire_capture::MARKS;
use bondwire_netctl::{NetError, TrackedFlow, tracked_flows};
use bondwire_sockets::Protocol;
use bondwire_units::{Bitrate, ByteCount};

/// Two looks that are closer than this say nothing about a rate.
const MIN_STEP: Duration = Duration::from_millis(50);
/// The kernel tells the time that is left in whole seconds.
const MIN_WAIT: Duration = Duration::from_secs(3);

/// Which flow: whether it is TCP's, its beginning, its end.
type Key = (bool, SocketAddr, SocketAddr);

/// A flow, as two looks tell it.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    pub(super) tracked: TrackedFlow,
    /// As the kernel counts them.
    pub(super) bytes: Option<(u64, u64)>,
    /// Whether anything passed lately.
    pub(super) moves: bool,
    pub(super) tx: Bitrate,
    pub(super) rx: Bitrate,
    /// When it was seen first.
    pub(super) since: Instant,
    /// When what is compared was seen, and what was left then.
    compared: Instant,
    left: Duration,
}

/// All flows with a link's mark, as they were at the last look.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    flows: BTreeMap<Key, Flow>,
    left_out: usize,
}

impl Tracked {
    /// Lists them.
    pub(super) fn look(&mut self) -> Result<(), NetError> {
        let (mark, mask) = MARKS;
        let (flows, left_out) = tracked_flows(mark, mask)?;
        self.take(flows, Instant::now());
        self.left_out = left_out;
        Ok(())
    }

    fn take(&mut self, flows: Vec<TrackedFlow>, now: Instant) {
        let mut before = std::mem::take(&mut self.flows);
        for tracked in flows {
            let key = (tracked.is_tcp, tracked.source, tracked.destination);
            let flow = match before.remove(&key) {
                Some(before) => before.followed_by(tracked, now),
                None => Flow::new(tracked, now),
            };
            self.flows.insert(key, flow);
        }
    }

    /// The flow that a socket of this machine began.
    pub(super) fn flow(&self, protocol: Protocol, local: SocketAddr, remote: SocketAddr) -> Option<&Flow> {
        self.flows.get(&(protocol == Protocol::Tcp, local, remote))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Flow> {
        self.flows.values()
    }

    /// How many there were beyond the bound.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }
}

impl Flow {
    fn new(tracked: TrackedFlow, now: Instant) -> Self {
        let (bytes, left) = (tracked.bytes, tracked.left);
        let (tx, rx) = (Bitrate::ZERO, Bitrate::ZERO);
        Self { tracked, bytes, moves: true, tx, rx, since: now, compared: now, left }
    }

    fn followed_by(self, tracked: TrackedFlow, now: Instant) -> Self {
        let step = now.duration_since(self.compared);
        let next = Self { since: self.since, ..Self::new(tracked, now) };
        match (self.bytes, next.bytes) {
            (Some(was), Some(is)) if step >= MIN_STEP => {
                let rate = |is: u64, was: u64| {
                    Bitrate::from_bytes_over(ByteCount::new(is.saturating_sub(was)), step)
                };
                Self { moves: is != was, tx: rate(is.0, was.0), rx: rate(is.1, was.1), ..next }
            }
            // Half of the time that has passed: seconds are rounded.
            (None, None) if step >= MIN_WAIT => Self { moves: next.left + step / 2 > self.left, ..next },
            _ => Self { tracked: next.tracked, ..self },
        }
    }
}

#[cfg(test)]
mod tests {
    use bondwire_netctl::FlowStage;

    use super::*;

    fn flow(left: u64, bytes: Option<(u64, u64)>) -> TrackedFlow {
        TrackedFlow {
            is_tcp: false,
            source: "10.1.0.2:5000".parse().expect("good"),
            destination: "192.0.2.1:443".parse().expect("good"),
            mark: MARKS.0 + 1,
            stage: FlowStage::Open,
            left: Duration::from_secs(left),
            bytes,
        }
    }

    /// What became of the flow at each of these seconds.
    fn seen(looks: &[(u64, TrackedFlow)]) -> Vec<(bool, u64, u64)> {
        let (mut tracked, start) = (Tracked::default(), Instant::now());
        let look = |(second, flow): &(u64, TrackedFlow)| {
            tracked.take(vec![flow.clone()], start + Duration::from_secs(*second));
            let flow = tracked.flow(Protocol::Udp, flow.source, flow.destination).expect("known");
            (flow.moves, flow.tx.as_bps(), flow.rx.as_bps())
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn bytes_tell_what_moves_and_how_fast() {
        let looks = [(0, Some((0, 0))), (1, Some((125, 1_250))), (2, Some((125, 1_250)))];
        let looks = looks.map(|(at, bytes)| (at, flow(120, bytes)));
        assert_eq!(seen(&looks), [(true, 0, 0), (true, 1_000, 10_000), (false, 0, 0)]);
    }

    #[test]
    fn without_bytes_the_time_that_is_left_tells_what_moves() {
        let looks = [(0, 119), (1, 118), (5, 119), (10, 114), (15, 109), (20, 118)];
        let moves: Vec<bool> =
            seen(&looks.map(|(at, left)| (at, flow(left, None)))).into_iter().map(|seen| seen.0).collect();
        assert_eq!(moves, [true, true, true, false, false, true]);
    }
}
