//! A CUBIC flow of somebody else on the same link.

use std::collections::VecDeque;

use super::*;

/// Numbers of its packets start here.
pub(super) const NUMBERS: u64 = 1 << 63;

/// CUBIC (RFC 9438) with in-order arrivals, reduced to its window.
pub(super) struct Cubic {
    way_back: Duration,
    next: u64,
    expected: u64,
    in_flight: f64,
    window: f64,
    threshold: f64,
    greatest: f64,
    epoch: Timestamp,
    hold: Timestamp,
    last: Timestamp,
    acks: VecDeque<(Timestamp, u64)>,
    pub(super) arrived: u64,
    stopped: bool,
}

impl Cubic {
    pub(super) fn new(way_back: Duration) -> Self {
        Self {
            way_back,
            next: 0,
            expected: 0,
            in_flight: 0.0,
            window: 10.0,
            threshold: f64::MAX,
            greatest: 0.0,
            epoch: Timestamp::ZERO,
            hold: Timestamp::ZERO,
            last: Timestamp::ZERO,
            acks: VecDeque::new(),
            arrived: 0,
            stopped: false,
        }
    }

    pub(super) fn next_event(&self) -> Option<Timestamp> {
        self.acks.front().map(|&(at, _)| at)
    }

    pub(super) fn on_arrival(&mut self, number: u64, now: Timestamp) {
        self.acks.push_back((now + self.way_back, number.saturating_sub(self.expected)));
        self.expected = number + 1;
        self.arrived += 1_500;
    }

    pub(super) fn run(&mut self, out: &mut Pipe<(u64, usize, bool)>, now: Timestamp) {
        while self.acks.front().is_some_and(|&(at, _)| at <= now) {
            let lost = self.acks.pop_front().map_or(0, |(_, lost)| lost);
            self.last = now;
            self.in_flight = (self.in_flight - 1.0 - lost as f64).max(0.0);
            self.grow(lost, now);
        }
        if self.in_flight > 0.0 && now.since(self.last) > Duration::from_secs(1) {
            (self.window, self.in_flight, self.last) = (2.0, 0.0, now);
        }
        while self.in_flight + 1.0 <= self.window && !self.stopped {
            out.handle_packet((NUMBERS + self.next, 1_500, false), 1_500, now);
            self.next += 1;
            self.in_flight += 1.0;
        }
    }

    fn grow(&mut self, lost: u64, now: Timestamp) {
        if lost > 0 {
            if now >= self.hold {
                self.greatest = self.window;
                self.window = (self.window * 0.7).max(2.0);
                self.threshold = self.window;
                self.epoch = now;
                self.hold = now + Duration::from_millis(100);
            }
        } else if self.window < self.threshold {
            self.window += 1.0;
        } else {
            let t = now.since(self.epoch).as_secs_f64() - (self.greatest * 0.3 / 0.4).cbrt();
            let target = 0.4 * t.powi(3) + self.greatest;
            self.window += ((target - self.window) / self.window).clamp(0.5 / self.window, 0.5);
        }
    }
}

#[test]
fn a_cubic_neighbour_gets_its_share_and_leaves_ours() {
    for (rate, delay, jitter) in [(50.0, 10, 0), (20.0, 30, 0), (20.0, 40, 10)] {
        let mut run = Loop::new(link(rate, delay, jitter, 0.0), 3);
        run.run_until(at(3_000));
        run.cross = Some(Cubic::new(Duration::from_millis(delay)));
        run.run_until(at(10_000));
        let before = run.cross.as_ref().unwrap().arrived;
        run.run_until(at(40_000));
        let ours = run.goodput(at(10_000), at(40_000)) / rate;
        let theirs = (run.cross.as_ref().unwrap().arrived - before) as f64 * 8.0 / 30.0 / 1e6 / rate;
        println!("{rate}/{delay}±{jitter}: ours {ours:.2}, theirs {theirs:.2}");
        assert!(ours >= 0.15 && theirs >= 0.15, "{ours} {theirs}");
        run.cross.as_mut().unwrap().stopped = true;
        run.run_until(at(50_000));
        let alone = run.goodput(at(44_000), at(50_000)) / rate;
        assert!(alone >= 0.9, "{alone} after the neighbour left");
    }
}
