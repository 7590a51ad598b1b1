//! The greatest datagram that gets through: RFC 8899 in small.
//!
//! A path starts at what every link must carry (1,280 bytes of IP). Once it is validated the link's own MTU is
//! tried at once; if that fails, sizes between are searched, with two tries each. When full-size packets vanish
//! in a row while others get through (a black hole), the path falls back to the base and tries again after 30
//! seconds, then twice as long each time, up to ten minutes.

use bondwire_units::Timestamp;
use core::time::Duration;

/// IP bytes that every link carries (RFC 8200, section 5).
const BASE_IP: usize = 1_280;
/// The search ends when the sizes are that close, in bytes.
const CLOSE: usize = 16;
/// How often a size is tried.
const TRIES: u32 = 2;
/// Full-size losses in a row that make a black hole.
const BLACK_HOLE: u32 = 6;
const RETRY: Duration = Duration::from_secs(30);
const MAX_RETRY: Duration = Duration::from_secs(600);

/// The search for a path's MTU. All sizes are UDP payload bytes.
#[derive(Clone, Debug)]
pub(crate) struct MtuDiscovery {
    base: usize,
    /// The greatest that is known to pass.
    current: usize,
    /// The greatest that may pass: the link's MTU, or what a router said.
    limit: usize,
    /// The least that is known to fail, or one above the limit.
    failing: usize,
    tries: u32,
    in_flight: bool,
    /// When the search may begin; none before validation.
    search_at: Option<Timestamp>,
    retry: Duration,
    full_losses: u32,
    /// One above the largest number of a packet beyond the base size that got through.
    passed: u64,
}

impl MtuDiscovery {
    pub(crate) fn new(link: usize, overhead: usize) -> Self {
        let base = BASE_IP.saturating_sub(overhead).min(link);
        Self {
            base,
            current: base,
            limit: link,
            failing: link + 1,
            tries: 0,
            in_flight: false,
            search_at: None,
            retry: RETRY,
            full_losses: 0,
            passed: 0,
        }
    }

    pub(crate) fn current(&self) -> usize {
        self.current
    }

    pub(crate) fn start(&mut self, now: Timestamp) {
        self.search_at.get_or_insert(now);
    }

    fn is_done(&self) -> bool {
        self.current >= self.limit || self.failing.saturating_sub(self.current) <= CLOSE
    }

    /// When the next probe is due, and its size.
    pub(crate) fn probe(&self) -> Option<(Timestamp, usize)> {
        if self.in_flight || self.is_done() {
            return None;
        }
        let size = if self.failing > self.limit { self.limit } else { self.current.midpoint(self.failing) };
        self.search_at.map(|at| (at, size))
    }

    pub(crate) fn on_probe_sent(&mut self) {
        self.in_flight = true;
    }

    pub(crate) fn on_probe_acked(&mut self, size: usize) {
        self.in_flight = false;
        self.tries = 0;
        if size <= self.limit {
            self.current = self.current.max(size);
        }
    }

    pub(crate) fn on_probe_lost(&mut self, size: usize) {
        self.in_flight = false;
        self.tries += 1;
        if self.tries >= TRIES {
            self.tries = 0;
            self.failing = self.failing.min(size.max(self.current + 1));
        }
    }

    /// A probe's fate will not be known: the path was given up with it in flight.
    pub(crate) fn on_probe_abandoned(&mut self) {
        self.in_flight = false;
    }

    /// Packet `number` of `size` was acknowledged.
    pub(crate) fn on_acked(&mut self, size: usize, number: u64) {
        if size > self.base {
            self.full_losses = 0;
            self.passed = self.passed.max(number + 1);
        }
    }

    /// Packet `number` of `size` was lost while later ones got through; whether that makes a black hole. It
    /// does not if one of those was as large.
    pub(crate) fn on_lost(&mut self, size: usize, number: u64, now: Timestamp) -> bool {
        if size <= self.base || self.current <= self.base || number < self.passed {
            return false;
        }
        self.full_losses += 1;
        if self.full_losses < BLACK_HOLE {
            return false;
        }
        self.full_losses = 0;
        self.current = self.base;
        self.failing = self.limit + 1;
        self.tries = 0;
        self.search_at = Some(now + self.retry);
        self.retry = (self.retry * 2).min(MAX_RETRY);
        true
    }

    /// The local stack refused a datagram of this size, or a router said so.
    pub(crate) fn on_too_long(&mut self, size: usize) {
        // Between what fits and this the search goes on by halves, as after a lost probe.
        self.failing = self.failing.min(size).max(self.base + 1);
        self.current = self.current.min(self.failing - 1);
        self.in_flight = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the search against a link that passes `real` bytes.
    fn search(mtu: &mut MtuDiscovery, real: usize) -> u32 {
        let mut probes = 0;
        while let Some((_, size)) = mtu.probe() {
            mtu.on_probe_sent();
            probes += 1;
            if size <= real {
                mtu.on_probe_acked(size)
            } else {
                mtu.on_probe_lost(size)
            }
            assert!(probes < 30);
        }
        probes
    }

    #[test]
    fn finds_the_greatest_size() {
        let mut mtu = MtuDiscovery::new(1_472, 28);
        assert_eq!(mtu.current(), 1_252);
        assert_eq!(mtu.probe(), None, "not validated");
        mtu.start(Timestamp::ZERO);
        assert_eq!(search(&mut mtu, 1_472), 1);
        assert_eq!(mtu.current(), 1_472);
        let mut narrow = MtuDiscovery::new(1_472, 28);
        narrow.start(Timestamp::ZERO);
        search(&mut narrow, 1_392);
        assert!((1_392 - CLOSE..=1_392).contains(&narrow.current()), "{}", narrow.current());
    }

    #[test]
    fn a_black_hole_falls_to_the_base_and_is_tried_again() {
        let mut mtu = MtuDiscovery::new(1_472, 28);
        mtu.start(Timestamp::ZERO);
        search(&mut mtu, 1_472);
        let mut lose = |number, size| mtu.on_lost(size, number, Timestamp::ZERO);
        assert!(!lose(0, 1_472) && !lose(1, 600));
        mtu.on_acked(1_472, 9);
        let mut lose = |number, size| mtu.on_lost(size, number, Timestamp::ZERO);
        assert!((2..9).all(|number| !lose(number, 1_472)), "a burst that something as large survived");
        assert!((10..15).all(|number| !lose(number, 1_472)));
        assert!(lose(15, 1_472));
        assert_eq!(mtu.current(), 1_252);
        assert_eq!(mtu.probe(), Some((Timestamp::from_millis(30_000), 1_472)));
        mtu.on_too_long(1_400);
        assert_eq!(
            mtu.probe(),
            Some((Timestamp::from_millis(30_000), 1_326)),
            "by halves below what is known to be too long"
        );
    }
}
