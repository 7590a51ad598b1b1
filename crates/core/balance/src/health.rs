//! Does a link work? Every transition of its state is in this file.
//!
//! ```text
//!              two probes silent                 three silent
//!   Stable ───────────────────────▶ Failing ─────────────────────▶ Failed
//!     ▲  ▲                             │                            │   ▲
//!     │  └──────── any answer ─────────┘             any answer     │   │ two probes silent
//!     │                                                             ▼   │
//!     └───────────────── hold-down over, answers go on ─────────── Returning
//! ```
//!
//! Evidence from traffic never condemns by itself, since a silent site looks like a silent link: it starts a
//! *check*, three probes to different targets within 80 ms, and goes unseen if one is answered. What has proved
//! wrong is not believed again for a second, then two, up to ten. A link that nothing can probe (no target ever
//! answered, over any link) is judged by its sockets alone, more slowly, and tried again after a while.
//!
//! The hold-down before a link is trusted again is 1 s after the first two falls within two minutes, and doubles
//! with each further one up to a minute: a link that flaps is used for less and less.

use bondwire_units::Timestamp;
use core::time::Duration;

use crate::event::{Evidence, LinkState};

/// Unanswered probes of one check that make a link failed, at least and at most; one less makes it failing. Between
/// them as many as chance leaves unanswered on a lossy link once in 500 checks.
const SILENT: u32 = 3;
const MAX_SILENT: u32 = 8;
const CHANCE: f64 = 0.002;
/// The weight of one probe in the mean of those lost.
const LOSS_WEIGHT: f64 = 1.0 / 32.0;
/// The probes of a check's first burst, and their distance; then the distance of those that follow.
const BURST: u32 = 3;
const BURST_GAP: Duration = Duration::from_millis(40);
const CHECK_GAP: Duration = Duration::from_millis(150);
/// The distance of a failed link's probes: after its first falls, and when it flaps.
const FAILED_GAP: Duration = Duration::from_millis(500);
const FLAPPING_GAP: Duration = Duration::from_secs(1);
/// The distance of a returning link's probes.
const RETURNING_GAP: Duration = Duration::from_millis(200);
/// The distance of a working link's probes: when it carries much (they show its queue), and when it hears its
/// own traffic.
const BUSY_GAP: Duration = Duration::from_millis(500);
const HEARING_GAP: Duration = Duration::from_secs(5);
/// The hold-down, and its bound.
const HOLD: Duration = Duration::from_secs(1);
const MAX_HOLD: Duration = Duration::from_secs(60);
/// Falls further apart than this are not counted together.
const FORGIVEN: Duration = Duration::from_secs(120);
/// How long evidence that proved wrong is not believed.
const MUTE: Duration = Duration::from_secs(1);
const MAX_MUTE: Duration = Duration::from_secs(10);
/// How long a check remembers. A link that nothing can probe is failing after so many strikes, and failed when
/// nothing was heard for so long.
const CHECK_LASTS: Duration = Duration::from_secs(5);
const STRIKES: u32 = 3;
const STRIKE_GAP: Duration = Duration::from_millis(50);
const UNHEARD: Duration = Duration::from_millis(600);
/// After how long such a link is tried again; times the hold-down's factor.
const RETRY: Duration = Duration::from_secs(3);

/// A transition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) from: LinkState,
    pub(crate) to: LinkState,
    pub(crate) why: Evidence,
}

/// Whether the link lives is being found out.
#[derive(Clone, Copy, Debug)]
struct Check {
    since: Timestamp,
    why: Evidence,
    sent: u32,
    silent: u32,
    strikes: u32,
    last_strike: Timestamp,
}

/// What the schedule of probes depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// It carries enough for a queue.
    pub(crate) busy: bool,
    /// [`crate::ProbeConfig::idle_interval`].
    pub(crate) idle_interval: Duration,
    /// There are targets that were never asked over it: the distance of each is to be known before there is load.
    pub(crate) introducing: bool,
}

/// The state machine.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    state: LinkState,
    since: Timestamp,
    why: Evidence,
    check: Option<Check>,
    muted_until: Timestamp,
    mute: Duration,
    heard: Timestamp,
    falls: u32,
    last_fall: Timestamp,
    failures: u64,
    hold_until: Timestamp,
    answers: u32,
    silent: u32,
    probed: Option<Timestamp>,
    /// Part of the probes that are lost while the link lives, and those missing since the last answer.
    loss: f64,
    missing: u32,
}

impl Health {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            state: LinkState::Stable,
            since: now,
            why: Evidence::Appeared,
            check: None,
            muted_until: now,
            mute: MUTE,
            heard: Timestamp::ZERO,
            falls: 0,
            last_fall: Timestamp::ZERO,
            failures: 0,
            hold_until: now,
            answers: 0,
            silent: 0,
            probed: None,
            loss: 0.0,
            missing: 0,
        }
    }

    pub(crate) fn state(&self) -> LinkState {
        self.state
    }

    pub(crate) fn since(&self) -> Timestamp {
        self.since
    }

    pub(crate) fn why(&self) -> Evidence {
        self.why
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures
    }

    /// When anything came back over the link last.
    pub(crate) fn heard(&self) -> Timestamp {
        self.heard
    }

    fn enter(&mut self, to: LinkState, why: Evidence, now: Timestamp) -> Option<Change> {
        let from = core::mem::replace(&mut self.state, to);
        self.since = now;
        self.why = why;
        self.check = None;
        self.silent = 0;
        self.answers = 0;
        (from != to).then_some(Change { from, to, why })
    }

    fn fail(&mut self, why: Evidence, now: Timestamp) -> Option<Change> {
        self.count_fall(now);
        self.failures += 1;
        self.probed = None;
        self.missing = 0;
        self.enter(LinkState::Failed, why, now)
    }

    fn count_fall(&mut self, now: Timestamp) {
        let together = self.falls > 0 && now.since(self.last_fall) < FORGIVEN + self.hold();
        self.falls = if together { self.falls.saturating_add(1) } else { 1 };
        self.last_fall = now;
    }

    fn hold(&self) -> Duration {
        (HOLD * (1 << self.falls.saturating_sub(2).min(6))).min(MAX_HOLD)
    }

    /// Traffic says that something is wrong. `testable`: probes can find out.
    pub(crate) fn on_suspicion(&mut self, why: Evidence, testable: bool, now: Timestamp) -> Option<Change> {
        if !matches!(self.state, LinkState::Stable | LinkState::Failing) || now < self.muted_until {
            return None;
        }
        if self.check.is_none_or(|check| now.since(check.since) > CHECK_LASTS) {
            self.start_check(why, now);
        }
        let check = self.check.as_mut()?;
        if !testable && now.since(check.last_strike) >= STRIKE_GAP {
            check.strikes += if why == Evidence::LocalError { STRIKES } else { 1 };
            check.last_strike = now;
            if check.strikes >= STRIKES && self.state == LinkState::Stable {
                return self.enter_failing(now);
            }
        }
        None
    }

    fn start_check(&mut self, why: Evidence, now: Timestamp) {
        let last_strike = Timestamp::ZERO;
        self.check = Some(Check { since: now, why, sent: 0, silent: 0, strikes: 0, last_strike });
    }

    /// The state becomes failing; the check that led there goes on.
    fn enter_failing(&mut self, now: Timestamp) -> Option<Change> {
        let check = self.check;
        let change = self.enter(LinkState::Failing, check.map_or(self.why, |check| check.why), now);
        self.check = check;
        change
    }

    /// A probe, a connect or acknowledged data came back; what it answers was sent at `sent`.
    pub(crate) fn on_answer(&mut self, why: Evidence, sent: Timestamp, now: Timestamp) -> Option<Change> {
        self.heard = self.heard.max(now);
        if why == Evidence::ProbeAnswered {
            self.on_outlived();
        }
        match self.state {
            LinkState::Stable | LinkState::Failing => {
                let check = self.check.filter(|check| sent >= check.since)?;
                // Time spent without a false alarm counts: the next one is believed sooner again.
                let quiet = check.since.since(self.muted_until) > MAX_MUTE * 3;
                self.mute = if quiet { MUTE } else { (self.mute * 2).min(MAX_MUTE) };
                self.muted_until = now + self.mute;
                self.check = None;
                if self.state == LinkState::Failing { self.enter(LinkState::Stable, why, now) } else { None }
            }
            LinkState::Failed if sent >= self.since => {
                self.hold_until = now + self.hold();
                let change = self.enter(LinkState::Returning, why, now);
                self.answers = 1;
                change
            }
            LinkState::Failed => None,
            LinkState::Returning => {
                self.answers += 1;
                self.silent = 0;
                if now >= self.hold_until && self.answers >= 2 { self.trust(now) } else { None }
            }
        }
    }

    /// A probe is answered: those that are missing were lost, and no sign of death.
    fn on_outlived(&mut self) {
        for _ in 0..core::mem::take(&mut self.missing).min(MAX_SILENT) {
            self.loss += (1.0 - self.loss) * LOSS_WEIGHT;
        }
        self.loss -= self.loss * LOSS_WEIGHT;
    }

    /// How many silent probes condemn.
    fn condemning(&self) -> u32 {
        if self.loss < 0.01 {
            return SILENT;
        }
        ((CHANCE.ln() / self.loss.ln()).ceil() as u32).clamp(SILENT, MAX_SILENT)
    }

    fn trust(&mut self, now: Timestamp) -> Option<Change> {
        self.muted_until = now;
        self.mute = MUTE;
        self.enter(LinkState::Stable, Evidence::HeldLongEnough, now)
    }

    /// Much was received. What was under way when a check began may still arrive, hence the 150 ms.
    pub(crate) fn on_traffic(&mut self, now: Timestamp) -> Option<Change> {
        self.heard = now;
        let check = self.check?;
        let late = now.since(check.since) > CHECK_GAP;
        if late { self.on_answer(Evidence::TrafficAnswered, check.since, now) } else { None }
    }

    /// A probe that was sent at `sent`, to a target that counts, was not answered in time.
    pub(crate) fn on_silence(&mut self, sent: Timestamp, now: Timestamp) -> Option<Change> {
        if self.heard > sent {
            self.loss += (1.0 - self.loss) * LOSS_WEIGHT;
            return None;
        }
        self.missing += 1;
        let condemning = self.condemning();
        match self.state {
            LinkState::Stable | LinkState::Failing => {
                if self.check.is_none() {
                    self.start_check(Evidence::ProbesUnanswered, sent);
                }
                let check = self.check.as_mut()?;
                check.silent += 1;
                let (silent, why) = (check.silent, check.why);
                match silent {
                    silent if silent >= condemning => self.fail(why, now),
                    silent if silent + 1 >= condemning && self.state == LinkState::Stable => {
                        self.enter_failing(now)
                    }
                    _ => None,
                }
            }
            LinkState::Returning => {
                self.silent += 1;
                if self.silent + 1 >= condemning { self.fail(Evidence::ProbesUnanswered, now) } else { None }
            }
            LinkState::Failed => {
                self.missing = 0;
                None
            }
        }
    }

    /// The link is gone; when it is back it has to prove itself.
    pub(crate) fn on_removed(&mut self, now: Timestamp) {
        self.count_fall(now);
        self.enter(LinkState::Failed, Evidence::LocalError, now);
    }

    /// The link is there again.
    pub(crate) fn on_appeared(&mut self, now: Timestamp) {
        self.hold_until = now + self.hold();
        self.probed = None;
        self.enter(LinkState::Returning, Evidence::Appeared, now);
    }

    /// When the next probe is due.
    pub(crate) fn probe_at(&self, activity: Activity) -> Timestamp {
        let Some(probed) = self.probed else { return Timestamp::ZERO };
        let gap = match (self.state, self.check) {
            (LinkState::Stable | LinkState::Failing, Some(check)) => match check.sent {
                0 => return check.since,
                sent if sent < BURST => BURST_GAP,
                _ => CHECK_GAP,
            },
            (LinkState::Stable | LinkState::Failing, None) => {
                if activity.introducing {
                    BURST_GAP
                } else if activity.busy {
                    BUSY_GAP
                } else {
                    // A link that goes quiet is asked one interval after it was heard last.
                    let quiet = self.heard.max(probed) + activity.idle_interval;
                    return quiet.min(probed + HEARING_GAP.max(activity.idle_interval));
                }
            }
            (LinkState::Failed, _) if self.falls > 4 => FLAPPING_GAP,
            (LinkState::Failed, _) => FAILED_GAP,
            (LinkState::Returning, _) => RETURNING_GAP,
        };
        probed + gap
    }

    /// A probe was sent.
    pub(crate) fn on_probe_sent(&mut self, now: Timestamp) {
        self.probed = Some(now);
        if let Some(check) = &mut self.check {
            check.sent += 1;
        }
    }

    /// When something has to happen without any answer.
    pub(crate) fn timeout(&self, testable: bool) -> Option<Timestamp> {
        match (self.state, self.check) {
            (LinkState::Failing, Some(check)) if !testable => Some(check.since.max(self.since) + UNHEARD),
            (LinkState::Stable | LinkState::Failing, Some(check)) => Some(check.since + CHECK_LASTS),
            (LinkState::Failed, _) if !testable => Some(self.since + self.retry()),
            (LinkState::Returning, _) if !testable => Some(self.hold_until),
            _ => None,
        }
    }

    fn retry(&self) -> Duration {
        (RETRY * (1 << self.falls.saturating_sub(1).min(6))).min(MAX_HOLD)
    }

    /// Does what [`Health::timeout`] announced.
    pub(crate) fn on_timeout(&mut self, testable: bool, now: Timestamp) -> Option<Change> {
        if self.timeout(testable).is_none_or(|at| at > now) {
            return None;
        }
        match self.state {
            LinkState::Stable => {
                self.check = None;
                None
            }
            // An answer would have ended it; new sockets avoid the link, so nothing more will be learnt.
            LinkState::Failing if !testable => self.fail(self.why, now),
            LinkState::Failing => self.enter(LinkState::Stable, Evidence::TriedAgain, now),
            LinkState::Failed | LinkState::Returning => {
                self.muted_until = now;
                self.enter(LinkState::Stable, Evidence::TriedAgain, now)
            }
        }
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
