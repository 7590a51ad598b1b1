use bondwire_units::{ByteCount, Timestamp};

use crate::config::Policer;

/// The tokens of a [`Policer`]. The bucket is full at first, and when the policer changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bucket {
    of: Option<Policer>,
    /// In bytes; a fraction is kept, so that slow rates are exact.
    tokens: f64,
    filled: Timestamp,
}

impl Bucket {
    /// Takes the tokens for a packet of `size`, or says that it must be dropped.
    pub(crate) fn admits(&mut self, policer: Option<Policer>, size: ByteCount, now: Timestamp) -> bool {
        let Some(police) = policer else { return true };
        let burst = police.burst.get() as f64;
        if self.of == policer {
            let gained = police.rate.as_bps() as f64 / 8.0 * now.since(self.filled).as_secs_f64();
            self.tokens = (self.tokens + gained).min(burst);
        } else {
            (self.of, self.tokens) = (policer, burst);
        }
        self.filled = now;
        let size = size.get() as f64;
        let admitted = size <= self.tokens;
        if admitted {
            self.tokens -= size;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bondwire_units::Bitrate;

    #[test]
    fn a_burst_and_then_the_rate() {
        let policer = Some(Policer { rate: Bitrate::from_mbps(8.0), burst: ByteCount::new(15_000) });
        let mut bucket = Bucket::default();
        let mut admitted = 0;
        for tick in 0..1_000 {
            // Twice the rate: 2,000 bytes each millisecond.
            let now = Timestamp::from_millis(tick);
            admitted += u32::from(bucket.admits(policer, ByteCount::new(1_000), now));
            admitted += u32::from(bucket.admits(policer, ByteCount::new(1_000), now));
        }
        assert!((1_013..=1_015).contains(&admitted), "{admitted}");
        assert!(bucket.admits(None, ByteCount::new(1 << 30), Timestamp::from_millis(1_000)));
    }
}
