//! What one direction of a link carries, and what it could: learnt from the interface's counters alone.
//!
//! A rate that was seen is a lower bound of the capacity; it becomes *known* when the link was seen full. Three
//! things count as full: the delay rises while something that would take more is running; several transfers
//! together stay level for seconds and nothing contradicts it; the user's limit is reached. Whoever took the lower
//! bound for the capacity would never find out: a link with a small figure gets little to carry, and keeps it.
//! So a link whose capacity is not known is treated as equal to the others (module `shares`).
//!
//! While a link is full its capacity follows what it carries, upwards at once, downwards with a time constant of
//! 1.5 s: a rate that halves is followed within about two seconds. While it is not full nothing is concluded
//! from it carrying less, so an idle link keeps what it knew; after half an hour without being full, the
//! knowledge is a lower bound again (and a presumption already after a minute).

use bondwire_units::Timestamp;
use core::time::Duration;

/// The shortest span over which a rate is measured: bursts of a driver are shorter.
const WINDOW: Duration = Duration::from_millis(200);
/// The time constant of the present rate, in seconds.
const RATE_SECONDS: f64 = 0.5;
/// How long a transfer that ended is still wholly in the present rate: a window, and the way to it.
const LAG: Duration = Duration::from_millis(250);
/// The time constants, in seconds, with which the capacity follows a lower rate: full, and presumed to be.
const FULL_SECONDS: f64 = 1.5;
const PRESUMED_SECONDS: f64 = 30.0;
/// How long a full link has to be so before it counts.
const FULL_FOR: Duration = Duration::from_millis(400);
/// How long several transfers have to stay level.
const LEVEL_FOR: Duration = Duration::from_secs(5);
/// How long a capacity is known after the link was last seen full, or presumed to be.
const KNOWN_FOR: Duration = Duration::from_secs(1800);
const PRESUMED_FOR: Duration = Duration::from_secs(60);
/// The least capacity, in bits per second: a link that stalls must not vanish from the shares.
pub(crate) const LEAST: f64 = 100e3;

/// What is known besides the counters when a sample comes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signs {
    /// Whether the delay stands above that of the idle link; none if it was not measured lately.
    pub(crate) inflated: Option<bool>,
    /// A transfer here gets less than half of what one gets over some other link.
    pub(crate) poor: bool,
    /// Sockets that transfer in this direction.
    pub(crate) transfers: u32,
    /// Whether the other direction may be the full one.
    pub(crate) other_busy: bool,
}

/// One direction. Rates are in bits per second.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meter {
    counter: Option<u64>,
    window_start: Timestamp,
    window_bytes: u64,
    before: f64,
    rate: f64,
    capacity: f64,
    known_until: Timestamp,
    pressed_since: Option<Timestamp>,
    level: f64,
    level_since: Timestamp,
    gone: f64,
    gone_at: Timestamp,
}

impl Meter {
    /// Takes the counter; the bytes since the one before, if it did not start anew.
    pub(crate) fn update(&mut self, counter: u64, signs: Signs, now: Timestamp) -> Option<u64> {
        let Some(last) = self.counter.replace(counter).filter(|&last| last <= counter) else {
            self.window_start = now;
            self.window_bytes = 0;
            return None;
        };
        self.window_bytes += counter - last;
        let span = now.since(self.window_start);
        if span >= WINDOW {
            let seconds = span.as_secs_f64();
            let rate = self.window_bytes as f64 * 8.0 / seconds;
            self.on_window(rate, seconds, signs, now);
            self.window_start = now;
            self.window_bytes = 0;
        }
        Some(counter - last)
    }

    fn on_window(&mut self, rate: f64, seconds: f64, signs: Signs, now: Timestamp) {
        self.rate += (rate - self.rate) * follow(seconds, RATE_SECONDS);
        // Twice in a row, since a buffer that empties is no capacity.
        let sustained = rate.min(self.before);
        self.before = rate;
        self.capacity = self.capacity.max(sustained);
        if (self.rate - self.level).abs() > self.level * 0.1 {
            self.level = self.rate;
            self.level_since = now;
        }
        if self.is_pressed(rate, signs) {
            let since = *self.pressed_since.get_or_insert(now);
            if now.since(since) >= FULL_FOR {
                self.lower(rate, seconds, FULL_SECONDS);
                self.known_until = now + KNOWN_FOR;
            }
        } else {
            self.pressed_since = None;
            self.presume(rate, seconds, signs, now);
        }
    }

    fn is_pressed(&self, rate: f64, signs: Signs) -> bool {
        let near = rate >= self.capacity * 0.7;
        signs.inflated == Some(true)
            && rate >= LEAST
            && (signs.transfers > 0 || rate >= self.capacity * 0.8)
            && (near || !signs.other_busy)
    }

    /// Several transfers that stay level are probably limited by what they share. That each of them is limited
    /// by its own far end is possible too, hence only a presumption; and none if there is no queue and they fare
    /// no worse than elsewhere. (Loss slows CUBIC down below a link's capacity without any queue: to take that
    /// for the capacity would take transfers away from where a further one still adds to the sum. A policer, in
    /// contrast, drops without a queue and leaves its transfers poor.)
    fn presume(&mut self, rate: f64, seconds: f64, signs: Signs, now: Timestamp) {
        let contradicted = signs.inflated == Some(false) && !signs.poor;
        if signs.transfers >= 2
            && !contradicted
            && self.level >= LEAST
            && now.since(self.level_since) >= LEVEL_FOR
        {
            self.lower(rate, seconds, PRESUMED_SECONDS);
            if self.rate >= self.capacity * 0.8 {
                self.known_until = self.known_until.max(now + PRESUMED_FOR);
            }
        }
    }

    fn lower(&mut self, rate: f64, seconds: f64, constant: f64) {
        if rate < self.capacity {
            self.capacity += (rate - self.capacity) * follow(seconds, constant);
            self.capacity = self.capacity.max(LEAST);
        }
    }

    /// The counters will start anew; what was learnt stays.
    pub(crate) fn restart(&mut self) {
        self.counter = None;
        self.rate = 0.0;
        self.before = 0.0;
        self.gone = 0.0;
        self.pressed_since = None;
    }

    /// What passes now.
    pub(crate) fn rate(&self, now: Timestamp) -> f64 {
        // Without counters nothing is known any more.
        if now.since(self.window_start) > Duration::from_secs(5) { 0.0 } else { self.rate }
    }

    /// A transfer of this rate ended after it had lasted this long: the present rate will follow.
    pub(crate) fn on_gone(&mut self, rate: f64, lasted: Duration, now: Timestamp) {
        self.gone = self.gone(now) + rate * follow(lasted.as_secs_f64(), RATE_SECONDS);
        self.gone_at = now;
    }

    /// The part of the present rate whose transfers have ended.
    fn gone(&self, now: Timestamp) -> f64 {
        let since = now.since(self.gone_at + LAG).as_secs_f64();
        self.gone * (-since / RATE_SECONDS).exp()
    }

    /// What passes now, without what has ended.
    pub(crate) fn lasting(&self, now: Timestamp) -> f64 {
        (self.rate(now) - self.gone(now)).max(0.0)
    }

    /// The greatest rate that was seen for long enough, or the capacity once it is known; 0 before.
    pub(crate) fn capacity(&self) -> f64 {
        self.capacity
    }

    pub(crate) fn is_known(&self, now: Timestamp) -> bool {
        now < self.known_until
    }

    /// Whether nothing more fits, up to `limit`.
    pub(crate) fn is_full(&self, limit: f64, now: Timestamp) -> bool {
        let rate = self.rate(now);
        rate >= limit * 0.9 || (self.is_known(now) && rate >= self.capacity * 0.85 && rate >= LEAST)
    }
}

/// The part of the way that an exponential average goes in `seconds`.
fn follow(seconds: f64, constant: f64) -> f64 {
    1.0 - (-seconds / constant).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `rate` for `seconds`, every 100 ms.
    fn feed(meter: &mut Meter, rate: f64, seconds: f64, signs: Signs, now: &mut Timestamp) {
        for _ in 0..(seconds * 10.0) as u32 {
            *now += Duration::from_millis(100);
            let counter = meter.counter.unwrap_or_default() + (rate / 80.0) as u64;
            meter.update(counter, signs, *now);
        }
    }

    const FULL: Signs = Signs { inflated: Some(true), poor: false, transfers: 2, other_busy: false };
    const FREE: Signs = Signs { inflated: Some(false), poor: false, transfers: 1, other_busy: false };

    #[test]
    fn a_link_that_was_never_full_is_not_known() {
        let (mut meter, mut now) = (Meter::default(), Timestamp::ZERO);
        feed(&mut meter, 5e6, 60.0, FREE, &mut now);
        assert!((4.5e6..5.5e6).contains(&meter.capacity()), "{}", meter.capacity());
        assert!(!meter.is_known(now));
        feed(&mut meter, 50e6, 2.0, FULL, &mut now);
        assert!(meter.is_known(now) && meter.is_full(f64::INFINITY, now));
    }

    #[test]
    fn follows_a_full_link_and_remembers_while_idle() {
        let (mut meter, mut now) = (Meter::default(), Timestamp::ZERO);
        feed(&mut meter, 50e6, 5.0, FULL, &mut now);
        feed(&mut meter, 25e6, 3.0, FULL, &mut now);
        assert!((24e6..31e6).contains(&meter.capacity()), "{}", meter.capacity());
        feed(&mut meter, 50e6, 1.0, FULL, &mut now);
        assert!(meter.capacity() > 49e6, "upwards at once");
        let capacity = meter.capacity();
        feed(&mut meter, 0.0, 900.0, FREE, &mut now);
        assert!(meter.capacity() == capacity && meter.is_known(now), "remembers while idle");
        feed(&mut meter, 1e6, 950.0, FREE, &mut now);
        assert!(!meter.is_known(now), "after half an hour it is a lower bound again");
    }

    #[test]
    fn level_transfers_are_presumed_to_fill_a_link() {
        let (mut meter, mut now) = (Meter::default(), Timestamp::ZERO);
        let many = Signs { transfers: 5, ..FREE };
        feed(&mut meter, 10e6, 10.0, many, &mut now);
        assert!(!meter.is_known(now), "no queue, and as good as elsewhere");
        let (mut meter, mut now) = (Meter::default(), Timestamp::ZERO);
        let many = Signs { poor: true, ..many };
        feed(&mut meter, 10e6, 4.0, many, &mut now);
        assert!(!meter.is_known(now));
        feed(&mut meter, 10e6, 4.0, many, &mut now);
        assert!(meter.is_known(now));
        feed(&mut meter, 0.0, 61.0, FREE, &mut now);
        assert!(!meter.is_known(now), "a presumption ages sooner");
    }

    #[test]
    fn a_counter_that_starts_anew_is_no_burst() {
        let mut meter = Meter::default();
        meter.update(1 << 40, FREE, Timestamp::from_millis(0));
        assert_eq!(meter.update(100, FREE, Timestamp::from_millis(300)), None);
        assert_eq!(meter.update(400, FREE, Timestamp::from_millis(600)), Some(300));
        assert!(meter.rate(Timestamp::from_millis(600)) < 1e5);
    }
}
