use core::time::Duration;

use bondwire_units::Timestamp;

/// CUBIC (RFC 9438) with HyStart as Linux has it. Windows are counted in segments.
#[derive(Clone, Debug)]
pub(crate) struct Cubic {
    window: f64,
    threshold: f64,
    /// The window before the last reduction.
    before_loss: f64,
    epoch: Option<Epoch>,
    hystart: HyStart,
    /// The least round trip of data.
    least: Option<Duration>,
    /// What to return to if the reduction turns out to have been for nothing.
    undo: Option<(f64, f64)>,
}

#[derive(Clone, Copy, Debug)]
struct Epoch {
    start: Timestamp,
    /// When the curve reaches its plateau, in seconds from the start.
    plateau_after: f64,
    plateau: f64,
    /// The window of a Reno flow in its place.
    friendly: f64,
}

const C: f64 = 0.4;
const BETA: f64 = 0.7;
const INITIAL: f64 = 10.0;
/// Where a window is left that has known no loss: it grows by a twentieth each round at least, as in Linux.
const UNKNOWN_GROWTH: f64 = 20.0;

impl Cubic {
    pub(crate) fn new() -> Self {
        Self {
            window: INITIAL,
            threshold: f64::INFINITY,
            before_loss: 0.0,
            epoch: None,
            hystart: HyStart::default(),
            least: None,
            undo: None,
        }
    }

    pub(crate) fn window(&self) -> f64 {
        self.window
    }

    pub(crate) fn threshold(&self) -> f64 {
        self.threshold
    }

    pub(crate) fn in_slow_start(&self) -> bool {
        self.window < self.threshold
    }

    /// Sets the window: recovery governs it by itself.
    pub(crate) fn set_window(&mut self, window: f64) {
        self.window = window.max(1.0);
    }

    /// `acked` segments were delivered while the window was what limited the sender.
    pub(crate) fn on_ack(&mut self, acked: f64, least_rtt: Duration, now: Timestamp) {
        let mut acked = acked;
        if self.in_slow_start() {
            let grown = (self.window + acked).min(self.threshold);
            acked -= grown - self.window;
            self.window = grown;
            if acked <= 0.0 {
                return;
            }
        }
        let per_increase = self.segments_per_increase(acked, least_rtt, now);
        self.window += acked / per_increase;
    }

    /// A round-trip sample, with the positions that mark the rounds.
    pub(crate) fn on_rtt(&mut self, rtt: Duration, round: Round, now: Timestamp) {
        // That of the handshake does not count: Linux sets the algorithm up after it.
        let least = self.least.map_or(rtt, |least| least.min(rtt));
        self.least = Some(least);
        if self.in_slow_start() && self.hystart.on_ack(rtt, least, self.window, round, now) {
            self.threshold = self.window;
        }
    }

    /// Loss: returns the window to come down to.
    pub(crate) fn on_loss(&mut self) -> f64 {
        self.undo = Some((self.window, self.threshold));
        self.epoch = None;
        let fast_convergence = self.window < self.before_loss;
        self.before_loss = if fast_convergence { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.threshold = (self.window * BETA).max(2.0);
        self.threshold
    }

    /// The last reduction was for nothing.
    pub(crate) fn on_spurious_loss(&mut self) {
        if let Some((window, threshold)) = self.undo.take() {
            self.window = self.window.max(window);
            self.threshold = threshold.max(self.threshold);
        }
    }

    fn segments_per_increase(&mut self, acked: f64, least_rtt: Duration, now: Timestamp) -> f64 {
        let window = self.window;
        let before_loss = self.before_loss;
        let epoch = self.epoch.get_or_insert_with(|| {
            let below = (before_loss - window).max(0.0);
            Epoch {
                start: now,
                plateau_after: (below / C).cbrt(),
                plateau: window.max(before_loss),
                friendly: window,
            }
        });
        let time = (now.since(epoch.start) + least_rtt).as_secs_f64() - epoch.plateau_after;
        let target = epoch.plateau + C * time * time * time;
        let mut count = if target > window { window / (target - window) } else { 100.0 * window };
        if before_loss == 0.0 {
            count = count.min(UNKNOWN_GROWTH);
        }
        epoch.friendly += 3.0 * (1.0 - BETA) / (1.0 + BETA) * acked / window;
        if epoch.friendly > window {
            count = count.min(window / (epoch.friendly - window));
        }
        count.max(2.0)
    }
}

/// Where the sender stands, by which rounds are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round {
    pub(crate) acknowledged: u64,
    pub(crate) next: u64,
}

/// Ends slow start before the queue overflows: when the delay rises, or when the acknowledgements of one round come in
/// a train as long as half the round trip (Ha and Rhee, 2011).
#[derive(Clone, Debug, Default)]
struct HyStart {
    round_ends: u64,
    round_start: Timestamp,
    last_ack: Timestamp,
    least_of_round: Option<Duration>,
    samples: u32,
}

impl HyStart {
    fn on_ack(&mut self, rtt: Duration, least: Duration, window: f64, round: Round, now: Timestamp) -> bool {
        if round.acknowledged >= self.round_ends {
            *self = Self {
                round_ends: round.next,
                round_start: now,
                last_ack: now,
                least_of_round: None,
                samples: 0,
            };
        }
        if window < 16.0 {
            return false;
        }
        if now.since(self.last_ack) <= Duration::from_millis(2) {
            self.last_ack = now;
            if now.since(self.round_start) > least / 2 {
                return true;
            }
        }
        self.least_of_round = Some(self.least_of_round.map_or(rtt, |least| least.min(rtt)));
        self.samples += 1;
        let tolerated = (least / 8).clamp(Duration::from_millis(4), Duration::from_millis(16));
        self.samples > 8 && self.least_of_round.is_some_and(|lowest| lowest > least + tolerated)
    }
}
