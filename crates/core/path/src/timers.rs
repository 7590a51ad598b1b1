//! Deadlines: losses by time, probes, suspicion.

use bondwire_units::{Deadline, Timestamp};
use core::time::Duration;

use crate::AckSummary;
use crate::health::{Health, PathState, SILENT_PACKETS};
use crate::path::Path;
use crate::receive::SELF_ACK_INTERVAL;
use crate::rtt::MAX_ACK_DELAY;

/// How often a path is asked whether it lives while a real-time flow depends on it.
const REALTIME_PROBE: Duration = Duration::from_millis(100);
/// The same while bulk data flows.
const BULK_PROBE: Duration = Duration::from_millis(250);
/// The same for [`RECENT`] after the last data.
const RECENT_PROBE: Duration = Duration::from_secs(1);
/// How long traffic is recent.
const RECENT: Duration = Duration::from_secs(10);
/// The same when there was none for longer.
const IDLE_PROBE: Duration = Duration::from_secs(20);
/// The greatest exponent of the probe timeout's backoff.
const MAX_BACKOFF: u32 = 5;

/// What the session carries at the moment, whichever path it uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Traffic {
    /// Somebody is talking: a path must be known to live.
    Realtime,
    /// Data flows.
    Bulk,
    /// Nothing.
    #[default]
    Idle,
}

/// What a path wants to be sent now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Something ack-eliciting: a PING, or better a copy of data that is not acknowledged yet.
    Ping,
    /// A PING padded to this many bytes of UDP payload, noted by [`Path::on_mtu_probe_sent`].
    Mtu(usize),
}

impl<C> Path<C> {
    /// Asks for validation (again): the path carries nothing but challenges until [`Self::on_validated`]. Not
    /// for an address that the peer merely changes to: data goes on to the old one meanwhile (docs/protocol.md,
    /// PATH-5).
    pub fn validate(&mut self, now: Timestamp) {
        self.health.on_validate(now);
    }

    /// The challenge was answered.
    pub fn on_validated(&mut self, now: Timestamp) {
        self.health.on_validated(now);
        self.mtu.start(now);
        self.update_pace(now);
    }

    /// The link lost its carrier, its address, or refuses to send: suspect at once. Returns whether that is news.
    pub fn on_link_down(&mut self, now: Timestamp) -> bool {
        self.health.on_suspicion(self.sent.next_number(), &self.rtt, now)
    }

    /// The link is there again: probe at once.
    pub fn on_link_up(&mut self, now: Timestamp) {
        self.health.on_link_up(now);
    }

    /// A datagram with `mtu` bytes of UDP payload was refused as too long.
    pub fn on_too_long(&mut self, mtu: usize, now: Timestamp) {
        self.mtu.on_too_long(mtu);
        self.congestion.set_packet(self.mtu.current() + self.overhead);
        self.update_pace(now);
    }

    /// Says what the session carries, which decides how often this path is asked whether it lives.
    pub fn set_traffic(&mut self, traffic: Traffic, now: Timestamp) {
        if traffic == Traffic::Idle && self.traffic != Traffic::Idle {
            self.idle_since = now;
        }
        self.traffic = traffic;
    }

    /// When [`Self::handle_timeout`] or [`Self::probe_due`] has something to say. ACKs and pacing have
    /// deadlines of their own.
    pub fn poll_deadline(&self) -> Option<Deadline> {
        let loss = self.loss_at().map(|at| Deadline::new(at, "loss"));
        let silence = self.silence_at().map(|at| Deadline::new(at, "silence"));
        let down = self.health.down_at(&self.rtt).map(|at| Deadline::new(at, "down"));
        let probe = self.probe().map(|(at, _)| Deadline::new(at, "probe"));
        Deadline::earliest(Deadline::earliest(loss, silence), Deadline::earliest(down, probe))
    }

    /// Lets time have its effect: what is lost by now is appended to `lost`, an overdue path turns suspect, a
    /// suspect one goes down.
    ///
    /// ACKs that have already arrived must be handled first, or a caller that was late itself suspects a living
    /// path.
    pub fn handle_timeout(&mut self, lost: &mut Vec<C>, now: Timestamp) {
        self.find_lost(lost, &mut AckSummary::default(), now);
        if self.silence_at().is_some_and(|at| at <= now) {
            self.health.on_suspicion(self.sent.next_number(), &self.rtt, now);
        }
        self.health.on_timeout(&self.rtt, now);
    }

    /// What should be sent on this path now, whatever its window says. Asked again, it says the same until
    /// something ack-eliciting was sent.
    pub fn probe_due(&self, now: Timestamp) -> Option<ProbeKind> {
        self.probe().filter(|&(at, _)| at <= now).map(|(_, kind)| kind)
    }

    /// The next probe and its time.
    fn probe(&self) -> Option<(Timestamp, ProbeKind)> {
        let ping = match self.state() {
            PathState::Probing => return None,
            PathState::Suspect | PathState::Down => {
                return self.health.probe_at().map(|at| (at, ProbeKind::Ping));
            }
            PathState::Active => self.timeout_at().into_iter().chain(self.keep_alive_at()).min(),
        };
        let mtu = self.mtu.probe().map(|(at, size)| (at, ProbeKind::Mtu(size)));
        match (ping.map(|at| (at, ProbeKind::Ping)), mtu) {
            (Some(ping), Some(mtu)) => Some(if mtu.0 < ping.0 { mtu } else { ping }),
            (ping, mtu) => ping.or(mtu),
        }
    }

    /// The probe timeout (RFC 9002, 6.2): the last packets have nobody behind them to reveal their loss.
    fn timeout_at(&self) -> Option<Timestamp> {
        let last = self.last_eliciting.filter(|_| self.sent.eliciting() > 0)?;
        Some(last + self.rtt.pto() * (1 << self.timeouts.min(MAX_BACKOFF)))
    }

    fn keep_alive_at(&self) -> Option<Timestamp> {
        let last = self.last_eliciting.unwrap_or(self.health.since());
        let interval = match self.traffic {
            Traffic::Realtime => REALTIME_PROBE,
            Traffic::Bulk => BULK_PROBE,
            Traffic::Idle if last < self.idle_since + RECENT => RECENT_PROBE,
            Traffic::Idle => IDLE_PROBE,
        };
        Some(last + interval)
    }

    /// Something ack-eliciting leaves: whichever probe was due is answered for.
    pub(crate) fn note_probe(&mut self, now: Timestamp) {
        match self.state() {
            PathState::Suspect | PathState::Down if self.health.probe_at().is_some_and(|at| at <= now) => {
                self.health.on_probe_sent(now);
            }
            PathState::Suspect | PathState::Down => {}
            _ if self.timeout_at().is_some_and(|at| at <= now) => self.timeouts += 1,
            _ => {}
        }
    }

    fn loss_at(&self) -> Option<Timestamp> {
        let largest = self.largest_acked?;
        let number = self.sent.first_number();
        let sent_at = self.sent.in_flight_since(number).filter(|_| number < largest)?;
        Some(sent_at + self.loss.time_threshold(&self.rtt))
    }

    /// When the copy of an acknowledgement that comes over this very path was due. Most come over a quicker path: if that one dies, this one
    /// falls silent too, but for the copies, and is not to blame.
    fn own_answer(&self) -> Duration {
        let own = &self.two_way_rtt;
        if own.is_measured() && own.smoothed() > self.rtt.smoothed() + self.rtt.variation() {
            own.smoothed() + own.variation() * 4 + MAX_ACK_DELAY + SELF_ACK_INTERVAL
        } else {
            Duration::ZERO
        }
    }

    /// When silence becomes a suspicion: the first unanswered packet is overdue, and so is the third by its own
    /// measure.
    fn silence_at(&self) -> Option<Timestamp> {
        if self.state() != PathState::Active {
            return None;
        }
        // What went before the path became active, such as challenges, was not owed an answer in time.
        let since = self.health.since();
        let first = self.silent[0]?.max(since);
        let last = self.silent[SILENT_PACKETS - 1]?.max(since);
        // Half as long again as an answer takes is patience for bulk; who listens to a call has less.
        let real_time = self.traffic == Traffic::Realtime;
        let silence = Health::silence(&self.rtt) * if real_time { 5 } else { 6 } / 6;
        Some((first + silence).max(last + silence * 2 / 3).max(first + self.own_answer()))
    }
}
