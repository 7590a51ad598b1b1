use core::ops::Range;
use core::time::Duration;

use bondwire_units::Timestamp;

use super::ranges::RangeSet;
use super::segment::MAX_SACK;

/// The receiving half: acknowledges every second segment, after 40 ms, or at once if anything is out of order; reports
/// what it holds by SACK, duplicates by D-SACK. The application reads at once, so that the window stays the same.
///
/// Memory: ranges only, at most as many as segments fit the window.
#[derive(Debug)]
pub(super) struct Receiver {
    /// All before this was received in order.
    next: u64,
    held: RangeSet,
    /// Starts of the ranges that grew last, the newest first.
    newest: Vec<u64>,
    duplicate: Option<Range<u64>>,
    unacknowledged: u32,
    quick: u32,
    delayed_until: Option<Timestamp>,
    ack_now: bool,
    /// The serial to echo (RFC 7323, 4.3).
    echo: u32,
    delivered: Vec<Delivery>,
}

/// Bytes became readable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    pub(super) at: Timestamp,
    pub(super) bytes: u64,
}

const DELAY: Duration = Duration::from_millis(40);
/// The first segments of a connection are acknowledged one by one.
const QUICK: u32 = 16;

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            next: 0,
            held: RangeSet::default(),
            newest: Vec::new(),
            duplicate: None,
            unacknowledged: 0,
            quick: QUICK,
            delayed_until: None,
            ack_now: false,
            echo: 0,
            delivered: Vec::new(),
        }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn echo(&self) -> u32 {
        self.echo
    }

    pub(super) fn handle_data(&mut self, range: Range<u64>, serial: u32, now: Timestamp) {
        if range.start <= self.next {
            self.echo = serial;
        }
        if range.end <= self.next || self.held.containing(range.start).is_some_and(|r| r.end >= range.end) {
            self.duplicate = Some(range);
            self.ack_now = true;
            return;
        }
        let before = self.next;
        if range.start <= self.next {
            self.next = range.end;
            if let Some(joined) = self.held.containing(self.next) {
                self.next = joined.end;
            }
            self.ack_now |= !self.held.is_empty();
            self.held.remove_below(self.next);
            self.delivered.push(Delivery { at: now, bytes: self.next - before });
            self.unacknowledged += 1;
        } else {
            self.held.insert(range.clone());
            let start = self.held.containing(range.start).map_or(range.start, |r| r.start);
            self.newest.retain(|&other| other != start);
            self.newest.insert(0, start);
            self.ack_now = true;
        }
        let held = &self.held;
        self.newest.retain(|&start| held.containing(start).is_some_and(|r| r.start == start));
        self.newest.truncate(MAX_SACK);
        if self.unacknowledged >= 2 || self.quick > 0 {
            self.quick = self.quick.saturating_sub(1);
            self.ack_now = true;
        } else if self.unacknowledged > 0 && self.delayed_until.is_none() {
            self.delayed_until = Some(now + DELAY);
        }
    }

    /// Whether an acknowledgement is due. It is given by then: the counters start anew.
    pub(super) fn take_ack(&mut self, now: Timestamp) -> Option<Vec<Range<u64>>> {
        let due = self.ack_now || self.delayed_until.is_some_and(|at| at <= now);
        if !due {
            return None;
        }
        (self.ack_now, self.delayed_until, self.unacknowledged) = (false, None, 0);
        let mut blocks: Vec<Range<u64>> = self.duplicate.take().into_iter().collect();
        blocks.extend(self.newest.iter().filter_map(|&start| self.held.containing(start)));
        for range in self.held.iter() {
            if blocks.len() >= MAX_SACK {
                break;
            }
            if !blocks.contains(&range) {
                blocks.push(range);
            }
        }
        blocks.truncate(MAX_SACK);
        Some(blocks)
    }

    pub(super) fn ack_soon(&mut self) {
        self.ack_now = true;
    }

    pub(super) fn poll_deadline(&self) -> Option<Timestamp> {
        if self.ack_now { Some(Timestamp::ZERO) } else { self.delayed_until }
    }

    /// What became readable since the last call.
    pub(super) fn take_delivered(&mut self) -> impl Iterator<Item = Delivery> + '_ {
        self.delivered.drain(..)
    }
}
