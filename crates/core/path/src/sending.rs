//! The sending side: budgets, and what is noted of a packet that leaves.

use bondwire_units::Timestamp;

use crate::health::PathState;
use crate::path::Path;
use crate::sent::Sent;

impl<C> Path<C> {
    /// The number that the next packet will have.
    pub fn next_packet_number(&self) -> u64 {
        self.sent.next_number()
    }

    /// Bytes that may leave right now: the window's room or the pacer's credit, whichever is less. The last
    /// packet may be larger than the rest of the budget, by less than a packet; the pacer then waits for it.
    /// Zero unless the path is active.
    pub fn send_budget(&self, now: Timestamp) -> usize {
        self.window_room().min(self.pacer.budget(now))
    }

    /// The congestion window's room alone, for sparse and urgent packets that need not wait for the pacer. Zero
    /// unless the path is active.
    pub fn window_room(&self) -> usize {
        if self.state() != PathState::Active || !self.tracker_room() {
            return 0;
        }
        self.congestion.window().saturating_sub(self.sent.in_flight())
    }

    /// As [`Self::window_room`], for packets that must not wait: a quarter of the window more, so that what fills a slow path's window does not
    /// keep a call out. But where a ceiling ([`Self::set_rate_limit`]) holds the pace back, they wait for the pacer too: many
    /// sparse flows together, such as the acknowledgements of a download, would exceed it.
    pub fn urgent_room(&self, now: Timestamp) -> usize {
        let exceeded = self.congestion.at_ceiling() && self.pacer.budget(now) == 0;
        if exceeded || self.state() != PathState::Active || !self.tracker_room() {
            return 0;
        }
        let window = self.congestion.window();
        (window + window / 4).saturating_sub(self.sent.in_flight())
    }

    /// When the pacer lets the next packet go; none if the window is the limit, or the path is not active.
    pub fn poll_send_time(&self, now: Timestamp) -> Option<Timestamp> {
        if self.window_room() == 0 {
            None
        } else if self.pacer.budget(now) > 0 {
            Some(now)
        } else {
            Some(self.pacer.next_send())
        }
    }

    /// The bond has nothing more for this path. To be called whenever it leaves budget unused, or its backlog
    /// for this path ends: samples of the delivery rate are lower bounds from then until it sends again without
    /// pause.
    pub fn set_app_limited(&mut self, now: Timestamp) {
        if self.window_room() > 0 {
            self.source_idle = true;
            self.pacer.on_idle(now);
        }
    }

    /// Notes that a packet of `size` IP bytes leaves now, and returns its number. May be called beyond the
    /// budget (probes, ACKs, challenges).
    pub fn on_packet_sent(&mut self, size: usize, ack_eliciting: bool, content: C, now: Timestamp) -> u64 {
        self.note_sent(size, ack_eliciting, false, content, now)
    }

    /// Notes that a probe with `mtu` bytes of UDP payload leaves now, and returns its number. It is ack-eliciting.
    pub fn on_mtu_probe_sent(&mut self, mtu: usize, content: C, now: Timestamp) -> u64 {
        self.mtu.on_probe_sent();
        self.note_sent(mtu + self.overhead, true, true, content, now)
    }

    fn note_sent(
        &mut self,
        size: usize,
        ack_eliciting: bool,
        mtu_probe: bool,
        content: C,
        now: Timestamp,
    ) -> u64 {
        if self.source_idle {
            self.source_idle = false;
            if self.pacer.was_idle(now) {
                self.bubble = now;
            }
        }
        if ack_eliciting {
            self.note_probe(now);
            self.last_eliciting = Some(now);
            if let Some(slot) = self.silent.iter_mut().find(|slot| slot.is_none()) {
                *slot = Some(now);
            }
        }
        self.congestion.on_sent(now);
        self.update_pace(now);
        // Acknowledgements alone do not hold back what is paced: at a trickle they would do so for ever. A user's limit holds for them too.
        if ack_eliciting || self.congestion.has_ceiling() {
            self.pacer.on_sent(size, now);
        }
        let gentle = self.congestion.is_gentle();
        if gentle {
            self.bubble = now;
        }
        let queued = self.backlog.on_sent(size, self.sent.in_flight(), self.congestion.drain_rate(), now);
        self.sent.push(Sent {
            content: Some(content),
            sent_at: now,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            queued: u32::try_from(queued.as_micros()).unwrap_or(u32::MAX),
            delivered: self.delivered,
            bubble: self.bubble,
            ack_eliciting,
            gentle: gentle || self.bubble + self.rtt.smoothed() > now,
            mtu_probe,
        })
    }

    /// Brings the pacer up to date with the controller.
    pub(crate) fn update_pace(&mut self, now: Timestamp) {
        let packet = self.mtu.current() + self.overhead;
        self.pacer.set_rate(self.congestion.pacing_rate(), packet, now);
    }

    /// Takes the contents of everything in flight, so that they can be sent elsewhere. For a path that turned
    /// suspect, or whose link is gone. A late ACK is still recognised.
    ///
    /// Returns how many of them, the first ones, have probably arrived: they were sent so long before the path was last heard of
    /// that only their acknowledgements are missing, which died with the path.
    pub fn take_in_flight(&mut self, out: &mut Vec<C>, now: Timestamp) -> usize {
        let on_the_way = self.rtt.smoothed() / 2 + self.rtt.variation() * 2;
        let arrived = self.sent.abandon(self.acked_at.saturating_sub(on_the_way), out, now);
        out.append(&mut self.sent.evicted);
        self.mtu.on_probe_abandoned();
        self.silent = [None; crate::health::SILENT_PACKETS];
        arrived
    }
}
