use std::time::Duration;

use bondwire_units::Timestamp;

/// One packet that arrived, for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its number, from 0.
    pub number: u64,
    /// When it was sent.
    pub sent: Timestamp,
    /// When it arrived, by the kernel's stamp: a reader that is late does not count.
    pub arrived: Timestamp,
}

impl Received {
    /// Its one-way delay.
    pub fn delay(&self) -> Duration {
        self.arrived.since(self.sent)
    }
}

/// What the receiving end of a probe notes: each packet once, in the order of arrival.
#[derive(Debug)]
pub(super) struct Recorder {
    packets: Vec<Received>,
    seen: Vec<bool>,
    duplicates: u64,
}

impl Recorder {
    /// For packets numbered below `packets`; others are ignored.
    pub(super) fn new(packets: u64) -> Self {
        Self { packets: Vec::new(), seen: vec![false; packets as usize], duplicates: 0 }
    }

    pub(super) fn record(&mut self, packet: Received) {
        match self.seen.get_mut(packet.number as usize) {
            Some(seen) if !*seen => {
                *seen = true;
                self.packets.push(packet);
            }
            Some(_) => self.duplicates += 1,
            None => {}
        }
    }

    /// How many different packets have arrived.
    pub(super) fn distinct(&self) -> u64 {
        self.packets.len() as u64
    }
}

/// What became of a probe's packets.
#[derive(Clone, Debug)]
pub struct ProbeReport {
    /// When the first packet was sent.
    pub started: Timestamp,
    /// From one packet to the next.
    pub interval: Duration,
    /// How many were sent.
    pub sent: u64,
    /// Those that arrived, each once, in the order of arrival.
    pub packets: Vec<Received>,
    /// How many arrived again.
    pub duplicates: u64,
}

impl ProbeReport {
    pub(super) fn new(started: Timestamp, interval: Duration, sent: u64, recorder: Recorder) -> Self {
        Self { started, interval, sent, packets: recorder.packets, duplicates: recorder.duplicates }
    }

    /// How many never arrived.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.packets.len() as u64)
    }

    /// The share that never arrived, 0 to 1; 0 if none was sent.
    pub fn loss(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    /// How many arrived after one with a higher number.
    pub fn reordered(&self) -> u64 {
        let mut highest = 0;
        let mut late = 0;
        for packet in &self.packets {
            late += u64::from(packet.number < highest);
            highest = highest.max(packet.number);
        }
        late
    }

    /// The one-way delay that the given share (0 to 1) of the packets that arrived did not exceed; none if none did.
    pub fn delay(&self, share: f64) -> Option<Duration> {
        rank(self.packets.iter().map(Received::delay).collect(), share, self.packets.len() as u64)
    }

    /// The same with every lost packet counted as infinitely late: none if the share was not reached.
    pub fn delay_or_lost(&self, share: f64) -> Option<Duration> {
        rank(self.packets.iter().map(Received::delay).collect(), share, self.sent)
    }

    /// The longest time without an arrival, from the first packet's sending to the end of the flow.
    pub fn longest_gap(&self) -> Duration {
        let end = self.started + self.interval * u32::try_from(self.sent).unwrap_or(u32::MAX);
        let mut last = self.started;
        let mut longest = Duration::ZERO;
        for packet in &self.packets {
            longest = longest.max(packet.arrived.since(last));
            last = last.max(packet.arrived);
        }
        longest.max(end.since(last))
    }

    /// The part of the flow that was sent from `from` to `to`, counted from its start.
    pub fn between(&self, from: Duration, to: Duration) -> Self {
        let number = |time: Duration| (time.as_nanos() / self.interval.as_nanos().max(1)) as u64;
        let (first, end) = (number(from).min(self.sent), number(to).min(self.sent));
        let inside = |packet: &&Received| (first..end).contains(&packet.number);
        Self {
            started: self.started + from,
            interval: self.interval,
            sent: end.saturating_sub(first),
            packets: self.packets.iter().filter(inside).copied().collect(),
            duplicates: self.duplicates,
        }
    }
}

/// The value of the given share among `count`, of which those not in `values` lie beyond all others.
fn rank(mut values: Vec<Duration>, share: f64, count: u64) -> Option<Duration> {
    values.sort_unstable();
    let rank = (share.clamp(0.0, 1.0) * count as f64).ceil().max(1.0) as usize;
    values.get(rank - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// 100 packets, 10 ms apart, 20 ms under way, except numbers 50 to 59, which are lost, and 70, which is 45 ms late.
    fn report() -> ProbeReport {
        let started = Timestamp::from_millis(1000);
        let mut recorder = Recorder::new(100);
        let mut packets: Vec<_> = (0..100_u32)
            .filter(|number| !(50..60).contains(number))
            .map(|number| {
                let sent = started + MS * 10 * number;
                let late = if number == 70 { 45 } else { 0 };
                Received { number: number.into(), sent, arrived: sent + MS * (20 + late) }
            })
            .collect();
        packets.sort_by_key(|packet| packet.arrived);
        packets.iter().for_each(|packet| recorder.record(*packet));
        recorder.record(packets[0]);
        recorder.record(Received { number: 100, ..packets[0] });
        ProbeReport::new(started, MS * 10, 100, recorder)
    }

    #[test]
    fn loss_duplicates_and_order_are_counted() {
        let report = report();
        assert_eq!((report.sent, report.lost(), report.duplicates, report.reordered()), (100, 10, 1, 1));
        assert!((report.loss() - 0.1).abs() < 1e-9);
    }

    #[test]
    fn percentiles_with_and_without_the_lost() {
        let report = report();
        assert_eq!(report.delay(0.5), Some(MS * 20));
        assert_eq!(report.delay(1.0), Some(MS * 65));
        assert_eq!(report.delay_or_lost(0.9), Some(MS * 65));
        assert_eq!(report.delay_or_lost(0.91), None);
        assert_eq!(report.between(MS * 500, MS * 600).delay(0.5), None);
    }

    #[test]
    fn the_longest_gap_includes_the_edges() {
        let report = report();
        assert_eq!(report.longest_gap(), MS * 110);
        assert_eq!(report.between(MS * 500, MS * 600).longest_gap(), MS * 100);
        assert_eq!(report.between(Duration::ZERO, MS * 400).longest_gap(), MS * 20);
    }
}
