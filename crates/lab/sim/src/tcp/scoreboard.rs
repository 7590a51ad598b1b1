use core::ops::Range;
use core::time::Duration;
use std::collections::{BTreeSet, VecDeque};

use bondwire_units::Timestamp;

use super::ranges::RangeSet;

/// What the sender knows of each segment that it sent and that is not acknowledged, and RACK's judgement of which are
/// lost (RFC 8985, section 6). Segments are counted, all of them being of one size.
///
/// Memory: the segments of a window, each once per transmission.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    segments: VecDeque<Sent>,
    /// The number of the first of them: all before are acknowledged.
    first: u64,
    sacked: RangeSet,
    sacked_count: u64,
    /// Segments in flight that were sent again.
    again_count: u64,
    lost: BTreeSet<u64>,
    /// Transmissions in order of time; those that no longer matter are dropped when they are met.
    by_time: VecDeque<(Timestamp, u64)>,
    rack: Rack,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    at: Timestamp,
    state: State,
    again: bool,
}

impl Sent {
    fn is_again(&self) -> bool {
        self.again && self.state == State::InFlight
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    Sacked,
    Lost,
}

#[derive(Clone, Debug)]
struct Rack {
    /// The segment sent last among those that were delivered: when, and which.
    newest: Option<(Timestamp, u64)>,
    rtt: Duration,
    reordering: bool,
    /// The highest segment that was delivered.
    highest: u64,
    /// By how many quarters of the least RTT the reordering window is wide.
    factor: u32,
    /// How many recoveries the factor still lasts.
    persists: u32,
}

impl Default for Rack {
    fn default() -> Self {
        Self { newest: None, rtt: Duration::ZERO, reordering: false, highest: 0, factor: 1, persists: 0 }
    }
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Delivered {
    /// Segments that were not known to be delivered before.
    pub(super) segments: u64,
    /// The RTT of the one that was sent first among those sent once, for the timeout.
    pub(super) oldest_rtt: Option<Duration>,
    /// The RTT of the one that was sent last, for congestion control.
    pub(super) newest_rtt: Option<Duration>,
}

impl Scoreboard {
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn next(&self) -> u64 {
        self.first + self.segments.len() as u64
    }

    pub(super) fn outstanding(&self) -> u64 {
        self.segments.len() as u64
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.outstanding() - self.sacked_count - self.lost.len() as u64
    }

    /// Whether what was sent again is under way.
    pub(super) fn has_again(&self) -> bool {
        self.again_count > 0
    }

    pub(super) fn has_sacked(&self) -> bool {
        self.sacked_count > 0
    }

    pub(super) fn first_lost(&self) -> Option<u64> {
        self.lost.first().copied()
    }

    pub(super) fn on_new(&mut self, now: Timestamp) {
        self.by_time.push_back((now, self.next()));
        self.segments.push_back(Sent { at: now, state: State::InFlight, again: false });
    }

    pub(super) fn on_again(&mut self, number: u64, now: Timestamp) {
        if let Some(segment) = self.segments.get_mut((number.wrapping_sub(self.first)) as usize) {
            self.lost.remove(&number);
            self.again_count += u64::from(!segment.is_again());
            *segment = Sent { at: now, state: State::InFlight, again: true };
            self.by_time.push_back((now, number));
        }
    }

    /// All before `first` is acknowledged, and the segments of `sacked` besides.
    pub(super) fn on_ack(
        &mut self,
        first: u64,
        sacked: &[Range<u64>],
        least_rtt: Option<Duration>,
        now: Timestamp,
    ) -> Delivered {
        let mut delivered = Delivered::default();
        while self.first < first {
            let Some(segment) = self.segments.pop_front() else { break };
            let number = self.first;
            self.first += 1;
            self.again_count -= u64::from(segment.is_again());
            match segment.state {
                State::Sacked => self.sacked_count -= 1,
                State::Lost => {
                    self.lost.remove(&number);
                    self.on_delivered(number, segment, least_rtt, &mut delivered, now);
                }
                State::InFlight => self.on_delivered(number, segment, least_rtt, &mut delivered, now),
            }
        }
        self.sacked.remove_below(self.first);
        let next = self.next();
        for range in sacked {
            let range = range.start.max(self.first)..range.end.min(next);
            for number in self.sacked.insert(range).into_iter().flatten() {
                let at = (number - self.first) as usize;
                let segment = self.segments[at];
                self.again_count -= u64::from(segment.is_again());
                self.lost.remove(&number);
                self.segments[at].state = State::Sacked;
                self.sacked_count += 1;
                self.on_delivered(number, segment, least_rtt, &mut delivered, now);
            }
        }
        delivered
    }

    fn on_delivered(
        &mut self,
        number: u64,
        segment: Sent,
        least_rtt: Option<Duration>,
        delivered: &mut Delivered,
        now: Timestamp,
    ) {
        delivered.segments += 1;
        let rtt = now.since(segment.at);
        if !segment.again {
            delivered.oldest_rtt.get_or_insert(rtt);
            delivered.newest_rtt = Some(rtt);
        } else if least_rtt.is_some_and(|least| rtt < least) {
            return;
        }
        let rack = &mut self.rack;
        rack.reordering |= number < rack.highest && !segment.again;
        rack.highest = rack.highest.max(number);
        if rack.newest.is_none_or(|newest| (segment.at, number) > newest) {
            rack.newest = Some((segment.at, number));
            rack.rtt = rtt;
        }
    }

    /// Declares lost what was sent before something that was delivered, and by more than reordering explains. Returns
    /// how many, and when to look again.
    pub(super) fn detect_losses(
        &mut self,
        recovering: bool,
        least_rtt: Duration,
        smoothed: Duration,
        now: Timestamp,
    ) -> (u64, Option<Timestamp>) {
        let Some(newest) = self.rack.newest else { return (0, None) };
        let impatient = !self.rack.reordering && (recovering || self.sacked_count >= 3);
        let window =
            if impatient { Duration::ZERO } else { (least_rtt * self.rack.factor / 4).min(smoothed) };
        let mut count = 0;
        while let Some(&(at, number)) = self.by_time.front() {
            let position = number.wrapping_sub(self.first) as usize;
            let current = self.segments.get(position).filter(|_| number >= self.first);
            let matters = current.is_some_and(|s| s.state == State::InFlight && s.at == at);
            if matters {
                if (at, number) >= newest {
                    break;
                }
                let due = at + self.rack.rtt + window;
                if due > now {
                    return (count, Some(due));
                }
                self.again_count -= u64::from(self.segments[position].is_again());
                self.segments[position].state = State::Lost;
                self.lost.insert(number);
                count += 1;
            }
            self.by_time.pop_front();
        }
        (count, None)
    }

    /// A timeout: everything that is not sacked counts as lost.
    pub(super) fn on_timeout(&mut self) {
        for (number, segment) in (self.first..).zip(&mut self.segments) {
            if segment.state == State::InFlight {
                segment.state = State::Lost;
                self.lost.insert(number);
            }
        }
        self.again_count = 0;
        self.by_time.clear();
    }

    /// A retransmission was for nothing: what is reordered gets more time, for some recoveries.
    pub(super) fn on_duplicate(&mut self) {
        self.rack.reordering = true;
        self.rack.factor = (self.rack.factor + 1).min(16);
        self.rack.persists = 16;
    }

    /// A recovery is over.
    pub(super) fn on_recovered(&mut self) {
        self.rack.persists = self.rack.persists.saturating_sub(1);
        if self.rack.persists == 0 {
            self.rack.factor = 1;
        }
    }
}
