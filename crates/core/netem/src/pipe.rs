use core::time::Duration;
use std::collections::VecDeque;

use bondwire_units::{ByteCount, Timestamp};

use crate::config::PipeConfig;
use crate::loss::LossModel;
use crate::policer::Bucket;
use crate::rng::Rng;
use crate::serializer::Serializer;
use crate::stats::PipeStats;

/// The most packets that a pipe holds, queued and on their way together; more are dropped as if the queue were full.
/// It is reached only where the rate is without limit.
pub const MAX_PACKETS: usize = 1 << 18;

/// One direction of a link. `T` is whatever stands for a packet; it is copied only when the link duplicates.
///
/// Calls may come late: what happened in between is worked out with the times at which it was due, so the result does
/// not depend on how often the pipe is asked. Only the moment at which a packet is handed out does.
///
/// Memory: at most the queue's bytes and [`MAX_PACKETS`] packets.
#[derive(Debug)]
pub struct Pipe<T> {
    config: PipeConfig,
    rng: Rng,
    loss: LossModel,
    bucket: Bucket,
    serializer: Serializer,
    up: bool,
    queue: VecDeque<Item<T>>,
    queued: ByteCount,
    /// When the packet at the head of the queue began to be sent, and when it will be through.
    service: Option<(Timestamp, Timestamp)>,
    /// Sorted by the time at which they come out; those of equal time in the order in which they went in.
    flight: VecDeque<(Timestamp, Item<T>)>,
    /// The latest arrival so far of a packet that keeps its place.
    last_due: Timestamp,
    stats: PipeStats,
}

#[derive(Clone, Debug)]
struct Item<T> {
    payload: T,
    size: ByteCount,
}

impl<T: Clone> Pipe<T> {
    /// A pipe that is up and empty, and whose trace, if it has one, starts at time zero.
    pub fn new(config: PipeConfig, seed: u64) -> Self {
        let serializer = Serializer::new(&config, Timestamp::ZERO);
        Self {
            config,
            rng: Rng::new(seed),
            loss: LossModel::default(),
            bucket: Bucket::default(),
            serializer,
            up: true,
            queue: VecDeque::new(),
            queued: ByteCount::ZERO,
            service: None,
            flight: VecDeque::new(),
            last_due: Timestamp::ZERO,
            stats: PipeStats::default(),
        }
    }

    /// A packet of `size` IP bytes enters.
    pub fn handle_packet(&mut self, payload: T, size: usize, now: Timestamp) {
        self.advance(now);
        let size = ByteCount::from(size);
        self.stats.packets_in += 1;
        self.stats.bytes_in += size;
        if !self.up {
            self.stats.dropped_outage += 1;
            return;
        }
        if !self.bucket.admits(self.config.policer, size, now) {
            self.stats.dropped_policer += 1;
            return;
        }
        let limit = self.config.queue_limit();
        let full = limit.is_some_and(|limit| self.queued + size > limit && !self.queue.is_empty());
        if full || self.held() >= MAX_PACKETS {
            self.stats.dropped_queue += 1;
            return;
        }
        self.queued += size;
        self.queue.push_back(Item { payload, size });
        if self.service.is_none() {
            self.begin_service(now);
        }
        self.advance(now);
    }

    /// The next packet that is due, in order of arrival at the far end.
    pub fn poll_packet(&mut self, now: Timestamp) -> Option<T> {
        self.advance(now);
        if self.flight.front()?.0 > now {
            return None;
        }
        let (_, item) = self.flight.pop_front()?;
        self.stats.packets_out += 1;
        self.stats.bytes_out += item.size;
        Some(item.payload)
    }

    /// When a packet may be due next. It is not too late, but may be too early: the packet may be lost.
    pub fn poll_deadline(&self) -> Option<Timestamp> {
        let arrival = self.flight.front().map(|(due, _)| *due);
        let keeps_order = self.config.reorder <= 0.0 && !self.config.jitter_reorders;
        if arrival.is_some() && keeps_order {
            return arrival;
        }
        let served = self.service.map(|(_, finish)| finish).filter(|&finish| finish < Timestamp::MAX);
        let served = served.map(|finish| finish + self.least_delay());
        match (arrival, served) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Changes what the link does from `now` on. A packet that is being sent goes on at the new rate with what is left
    /// of it; packets that were sent keep the arrival that they have. A trace starts from its beginning.
    pub fn set_config(&mut self, config: PipeConfig, now: Timestamp) {
        self.advance(now);
        self.serializer = Serializer::new(&config, now);
        self.config = config;
        if let (Some((start, finish)), Some(head)) = (self.service, self.queue.front()) {
            let whole = finish.since(start).as_secs_f64();
            let share = if whole > 0.0 { finish.since(now).as_secs_f64() / whole } else { 1.0 };
            let left = head.size * share.clamp(0.0, 1.0);
            self.service = Some((now, self.serializer.finish(left, now)));
            self.advance(now);
        }
    }

    /// What the link does at present.
    pub fn config(&self) -> &PipeConfig {
        &self.config
    }

    /// A silent outage begins (`false`) or ends. All packets in the pipe, and all that enter during the outage, vanish;
    /// the sender is told nothing.
    pub fn set_up(&mut self, up: bool, now: Timestamp) {
        self.advance(now);
        if !up {
            self.stats.dropped_outage += self.held() as u64;
            self.queue.clear();
            self.flight.clear();
            self.queued = ByteCount::ZERO;
            self.service = None;
        }
        self.up = up;
    }

    /// Whether packets get through at all.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// What it has done so far.
    pub fn stats(&self) -> PipeStats {
        self.stats
    }

    /// Packets in it, queued or on their way.
    pub fn held(&self) -> usize {
        self.queue.len() + self.flight.len()
    }

    /// Bytes in its queue as of the last call, the packet in service included.
    pub fn queued(&self) -> ByteCount {
        self.queued
    }

    /// Brings the queue up to `now`: every packet whose last bit was sent by then leaves it.
    fn advance(&mut self, now: Timestamp) {
        while let Some((_, finish)) = self.service {
            if finish > now {
                return;
            }
            let Some(item) = self.queue.pop_front() else { return };
            self.queued -= item.size;
            self.service = None;
            self.on_sent(item, finish);
            self.begin_service(finish);
        }
    }

    fn begin_service(&mut self, start: Timestamp) {
        if let Some(head) = self.queue.front() {
            self.service = Some((start, self.serializer.finish(head.size, start)));
        }
    }

    /// A packet has been sent, at `time`: is it lost, and if not, when does it arrive?
    fn on_sent(&mut self, item: Item<T>, time: Timestamp) {
        if self.loss.draw(&self.config, &mut self.rng) {
            self.stats.dropped_loss += 1;
            return;
        }
        let copy = self.rng.chance(self.config.duplicate).then(|| item.clone());
        let due = self.draw_arrival(time);
        self.insert(due, item);
        if let Some(copy) = copy {
            self.stats.duplicated += 1;
            self.insert(due, copy);
        }
    }

    fn draw_arrival(&mut self, time: Timestamp) -> Timestamp {
        if !self.config.delay.is_zero() && self.rng.chance(self.config.reorder) {
            self.stats.reordered += 1;
            return time + self.config.delay.mul_f64(self.rng.unit());
        }
        let mut due = time + self.config.delay;
        if !self.config.jitter.is_zero() {
            let early = self.config.jitter.min(self.config.delay);
            let span = (self.config.jitter * 2).mul_f64(self.rng.unit());
            let shift = span.saturating_sub(self.config.jitter - early);
            due = time + (self.config.delay - early) + shift;
        }
        if !self.config.jitter_reorders {
            due = due.max(self.last_due);
            self.last_due = due;
        }
        self.next_grant(due)
    }

    /// The first moment from `due` on at which packets come out.
    fn next_grant(&self, due: Timestamp) -> Timestamp {
        match u64::try_from(self.config.grants.as_nanos()).unwrap_or(u64::MAX) {
            0 => due,
            grant => Timestamp::from_nanos(due.as_nanos().div_ceil(grant).saturating_mul(grant)),
        }
    }

    fn insert(&mut self, due: Timestamp, item: Item<T>) {
        if self.flight.back().is_none_or(|(last, _)| *last <= due) {
            self.flight.push_back((due, item));
        } else {
            let at = self.flight.partition_point(|(other, _)| *other <= due);
            self.flight.insert(at, (due, item));
        }
    }

    /// The shortest time from the end of serialisation to the far end.
    fn least_delay(&self) -> Duration {
        if self.config.reorder > 0.0 {
            Duration::ZERO
        } else {
            self.config.delay.saturating_sub(self.config.jitter)
        }
    }
}

#[cfg(test)]
#[path = "pipe/tests.rs"]
mod tests;
