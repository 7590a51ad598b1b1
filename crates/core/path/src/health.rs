//! Is the path alive? Every transition of its state is in this file.
//!
//! ```text
//!   Probing ──validated──▶ Active ◀──something sent under suspicion is acknowledged── Suspect ──silence──▶ Down
//!      ▲                     └────silence when an ACK was due, or a hint from the link────▶┘                │
//!      └── validate() from anywhere ─────────────────────── the same as for Suspect ◀───────────────────────┘
//! ```
//!
//! *Suspect fast, condemn slowly*: silence is measured against when an ACK was due, and only against packets
//! sent after the newest acknowledged one, so a plain loss in a living stream is no silence. A suspect path
//! keeps its state; only its load moves. Its probes go every max(50 ms, RTT/2), backing off to a second; their
//! answer ends the suspicion. Each fall within a minute of the one before doubles the time until the path is
//! trusted in full again.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::rtt::{MAX_ACK_DELAY, RttEstimator};

/// The least silence that makes a path suspect.
const MIN_SILENCE: Duration = Duration::from_millis(60);
/// How many ack-eliciting packets must be silent: a single lost one is a loss, not a death.
pub(crate) const SILENT_PACKETS: usize = 3;
/// The least and the greatest distance of a suspect path's probes.
const MIN_PROBE: Duration = Duration::from_millis(50);
const MAX_PROBE: Duration = Duration::from_secs(1);
/// The least silence after which a suspect path is down.
const DOWN_AFTER: Duration = Duration::from_secs(3);
/// The trust time after the second fall, and the greatest.
const FIRST_TRUST: Duration = Duration::from_millis(250);
const MAX_TRUST: Duration = Duration::from_secs(5);
/// After how long without a fall flapping is forgiven.
const GOOD_BEHAVIOUR: Duration = Duration::from_secs(60);

/// What a path may be used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathState {
    /// Its address is not validated yet: nothing but challenges.
    #[default]
    Probing,
    /// In use.
    Active,
    /// Silent when it should not be: nothing but probes; it is back as soon as one is answered.
    Suspect,
    /// Silent for seconds: a probe now and then.
    Down,
}

/// The state machine.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: PathState,
    since: Timestamp,
    /// The first packet number sent after the suspicion began.
    proof_from: u64,
    next_probe: Timestamp,
    probe_interval: Duration,
    falls: u32,
    last_fall: Option<Timestamp>,
    trusted_at: Timestamp,
}

impl Health {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            state: PathState::Probing,
            since: now,
            proof_from: 0,
            next_probe: now,
            probe_interval: MIN_PROBE,
            falls: 0,
            last_fall: None,
            trusted_at: now,
        }
    }

    pub(crate) fn state(&self) -> PathState {
        self.state
    }

    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    pub(crate) fn is_trusted(&self, now: Timestamp) -> bool {
        self.state == PathState::Active && self.trusted_at <= now
    }

    /// How long an ack-eliciting packet may go unanswered.
    pub(crate) fn silence(rtt: &RttEstimator) -> Duration {
        ((rtt.smoothed() + rtt.variation() * 4 + MAX_ACK_DELAY) * 3 / 2).max(MIN_SILENCE)
    }

    fn enter(&mut self, state: PathState, now: Timestamp) {
        self.state = state;
        self.since = now;
    }

    pub(crate) fn on_validate(&mut self, now: Timestamp) {
        self.enter(PathState::Probing, now);
    }

    pub(crate) fn on_validated(&mut self, now: Timestamp) {
        if self.state != PathState::Active {
            self.enter(PathState::Active, now);
        }
    }

    /// An ACK was overdue, or the link says that it is gone. Only an active path becomes suspect.
    pub(crate) fn on_suspicion(&mut self, next_number: u64, rtt: &RttEstimator, now: Timestamp) -> bool {
        if self.state != PathState::Active {
            return false;
        }
        if self.last_fall.is_some_and(|at| now.since(at) < GOOD_BEHAVIOUR) {
            self.falls += 1;
        } else {
            self.falls = 0;
        }
        self.last_fall = Some(now);
        self.proof_from = next_number;
        self.next_probe = now;
        self.probe_interval = MIN_PROBE.max(rtt.smoothed() / 2).min(MAX_PROBE);
        self.enter(PathState::Suspect, now);
        true
    }

    /// Packet `number` was acknowledged; if that ends a suspicion, how long it lasted.
    pub(crate) fn on_acked(&mut self, number: u64, now: Timestamp) -> Option<Duration> {
        if !matches!(self.state, PathState::Suspect | PathState::Down) || number < self.proof_from {
            return None;
        }
        let lasted = now.since(self.since);
        let trust = match self.falls {
            0 => Duration::ZERO,
            falls => (FIRST_TRUST * (1 << (falls - 1).min(10))).min(MAX_TRUST),
        };
        self.trusted_at = now + trust;
        self.enter(PathState::Active, now);
        Some(lasted)
    }

    pub(crate) fn on_timeout(&mut self, rtt: &RttEstimator, now: Timestamp) {
        if self.down_at(rtt).is_some_and(|at| at <= now) {
            self.probe_interval = MAX_PROBE;
            self.enter(PathState::Down, now);
        }
    }

    /// The link says that it is there again: probe at once.
    pub(crate) fn on_link_up(&mut self, now: Timestamp) {
        self.next_probe = now;
        self.probe_interval = MIN_PROBE;
    }

    /// When a suspect path is down.
    pub(crate) fn down_at(&self, rtt: &RttEstimator) -> Option<Timestamp> {
        (self.state == PathState::Suspect).then(|| self.since + DOWN_AFTER.max(rtt.pto() * 10))
    }

    /// When a suspect or down path wants its next probe.
    pub(crate) fn probe_at(&self) -> Option<Timestamp> {
        matches!(self.state, PathState::Suspect | PathState::Down).then_some(self.next_probe)
    }

    pub(crate) fn on_probe_sent(&mut self, now: Timestamp) {
        self.next_probe = now + self.probe_interval;
        self.probe_interval = (self.probe_interval * 3 / 2).min(MAX_PROBE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_millis(ms)
    }

    #[test]
    fn suspects_probes_and_recovers() {
        let rtt = RttEstimator::new();
        let mut health = Health::new(at(0));
        assert!(!health.on_suspicion(0, &rtt, at(0)), "nothing to suspect before validation");
        health.on_validated(at(1));
        assert!(health.is_trusted(at(1)));
        assert!(health.on_suspicion(10, &rtt, at(100)));
        assert_eq!(health.probe_at(), Some(at(100)));
        assert_eq!(health.on_acked(9, at(150)), None, "sent before the suspicion");
        assert_eq!(health.on_acked(10, at(160)), Some(Duration::from_millis(60)));
        assert!(health.is_trusted(at(160)));
        for fall in 1..12_u32 {
            let now = at(1_000 * u64::from(fall));
            assert!(health.on_suspicion(20, &rtt, now));
            health.on_acked(20, now);
            assert!(!health.is_trusted(now) && health.is_trusted(now + MAX_TRUST));
        }
    }

    #[test]
    fn goes_down_after_seconds() {
        let rtt = RttEstimator::new();
        let mut health = Health::new(at(0));
        health.on_validated(at(0));
        health.on_suspicion(0, &rtt, at(0));
        health.on_timeout(&rtt, at(2_999));
        assert_eq!(health.state(), PathState::Suspect);
        health.on_timeout(&rtt, at(20_000));
        assert_eq!(health.state(), PathState::Down);
        assert!(health.on_acked(0, at(21_000)).is_some());
        assert_eq!(health.state(), PathState::Active);
    }
}
