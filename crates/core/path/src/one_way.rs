//! One-way delay, up to an unknown constant.
//!
//! Every ACK carries the time on the peer's clock at which its largest packet came in. Less the time at which
//! it was sent, that is the delay of this direction plus the difference of the two clocks. The constant is the
//! same on all paths of a session, so paths can be compared with one another, and it vanishes from differences
//! over time, which tell a queue (it rises and falls with what we send) from the way back.
//!
//! Clocks drift by some ten microseconds per second; the base is a minimum over the last ten seconds, which
//! bounds that error to about a millisecond.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::windowed::WindowedMin;

/// How long the base is believed.
const BASE_WINDOW: Duration = Duration::from_secs(12);
/// Samples of which the median counts: a packet that overtook others says nothing about the delay of those others.
const MEDIAN: usize = 5;
/// How long the quick level averages, in mean differences of neighbouring delays: what jitters little is believed at once, on a link that jitters
/// and keeps the order neighbouring delays are alike for some milliseconds.
const QUICK: u32 = 5;
/// The same for the standing level, which must see several of those.
const STANDING: u32 = 25;
/// The bounds of both: a few packets, a cellular grant or two.
const QUICK_BOUNDS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(12));
const STANDING_BOUNDS: (Duration, Duration) = (Duration::from_millis(15), Duration::from_millis(60));

/// One direction's delay, in microseconds of an arbitrary zero that all paths of a session share.
#[derive(Clone, Debug)]
pub struct OneWayDelay {
    previous: Option<(u32, i64)>,
    base: WindowedMin,
    base_delay: i64,
    quick: Level,
    /// The least of the last tenth of a second: what is alike among the samples of a link that lets packets overtake.
    least: WindowedMin,
    standing: Level,
    newest: [i64; MEDIAN],
    samples: usize,
    floors: [i64; 2],
    floor_at: Timestamp,
    floor_span: Duration,
    unrest: i64,
    reorders: bool,
    smoothed: i64,
    unqueued: i64,
    variation: i64,
    jitter: i64,
    base_seen_at: Timestamp,
}

impl OneWayDelay {
    pub(crate) fn new() -> Self {
        Self {
            previous: None,
            base: WindowedMin::new(BASE_WINDOW),
            base_delay: 0,
            quick: Level::default(),
            least: WindowedMin::new(Duration::from_millis(100)),
            standing: Level::default(),
            newest: [0; MEDIAN],
            samples: 0,
            floors: [0; 2],
            floor_at: Timestamp::ZERO,
            floor_span: Duration::from_millis(100),
            unrest: 0,
            reorders: false,
            smoothed: 0,
            unqueued: 0,
            variation: 0,
            jitter: 0,
            base_seen_at: Timestamp::ZERO,
        }
    }

    /// Takes a sample and returns it unwrapped. `queued` is what our own packets before it are believed to have
    /// cost it; `busy` says that the path is used for a good part of its rate.
    pub(crate) fn update(
        &mut self,
        sent_at: Timestamp,
        received_at_micros: u32,
        queued: Duration,
        busy: bool,
        now: Timestamp,
    ) -> i64 {
        let raw = received_at_micros.wrapping_sub(sent_at.as_micros() as u32);
        let bare = |delay: i64| delay - micros(queued);
        let delay = match self.previous {
            None => {
                let delay = i64::from(raw as i32);
                self.smoothed = delay;
                self.unqueued = bare(delay);
                delay
            }
            Some((raw_before, before)) => {
                let delay = before + i64::from(raw.wrapping_sub(raw_before) as i32);
                self.variation += ((delay - self.smoothed).abs() - self.variation) / 8;
                self.jitter += ((delay - before).abs() - self.jitter) / 16;
                self.smoothed += (delay - self.smoothed) / 8;
                self.unqueued += (bare(delay) - self.unqueued) / 8;
                delay
            }
        };
        self.previous = Some((raw, delay));
        let median = self.median(delay);
        let over =
            |times: u32, (least, most): (Duration, Duration)| (self.jitter() * times).clamp(least, most);
        let (quick, standing) = (over(QUICK, QUICK_BOUNDS), over(STANDING, STANDING_BOUNDS));
        self.quick.update(median, quick, sent_at);
        self.standing.update(median, standing, sent_at);
        self.least.update(median, now);
        self.learn_base(if self.reorders { median } else { self.quick.value() }, busy, now);
        self.learn_unrest(now);
        delay
    }

    /// The base is the least quick level of a busy path: where jitter keeps the order, packets in close order wait for one another, and the
    /// delays of a path at rest are out of reach.
    fn learn_base(&mut self, level: i64, busy: bool, now: Timestamp) {
        if busy || self.base.get().is_none() {
            self.base.update(level, now);
            self.base_delay = self.base.get_often().unwrap_or(level);
        }
        if level <= self.base_delay + 2_000 + self.jitter {
            self.base_seen_at = now;
        }
    }

    fn median(&mut self, delay: i64) -> i64 {
        self.newest[self.samples % MEDIAN] = delay;
        self.samples += 1;
        let count = self.samples.min(MEDIAN);
        let mut sorted = self.newest;
        sorted[..count].sort_unstable();
        sorted[count / 2]
    }

    /// How restless the floors of neighbouring windows are, besides a steady rise or fall: what a standing
    /// queue must exceed to be one.
    fn learn_unrest(&mut self, now: Timestamp) {
        if now < self.floor_at + self.floor_span {
            return;
        }
        let floor = self.standing.value();
        if self.floor_at > Timestamp::ZERO && now < self.floor_at + self.floor_span * 3 {
            // The second difference of noise is 1.7 times the first one, and that of a ramp is zero.
            let bend = (floor - 2 * self.floors[0] + self.floors[1]).abs() * 10 / 17;
            self.unrest += (bend - self.unrest) / 8;
            self.floors = [floor, self.floors[0]];
        } else {
            self.floors = [floor; 2];
        }
        self.floor_at = now;
    }

    /// Whether there was a sample.
    pub fn is_measured(&self) -> bool {
        self.previous.is_some()
    }

    /// The smoothed delay in microseconds.
    pub fn smoothed(&self) -> i64 {
        self.smoothed
    }

    /// The mean deviation from it in microseconds.
    pub fn variation(&self) -> i64 {
        self.variation
    }

    /// The least delay that was reached in several of the last twelve seconds, in microseconds, or what took
    /// its place when that turned out to be out of reach.
    pub fn base(&self) -> i64 {
        self.base_delay
    }

    /// What a packet sent onto an empty link can expect, in microseconds: the delay without our own queue, with
    /// the link's jitter.
    pub fn unqueued(&self) -> i64 {
        // The base is that of a busy path, and may be an old one.
        self.unqueued.max(self.base().min(self.smoothed))
    }

    /// The standing queue: the mean delay of the last tenth of a second above the least of a busy path.
    pub fn standing_queue(&self) -> Duration {
        above(self.lowest().unwrap_or(self.standing.value()), self.base_delay)
    }

    fn lowest(&self) -> Option<i64> {
        if self.reorders { self.least.get() } else { None }
    }

    /// The queue as the newest samples show it: quick, and easily fooled by jitter.
    pub(crate) fn quick_queue(&self) -> Duration {
        if self.samples < MEDIAN {
            Duration::ZERO
        } else {
            above(self.lowest().unwrap_or(self.quick.value()), self.base_delay)
        }
    }

    /// The delay of the last few packets, smoothed: what stands in for the delay of one of them where its jitter would count.
    pub(crate) fn quick_level(&self) -> i64 {
        self.quick.value()
    }

    /// By how much the levels of neighbouring spans differ without a trend; our own probes make that on a link that does not jitter.
    /// Where packets overtake, single delays are all over the place.
    pub(crate) fn unrest(&self) -> Duration {
        if self.reorders {
            return Duration::from_micros(self.variation.max(0) as u64) * 2;
        }
        Duration::from_micros(self.unrest.max(0) as u64).min(self.jitter() * 4)
    }

    /// Whether the link lets packets overtake.
    pub(crate) fn reorders(&self) -> bool {
        self.reorders
    }

    /// Lets the base not age.
    pub(crate) fn keep_base(&mut self, now: Timestamp) {
        self.base.reset(self.base_delay, now);
    }

    /// Says whether the link lets packets overtake.
    pub(crate) fn set_reorders(&mut self, reorders: bool) {
        self.reorders = reorders;
    }

    /// The mean difference of neighbouring samples.
    pub(crate) fn jitter(&self) -> Duration {
        Duration::from_micros(self.jitter.max(0) as u64)
    }

    /// When a delay near the base was last seen.
    pub(crate) fn base_seen_at(&self) -> Timestamp {
        self.base_seen_at
    }

    /// Sets how far apart the levels are that unrest compares.
    pub(crate) fn set_floor_span(&mut self, span: Duration) {
        self.floor_span = span;
    }

    /// Takes the present level for the base, if that is no more than `most` above it.
    pub(crate) fn raise_base(&mut self, most: Duration, now: Timestamp) {
        let level = self.quick.value().min(self.base_delay.saturating_add(micros(most)));
        if level > self.base_delay {
            self.base.reset(level, now);
            self.base_delay = level;
        }
    }

    /// Takes the present level for the base: draining did not lower it, so it is no queue of ours.
    pub(crate) fn rebase(&mut self, now: Timestamp) {
        let level = self.lowest().unwrap_or(self.quick.value());
        self.base.reset(level, now);
        self.base_delay = level;
        self.base_seen_at = now;
    }
}

/// A span in microseconds.
pub(crate) fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

fn above(level: i64, base: i64) -> Duration {
    Duration::from_micros(level.saturating_sub(base).max(0) as u64)
}

/// An average that forgets with time, not with samples.
#[derive(Clone, Debug, Default)]
struct Level {
    value: f64,
    updated: Option<Timestamp>,
}

impl Level {
    /// Takes a delay of a packet that left at `sent_at`; the average is one over about the span `over`.
    fn update(&mut self, delay: i64, over: Duration, sent_at: Timestamp) {
        let weight = self.updated.map_or(1.0, |before| {
            let passed = sent_at.since(before).as_secs_f64();
            passed / (passed + over.as_secs_f64())
        });
        self.value += (delay as f64 - self.value) * weight;
        self.updated = Some(sent_at);
    }

    fn value(&self) -> i64 {
        self.value as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_survive_the_wrap_of_the_clock() {
        let mut delay = OneWayDelay::new();
        for i in 0..10_u64 {
            let sent = Timestamp::from_millis(i * 1_000);
            let received = (u32::MAX - 4_000_000).wrapping_add((sent.as_micros() + 20_000 + i * 100) as u32);
            delay.update(sent, received, Duration::ZERO, true, sent + Duration::from_millis(40));
        }
        let queue = delay.standing_queue();
        assert!(queue > Duration::ZERO && queue < Duration::from_millis(1), "{queue:?}: it rose by 0.9 ms");
        assert!(delay.smoothed() > delay.base());
    }
}
