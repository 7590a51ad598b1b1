use std::time::{SystemTime, UNIX_EPOCH};

use bondwire_units::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// The clock of the data plane: time since boot, suspended time included, never set back.
///
/// A machine that wakes up has to see at once that its paths were silent for the night. All values of all
/// instances agree, so a bond that was made by one may be driven by another.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// Now.
    pub fn now(self) -> Timestamp {
        let time = clock_gettime(ClockId::Boottime);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        Timestamp::from_nanos(seconds * 1_000_000_000 + nanos)
    }
}

/// The time of day in microseconds since 1970; zero on a machine whose clock stands before that.
pub fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// The time of day in seconds since 1970.
pub fn unix_seconds() -> u64 {
    unix_micros() / 1_000_000
}
