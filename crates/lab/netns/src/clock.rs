use bondwire_units::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The time by the clock that never goes back, the same for every process and namespace of this machine.
pub fn now() -> Timestamp {
    Timestamp::from_nanos(nanos(ClockId::Monotonic))
}

/// How far the wall clock is ahead of [`now`], in nanoseconds: packet sockets stamp frames with the wall clock.
///
/// Of a few readings the one counts that took least time: the thread may be interrupted in the middle of one.
pub(crate) fn realtime_offset() -> u64 {
    let mut best = (u64::MAX, 0);
    for _ in 0..4 {
        let before = nanos(ClockId::Monotonic);
        let real = nanos(ClockId::Realtime);
        let took = nanos(ClockId::Monotonic) - before;
        best = best.min((took, real.saturating_sub(before + took / 2)));
        if took < 500 {
            break;
        }
    }
    best.1
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
