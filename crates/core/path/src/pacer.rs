//! Pacing: at most one millisecond of credit, so that a path never gets a burst that its link would have to queue.
//!
//! Credit grows with time at the pacing rate, up to one millisecond's worth and at least one packet. A packet
//! may leave while there is any, and may take it into debt by one packet, so that a rate at which a packet
//! lasts longer than a millisecond works too. Whoever has packets and comes late, because a timer fired late,
//! may use up to three milliseconds' worth: else every late timer would cost rate.

use bondwire_units::Timestamp;
use core::time::Duration;

/// The most credit of a source that was idle, in time at the pacing rate.
const CREDIT: Duration = Duration::from_millis(1);
/// The most credit of a source that waited for its timer.
const LATE_CREDIT: Duration = Duration::from_millis(3);

/// A token bucket of bytes.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    /// Bytes per second.
    rate: f64,
    credit: f64,
    packet: f64,
    updated: Timestamp,
    idle: bool,
    /// Since when a millisecond's credit has been waiting.
    full_since: Option<Timestamp>,
}

impl Pacer {
    pub(crate) fn new(rate: f64, packet: usize, now: Timestamp) -> Self {
        let packet = packet as f64;
        Self { rate: rate.max(1.0), credit: packet, packet, updated: now, idle: true, full_since: Some(now) }
    }

    /// Changes the rate (bytes per second) and the size of a full packet.
    pub(crate) fn set_rate(&mut self, rate: f64, packet: usize, now: Timestamp) {
        self.refill(now);
        self.rate = rate.max(1.0);
        self.packet = packet as f64;
    }

    /// Takes a packet's bytes.
    pub(crate) fn on_sent(&mut self, size: usize, now: Timestamp) {
        self.refill(now);
        self.idle = false;
        self.credit = (self.credit - size as f64).max(-4.0 * self.packet.max(size as f64));
        if self.credit < self.cap(CREDIT) {
            self.full_since = None;
        }
    }

    /// There is nothing to send: what comes next starts with one millisecond's worth at most.
    pub(crate) fn on_idle(&mut self, now: Timestamp) {
        self.refill(now);
        self.idle = true;
    }

    /// How many bytes may leave at `now`.
    pub(crate) fn budget(&self, now: Timestamp) -> usize {
        let credit = self.at(now);
        if credit <= 0.0 { 0 } else { credit.max(self.packet) as usize }
    }

    /// Whether a millisecond's credit has been waiting for a millisecond: whoever might have sent did not.
    pub(crate) fn was_idle(&mut self, now: Timestamp) -> bool {
        self.refill(now);
        self.full_since.is_some_and(|since| since + CREDIT < now)
    }

    /// When the next packet may leave; at high rates a little later, so that half a millisecond's worth leaves
    /// together.
    pub(crate) fn next_send(&self) -> Timestamp {
        let target = (self.cap(CREDIT) / 2.0 - self.packet).max(0.0);
        let wait = (target - self.credit).max(0.0) / self.rate;
        // A microsecond more: the credit must be above zero by then.
        self.updated + Duration::from_secs_f64(wait.min(60.0)) + Duration::from_micros(1)
    }

    fn cap(&self, span: Duration) -> f64 {
        (self.rate * span.as_secs_f64()).max(self.packet)
    }

    fn at(&self, now: Timestamp) -> f64 {
        let cap = self.cap(if self.idle { CREDIT } else { LATE_CREDIT });
        (self.credit + self.rate * now.since(self.updated).as_secs_f64()).min(cap)
    }

    fn refill(&mut self, now: Timestamp) {
        let credit = self.at(now);
        let missing = self.cap(CREDIT) - self.credit;
        if self.full_since.is_none() && credit >= self.cap(CREDIT) {
            self.full_since =
                Some(self.updated + Duration::from_secs_f64((missing.max(0.0) / self.rate).min(60.0)));
        }
        self.credit = credit;
        self.updated = self.updated.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends whenever the pacer allows, with a timer that is `late`, and returns bytes per second.
    fn run(rate: f64, late: Duration) -> (f64, usize) {
        let mut pacer = Pacer::new(rate, 1500, Timestamp::ZERO);
        let mut now = Timestamp::ZERO;
        let (mut sent, mut burst) = (0, 0);
        while now < Timestamp::from_millis(2_000) {
            let mut run = 0;
            while pacer.budget(now) > 0 {
                pacer.on_sent(1500, now);
                run += 1500;
            }
            sent += run;
            burst = burst.max(run);
            now = pacer.next_send().max(now) + late;
        }
        (sent as f64 / 2.0, burst)
    }

    #[test]
    fn keeps_the_rate_in_small_bursts() {
        for mbps in [1.0, 10.0, 300.0] {
            let rate = mbps * 125_000.0;
            for late in [0, 400, 900, 2_000].map(Duration::from_micros) {
                let (got, burst) = run(rate, late);
                assert!((0.97..1.03).contains(&(got / rate)), "{mbps} Mbit/s, {late:?} late: {got}");
                let most = rate * (late.as_secs_f64() + 0.001);
                assert!(burst as f64 <= most.max(1500.0) + 1500.0, "{mbps}: {burst}");
            }
        }
    }
}
