//! The path itself: what it is made of, how it is configured, and what it can tell.

use bondwire_units::{Bitrate, Timestamp};
use core::ops::RangeInclusive;
use core::time::Duration;

use crate::backlog::Backlog;
use crate::congestion::Congestion;
use crate::delivery::DeliverySampler;
use crate::health::{Health, PathState};
use crate::loss::LossDetection;
use crate::mtu::MtuDiscovery;
use crate::one_way::OneWayDelay;
use crate::pacer::Pacer;
use crate::receive::Received;
use crate::rtt::RttEstimator;
use crate::sent::{MAX_TRACKED, SentPackets};
use crate::timers::Traffic;
use crate::{AckToSend, OVERHEAD_IPV4};

/// What a path must be told.
#[derive(Clone, Copy, Debug)]
pub struct PathConfig {
    /// The greatest datagram that the link takes, in UDP payload bytes. The path starts with what every link
    /// carries (1,280 bytes of IP) and probes up to this.
    pub mtu: usize,
    /// IP and UDP headers per datagram: [`OVERHEAD_IPV4`] or [`OVERHEAD_IPV6`](crate::OVERHEAD_IPV6).
    pub overhead: usize,
    /// Any number, another one for each path: it staggers their capacity probes.
    pub seed: u64,
}

impl Default for PathConfig {
    /// Ethernet with IPv4.
    fn default() -> Self {
        Self { mtu: 1_472, overhead: OVERHEAD_IPV4, seed: 0 }
    }
}

/// One path; `C` is what the bond wants back when a packet is acknowledged or lost.
#[derive(Debug)]
pub struct Path<C> {
    pub(crate) overhead: usize,
    pub(crate) sent: SentPackets<C>,
    pub(crate) largest_acked: Option<u64>,
    /// When an acknowledgement last brought news.
    pub(crate) acked_at: Timestamp,
    /// Bytes acknowledged so far.
    pub(crate) delivered: u64,
    pub(crate) next_round: u64,
    pub(crate) rtt: RttEstimator,
    pub(crate) two_way_rtt: RttEstimator,
    pub(crate) two_way_at: Option<Timestamp>,
    pub(crate) delay: OneWayDelay,
    pub(crate) sampler: DeliverySampler,
    /// When an ACK last gave a sample of delays and rate.
    pub(crate) sampled_at: Timestamp,
    pub(crate) loss: LossDetection,
    pub(crate) congestion: Congestion,
    pub(crate) pacer: Pacer,
    pub(crate) backlog: Backlog,
    pub(crate) health: Health,
    pub(crate) mtu: MtuDiscovery,
    pub(crate) received: Received,
    pub(crate) traffic: Traffic,
    pub(crate) idle_since: Timestamp,
    pub(crate) last_eliciting: Option<Timestamp>,
    /// Probe timeouts in a row.
    pub(crate) timeouts: u32,
    /// The source had nothing; whether that made a bubble is decided when it has something again.
    pub(crate) source_idle: bool,
    pub(crate) bubble: Timestamp,
    /// Send times of the first ack-eliciting packets after the largest acknowledged one.
    pub(crate) silent: [Option<Timestamp>; crate::health::SILENT_PACKETS],
    pub(crate) ranges: Vec<RangeInclusive<u64>>,
    pub(crate) spurious: u64,
    pub(crate) lost_packets: u64,
}

impl<C> Path<C> {
    /// A path that is not validated yet.
    pub fn new(config: PathConfig, now: Timestamp) -> Self {
        let mtu = MtuDiscovery::new(config.mtu, config.overhead);
        let packet = mtu.current() + config.overhead;
        let congestion = Congestion::new(packet, config.seed);
        Self {
            overhead: config.overhead,
            sent: SentPackets::new(),
            largest_acked: None,
            acked_at: now,
            delivered: 0,
            next_round: 0,
            rtt: RttEstimator::new(),
            two_way_rtt: RttEstimator::new(),
            two_way_at: None,
            delay: OneWayDelay::new(),
            sampler: DeliverySampler::new(),
            sampled_at: now,
            loss: LossDetection::new(now),
            pacer: Pacer::new(congestion.pacing_rate(), packet, now),
            congestion,
            backlog: Backlog::new(now),
            health: Health::new(now),
            mtu,
            received: Received::new(),
            traffic: Traffic::Idle,
            idle_since: now,
            last_eliciting: None,
            timeouts: 0,
            source_idle: true,
            bubble: Timestamp::ZERO,
            silent: [None; crate::health::SILENT_PACKETS],
            ranges: Vec::with_capacity(crate::MAX_RANGES),
            spurious: 0,
            lost_packets: 0,
        }
    }

    /// Whether the path carries data.
    pub fn state(&self) -> PathState {
        self.health.state()
    }

    /// Since when it is in that state.
    pub fn state_since(&self) -> Timestamp {
        self.health.since()
    }

    /// Active, and not lately flapping: fit for what must not be lost.
    pub fn is_trusted(&self, now: Timestamp) -> bool {
        self.health.is_trusted(now)
    }

    /// The greatest datagram, in UDP payload bytes.
    pub fn mtu(&self) -> usize {
        self.mtu.current()
    }

    /// IP and UDP headers per datagram, in bytes.
    pub fn overhead(&self) -> usize {
        self.overhead
    }

    /// Bytes of ack-eliciting packets that are neither acknowledged nor lost.
    pub fn in_flight(&self) -> usize {
        self.sent.in_flight()
    }

    /// The number of the next packet.
    pub fn next_number(&self) -> u64 {
        self.sent.next_number()
    }

    /// What packet `number` carries, if it is neither acknowledged nor lost.
    pub fn content_of(&self, number: u64) -> Option<&C> {
        self.sent.content(number)
    }

    /// The congestion window in bytes.
    pub fn window(&self) -> usize {
        self.congestion.window()
    }

    /// The round trip: out on this path, back on whichever delivered the ACK.
    pub fn rtt(&self) -> &RttEstimator {
        &self.rtt
    }

    /// The round trip out and back on this very path, from ACKs that came over it.
    pub fn two_way_rtt(&self) -> &RttEstimator {
        &self.two_way_rtt
    }

    /// When an ACK for this path last came over it: the proof that it works both ways.
    pub fn two_way_at(&self) -> Option<Timestamp> {
        self.two_way_at
    }

    /// The one-way delay with its base, variation and queue.
    pub fn one_way_delay(&self) -> &OneWayDelay {
        &self.delay
    }

    /// The smoothed one-way delay in microseconds, plus the unknown difference of the clocks: compare it with
    /// other paths of the session only.
    pub fn one_way_delay_micros(&self) -> Option<i64> {
        self.delay.is_measured().then(|| self.delay.smoothed())
    }

    /// The estimated rate of the link in this direction, in bits per second of IP bytes; zero before the first
    /// measurement.
    pub fn delivery_rate(&self) -> Bitrate {
        bits(self.congestion.bandwidth())
    }

    /// The rate that the path may turn out to have, in bits per second: [`Self::delivery_rate`] once that is measured, and while it is still being
    /// looked for what the next round trip would prove.
    pub fn prospect(&self) -> Bitrate {
        bits(self.congestion.prospect())
    }

    /// Whether [`Self::delivery_rate`] is that of the link, and not only what a slow source has made of it.
    pub fn is_measured(&self) -> bool {
        !self.congestion.is_startup()
    }

    /// The rate at which packets leave now.
    pub fn pacing_rate(&self) -> Bitrate {
        bits(self.congestion.pacing_rate())
    }

    /// The controller's phase, for logs and status.
    pub fn phase(&self) -> &'static str {
        self.congestion.phase_name()
    }

    /// The share of the packets sent lately that were lost, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.loss.ratio()
    }

    /// The link's own loss, 0 to 1: of the packets that were sent below the path's rate, so that what a queue dropped of a burst of ours
    /// does not count.
    pub fn own_loss(&self) -> f64 {
        self.loss.ratio().min(self.loss.gentle_ratio())
    }

    /// Packets declared lost so far, and how many of those arrived after all.
    pub fn lost_and_spurious(&self) -> (u64, u64) {
        (self.lost_packets, self.spurious)
    }

    /// Bytes acknowledged so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// When `extra` further bytes would arrive, in microseconds from now on the scale of
    /// [`Self::one_way_delay_micros`]: our own backlog at the bottleneck and `extra` over the rate, plus the
    /// delay of an empty link. Before the first sample half of the round trip stands for the delay.
    pub fn arrival_after(&self, extra: usize, now: Timestamp) -> i64 {
        let rate = self.congestion.drain_rate();
        let waiting = self.backlog.bytes(rate, now).min(self.sent.in_flight() as f64) + extra as f64;
        let delay = if self.delay.is_measured() {
            self.delay.unqueued()
        } else {
            crate::one_way::micros(self.rtt.smoothed() / 2)
        };
        delay.saturating_add((waiting * 1e6 / rate.max(1.0)) as i64)
    }

    /// A ceiling for the pace, such as a user's limit, in IP bytes of whatever leaves; none lifts it. The estimate that is told is capped too. Urgent
    /// packets keep to it as well. Below four full packets a second it is not obeyed.
    pub fn set_rate_limit(&mut self, limit: Option<Bitrate>, now: Timestamp) {
        self.congestion.set_ceiling(limit.map(|rate| rate.as_bps() as f64 / 8.0));
        self.update_pace(now);
    }

    /// The bond uses the path again after having left it alone for long: its rate is sought anew, from what is remembered.
    pub fn on_rejoined(&mut self, now: Timestamp) {
        self.congestion.on_rejoined(now);
        self.update_pace(now);
    }

    /// Another path has died, and this one has to carry more than it was asked for so far.
    pub fn on_takeover(&mut self, now: Timestamp) {
        self.congestion.on_takeover(now);
        self.update_pace(now);
    }

    /// Records that packet `number` came in on this path, and lay in the socket for `waited` until it was read.
    pub fn on_packet_received(&mut self, number: u64, ack_eliciting: bool, waited: Duration, now: Timestamp) {
        self.received.on_packet(number, ack_eliciting, waited, now);
    }

    /// Whether an ACK for this path should be sent now (docs/protocol.md, FRAME-3).
    pub fn ack_due(&self, now: Timestamp) -> bool {
        self.received.ack_due(now)
    }

    /// When one will have to be sent. Not part of [`Self::poll_deadline`].
    pub fn ack_deadline(&self) -> Option<Timestamp> {
        self.received.deadline()
    }

    /// Acknowledgements may have been lost with this path, or with the one that carried them: what was received is told again at once.
    pub fn acknowledge_again(&mut self, now: Timestamp) {
        self.received.tell_again(now);
    }

    /// Makes the ACK, whether or not it is due, and clears what was pending; none if nothing was ever received.
    pub fn build_ack(&mut self, now: Timestamp) -> Option<AckToSend<'_>> {
        self.received.build(now)
    }

    /// Whether a copy of the ACK should go over this path itself: every
    /// [`SELF_ACK_INTERVAL`](crate::SELF_ACK_INTERVAL) while packets arrive on it.
    pub fn wants_ack_on_itself(&self, now: Timestamp) -> bool {
        self.received.wants_ack_on_itself(now)
    }

    /// An ACK for this path was sent over this path.
    pub fn on_ack_sent_on_itself(&mut self, now: Timestamp) {
        self.received.on_told_itself(now);
    }

    /// When anything last came in on this path.
    pub fn last_received_at(&self) -> Option<Timestamp> {
        self.received.last_at()
    }

    /// How many packets came in on this path.
    pub fn packets_received(&self) -> u64 {
        self.received.packets()
    }

    /// How long the receiver of this path's packets needs at most to see one that was sent now and the sender
    /// to know: for the bond's waiting times.
    pub fn repair_time(&self) -> Duration {
        self.rtt.pto()
    }

    /// Room for further packets in the tracker.
    pub(crate) fn tracker_room(&self) -> bool {
        self.sent.eliciting() < MAX_TRACKED && !self.sent.is_full()
    }
}

fn bits(bytes_per_second: f64) -> Bitrate {
    Bitrate::from_bps((bytes_per_second * 8.0).max(0.0) as u64)
}
