//! How long there has been no connection, and when to say so.
//!
//! Silence for [`FIRST`] at the start, or after a connection was lost, is worth a word to the operator, and again every
//! [`AGAIN`]. A limit (`--wait`) counts from the start to the first connection only.

use std::time::{Duration, Instant};

/// The first word comes after so long.
const FIRST: Duration = Duration::from_secs(15);
/// The next ones come after so long.
const AGAIN: Duration = Duration::from_secs(10);

/// What to do about the silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Nothing: it is short, or there is a connection.
    Keep,
    /// Say that there has been no connection for so long.
    Say(Duration),
    /// Give up: there was none for so long.
    GiveUp(Duration),
}

/// Watches the time without a connection.
#[derive(Debug)]
pub(crate) struct Progress {
    since: Option<Instant>,
    next_word: Instant,
    give_up: Option<Instant>,
}

impl Progress {
    /// Without a connection since `now`, and for `limit` at most.
    pub(crate) fn new(limit: Option<Duration>, now: Instant) -> Self {
        Self { since: Some(now), next_word: now + FIRST, give_up: limit.map(|limit| now + limit) }
    }

    /// A connection stands.
    pub(crate) fn on_connected(&mut self) {
        self.since = None;
        self.give_up = None;
    }

    /// The connection is lost.
    pub(crate) fn on_lost(&mut self, now: Instant) {
        if self.since.is_none() {
            self.since = Some(now);
            self.next_word = now + FIRST;
        }
    }

    /// How long there has been none; nothing if there is one.
    pub(crate) fn silence(&self, now: Instant) -> Option<Duration> {
        self.since.map(|since| now.saturating_duration_since(since))
    }

    /// What to do now.
    pub(crate) fn look(&mut self, now: Instant) -> Patience {
        let Some(silence) = self.silence(now) else { return Patience::Keep };
        if self.give_up.is_some_and(|give_up| now >= give_up) {
            return Patience::GiveUp(silence);
        }
        if now < self.next_word {
            return Patience::Keep;
        }
        self.next_word = now + AGAIN;
        Patience::Say(silence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_speaks_up_now_and_then() {
        let start = Instant::now();
        let mut progress = Progress::new(None, start);
        assert_eq!(progress.look(start + 14 * SECOND), Patience::Keep);
        assert_eq!(progress.look(start + 15 * SECOND), Patience::Say(15 * SECOND));
        assert_eq!(progress.look(start + 16 * SECOND), Patience::Keep);
        assert_eq!(progress.look(start + 25 * SECOND), Patience::Say(25 * SECOND));
        progress.on_connected();
        assert_eq!(progress.look(start + 100 * SECOND), Patience::Keep);
        progress.on_lost(start + 100 * SECOND);
        progress.on_lost(start + 110 * SECOND);
        assert_eq!(progress.silence(start + 111 * SECOND), Some(11 * SECOND));
        assert_eq!(progress.look(start + 115 * SECOND), Patience::Say(15 * SECOND));
    }

    #[test]
    fn the_limit_is_for_the_first_connection() {
        let start = Instant::now();
        let mut progress = Progress::new(Some(5 * SECOND), start);
        assert_eq!(progress.look(start + 4 * SECOND), Patience::Keep);
        assert_eq!(progress.look(start + 5 * SECOND), Patience::GiveUp(5 * SECOND));
        progress.on_connected();
        progress.on_lost(start + 6 * SECOND);
        assert_eq!(progress.look(start + 16 * SECOND), Patience::Keep);
    }
}
