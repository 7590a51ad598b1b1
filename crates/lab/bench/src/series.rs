use std::time::Duration;

use bondwire_netns::traffic::Timeline;
use bondwire_units::Timestamp;

/// How finely a point in time is looked for.
const STEP: Duration = Duration::from_millis(10);

/// How many bytes had arrived when, of one or several sources that add up; between two points they came evenly.
#[derive(Clone, Debug, Default)]
pub struct Series {
    sources: Vec<Vec<(Timestamp, f64)>>,
}

impl Series {
    /// The sum of transfers.
    pub fn of<'a>(timelines: impl IntoIterator<Item = &'a Timeline>) -> Self {
        Self { sources: timelines.into_iter().map(points).collect() }
    }

    /// A counter that was read from time to time: when, and what it said.
    pub fn of_counter(readings: &[(Timestamp, u64)]) -> Self {
        let first = readings.first().map_or(0, |(_, bytes)| *bytes);
        let points = readings.iter().map(|(at, bytes)| (*at, bytes.saturating_sub(first) as f64));
        Self { sources: vec![points.collect()] }
    }

    /// The mean rate from `from` to `to`, in bit/s; 0 if that is no time.
    pub fn rate(&self, from: Timestamp, to: Timestamp) -> f64 {
        let bytes: f64 = self.sources.iter().map(|points| at(points, to) - at(points, from)).sum();
        let time = to.since(from).as_secs_f64();
        if time > 0.0 { bytes * 8.0 / time } else { 0.0 }
    }

    /// How long after `from` the first stretch of `window` begins whose rate is as wanted, in seconds; infinite if none
    /// does that ends by `to`.
    pub fn first(
        &self,
        from: Timestamp,
        to: Timestamp,
        window: Duration,
        is_wanted: impl Fn(f64) -> bool,
    ) -> f64 {
        let mut begin = from;
        while begin + window <= to {
            if is_wanted(self.rate(begin, begin + window)) {
                return begin.since(from).as_secs_f64();
            }
            begin += STEP;
        }
        f64::INFINITY
    }
}

/// The time from a transfer's first byte until its rate, over 200 ms, is at 90 % of its steady one, which is the mean of
/// its last half; in seconds. Infinite if it never is, or nothing arrived.
pub(crate) fn ramp(timeline: &Timeline) -> f64 {
    const WINDOW: Duration = Duration::from_millis(200);
    let (Some(first), Some(last)) = (timeline.bins().iter().position(|bytes| *bytes > 0), timeline.last())
    else {
        return f64::INFINITY;
    };
    let series = Series::of([timeline]);
    let first = timeline.start() + Timeline::BIN * first as u32;
    let steady = series.rate(first + last.since(first) / 2, last);
    // A stretch at this rate has reached it by its end, not by its beginning.
    series.first(first, last, WINDOW, |rate| rate >= 0.9 * steady) + WINDOW.as_secs_f64()
}

fn points(timeline: &Timeline) -> Vec<(Timestamp, f64)> {
    let mut sum = 0.0;
    let mut points = vec![(timeline.start(), 0.0)];
    for (number, bytes) in timeline.bins().iter().enumerate() {
        sum += *bytes as f64;
        points.push((timeline.start() + Timeline::BIN * (number as u32 + 1), sum));
    }
    points
}

/// Bytes by a time, between the two points around it.
fn at(points: &[(Timestamp, f64)], time: Timestamp) -> f64 {
    let next = points.partition_point(|(at, _)| *at <= time);
    let before = next.checked_sub(1).and_then(|at| points.get(at));
    match (before, points.get(next)) {
        (Some((from, bytes)), Some((to, more))) => {
            let share = time.since(*from).as_secs_f64() / to.since(*from).as_secs_f64();
            bytes + (more - bytes) * share
        }
        (Some((_, bytes)), None) => *bytes,
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// Nothing for 500 ms, then 1,250 bytes a millisecond from 1.5 s on, and half of that between.
    fn growing() -> Timeline {
        let mut timeline = Timeline::new(time(1000));
        for at in 1500..8000 {
            timeline.record(if at < 2500 { 625 } else { 1250 }, time(at));
        }
        timeline
    }

    #[test]
    fn rates_are_those_of_the_stretch() {
        let timeline = growing();
        let both = Series::of([&timeline, &timeline]);
        assert!((both.rate(time(3000), time(4000)) - 20e6).abs() < 1.0);
        assert_eq!(both.rate(time(1000), time(1500)), 0.0);
        assert_eq!(both.rate(time(1000), time(1000)), 0.0);
    }

    #[test]
    fn a_counter_counts_from_its_first_reading() {
        let series = Series::of_counter(&[(time(0), 500), (time(100), 500), (time(200), 13_000)]);
        assert!((series.rate(time(100), time(200)) - 1e6).abs() < 1.0);
        let back = series.first(time(0), time(200), Duration::from_millis(50), |rate| rate > 0.9e6);
        assert!((back - 0.1).abs() < 0.011, "{back}");
        assert_eq!(
            series.first(time(0), time(90), Duration::from_millis(50), |rate| rate > 1.0),
            f64::INFINITY
        );
    }

    #[test]
    fn a_ramp_counts_from_the_first_byte() {
        // At 2.46 s a stretch of 200 ms begins that is at 0.9 of the steady rate; it ends 1.16 s after the first byte.
        let ramp = ramp(&growing());
        assert!((ramp - 1.16).abs() < 0.02, "{ramp}");
        assert_eq!(super::ramp(&Timeline::new(time(0))), f64::INFINITY);
    }
}
