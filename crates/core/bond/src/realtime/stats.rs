//! What became of a real-time flow's packets.
//!
//! The sending end knows each packet's fate: acknowledged at first, lost and saved by one of three ways, or lost for good. The receiving
//! end knows the sequence numbers: what is missing behind the newest one was lost by the first transmission, and what fills a gap
//! later was saved. Recent shares fade with a time constant of ten seconds.

use bondwire_units::Timestamp;
use core::time::Duration;

/// How fast recent counts fade.
const MEMORY: Duration = Duration::from_secs(10);

/// How a packet came through whose first transmission did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Save {
    /// Its path turned suspect, and it went again over another one.
    Failover,
    /// A copy or parity brought it.
    Redundancy,
    /// It was lost, and sent again.
    Repair,
}

/// Counts of one direction.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    /// Packets of the flow.
    pub(crate) packets: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Bytes spent to protect them.
    pub(crate) extra_bytes: u64,
    /// Not brought by the first transmission.
    pub(crate) lost_first: u64,
    /// Not brought at all.
    pub(crate) lost: u64,
    /// Saved, by [`Save`].
    pub(crate) saved: [u64; 3],
    recent: Recent,
}

#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    at: Timestamp,
    packets: f64,
    lost_first: f64,
    lost: f64,
}

impl Fates {
    /// Packets of the flow went out, or are known to have been sent.
    pub(crate) fn on_packets(&mut self, count: u64, bytes: usize, now: Timestamp) {
        self.packets += count;
        self.bytes += bytes as u64;
        self.recent.fade(now);
        self.recent.packets += count as f64;
    }

    /// First transmissions that did not come.
    pub(crate) fn on_lost_first(&mut self, count: u64) {
        self.lost_first += count;
        self.recent.lost_first += count as f64;
    }

    /// What was taken for lost came by its first transmission after all.
    pub(crate) fn on_spurious(&mut self) {
        self.lost_first = self.lost_first.saturating_sub(1);
        self.recent.lost_first = (self.recent.lost_first - 1.0).max(0.0);
    }

    /// Packets that did not come at all.
    pub(crate) fn on_lost(&mut self, count: u64) {
        self.lost += count;
        self.recent.lost += count as f64;
    }

    /// A packet that counted as lost by its first transmission has come.
    pub(crate) fn on_saved(&mut self, by: Save) {
        self.saved[by as usize] += 1;
    }

    /// The shares lost by the first transmission, and at all, lately.
    pub(crate) fn recent_loss(&self) -> (f64, f64) {
        let share = |lost: f64| if self.recent.packets < 1.0 { 0.0 } else { lost / self.recent.packets };
        (share(self.recent.lost_first).clamp(0.0, 1.0), share(self.recent.lost).clamp(0.0, 1.0))
    }
}

impl Recent {
    fn fade(&mut self, now: Timestamp) {
        let span = now.since(self.at);
        // Ten times in a time constant is often enough, and spares an exponential for each packet.
        if span >= MEMORY / 10 {
            let keep = (-span.as_secs_f64() / MEMORY.as_secs_f64()).exp();
            self.packets *= keep;
            self.lost_first *= keep;
            self.lost *= keep;
            self.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_follow_the_last_seconds() {
        let mut fates = Fates::default();
        for n in 0..6_000_u64 {
            fates.on_packets(1, 100, Timestamp::from_millis(n * 10));
            if n < 3_000 && n % 50 == 0 {
                fates.on_lost_first(1);
                if n % 100 == 0 { fates.on_lost(1) } else { fates.on_saved(Save::Repair) }
            }
        }
        assert_eq!((fates.packets, fates.lost_first, fates.lost, fates.saved[2]), (6_000, 60, 30, 30));
        let (before, after) = fates.recent_loss();
        assert!(before < 0.003 && after < before, "{before} {after}: the loss is half a minute ago");
    }
}
