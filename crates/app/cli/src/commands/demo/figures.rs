//! Which links were cut, and when; what that means for the figures of a download.

use std::time::Duration;

use bondwire_netns::traffic::Timeline;
use bondwire_units::{Bitrate, Timestamp};

/// What arrives before is start-up, and in no figure.
const START_UP: Duration = Duration::from_secs(2);
const SECOND: Duration = Duration::from_secs(1);

/// When links were cut, by the lab's clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Outages {
    list: Vec<Outage>,
}

#[derive(Clone, Copy, Debug)]
struct Outage {
    link: usize,
    from: Timestamp,
    to: Option<Timestamp>,
}

impl Outages {
    /// A link is cut.
    pub(super) fn on_cut(&mut self, link: usize, at: Timestamp) {
        self.list.push(Outage { link, from: at, to: None });
    }

    /// A link is restored.
    pub(super) fn on_restored(&mut self, link: usize, at: Timestamp) {
        let open = self.list.iter_mut().filter(|outage| outage.link == link && outage.to.is_none());
        open.for_each(|outage| outage.to = Some(at));
    }

    /// Whether a link is cut at this time.
    pub(super) fn is_cut(&self, link: usize, at: Timestamp) -> bool {
        let lasts = |outage: &Outage| outage.from <= at && outage.to.is_none_or(|end| end > at);
        self.list.iter().any(|outage| outage.link == link && lasts(outage))
    }

    /// The first cut: which link, and when.
    pub(super) fn first(&self) -> Option<(usize, Timestamp)> {
        self.list.first().map(|outage| (outage.link, outage.from))
    }

    fn touches(&self, from: Timestamp, to: Timestamp) -> bool {
        self.list.iter().any(|outage| outage.from < to && outage.to.is_none_or(|end| end > from))
    }
}

/// The mean rate over the whole seconds in which all links were up, from the third on; none if there was no such second.
/// `length` counts from the download's start.
pub(super) fn bonded_rate(download: &Timeline, outages: &Outages, length: Duration) -> Option<Bitrate> {
    let starts = (START_UP.as_secs()..length.as_secs()).map(Duration::from_secs);
    let rates: Vec<u64> = starts
        .filter(|start| !outages.touches(download.start() + *start, download.start() + *start + SECOND))
        .map(|start| download.goodput(start, start + SECOND).as_bps())
        .collect();
    let count = u64::try_from(rates.len()).ok().filter(|count| *count > 0)?;
    Some(Bitrate::from_bps(rates.iter().sum::<u64>() / count))
}

/// The longest silence from the third second on.
pub(super) fn longest_gap(download: &Timeline, length: Duration) -> Duration {
    download.longest_gap(START_UP, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(70_000);

    fn ms(value: u64) -> Duration {
        Duration::from_millis(value)
    }

    /// 1,000 bytes every 10 ms, which is 0.8 Mbit/s, but for silent times.
    fn steady(end: u64, silent: core::ops::Range<u64>) -> Timeline {
        let mut download = Timeline::new(START);
        let arrivals = (0..end).step_by(10).filter(|at| !silent.contains(at));
        arrivals.for_each(|at| download.record(1_000, START + ms(at)));
        download
    }

    #[test]
    fn seconds_with_a_cut_do_not_count() {
        let download = steady(10_000, 4_000..6_000);
        let mut outages = Outages::default();
        assert!(bonded_rate(&download, &outages, ms(10_000)).expect("seconds") < Bitrate::from_bps(800_000));
        outages.on_cut(1, START + ms(4_100));
        assert!(outages.is_cut(1, START + ms(4_100)) && !outages.is_cut(1, START + ms(4_000)));
        assert!(!outages.is_cut(0, START + ms(4_100)));
        outages.on_restored(1, START + ms(5_900));
        assert!(!outages.is_cut(1, START + ms(5_900)));
        assert_eq!(outages.first(), Some((1, START + ms(4_100))));
        assert_eq!(bonded_rate(&download, &outages, ms(10_000)), Some(Bitrate::from_bps(800_000)));
    }

    #[test]
    fn a_link_that_stays_cut_leaves_no_second() {
        let mut outages = Outages::default();
        outages.on_cut(0, START);
        assert_eq!(bonded_rate(&steady(5_000, 0..0), &outages, ms(5_000)), None);
    }

    #[test]
    fn gaps_before_the_third_second_do_not_count() {
        assert!(longest_gap(&steady(5_000, 500..1_500), ms(5_000)) <= ms(10));
        assert_eq!(longest_gap(&steady(5_000, 3_000..3_500), ms(5_000)), ms(510));
    }

    #[test]
    fn a_silence_that_lasts_to_the_end_counts() {
        assert_eq!(longest_gap(&steady(3_000, 0..0), ms(5_000)), ms(2_010));
    }
}
