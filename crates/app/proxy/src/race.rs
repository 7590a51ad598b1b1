//! Attempts side by side, each started when the one before has had its time.
//!
//! Used twice: links race for a socket (started when a link's patience is over), and addresses of one name race on one link
//! (RFC 8305). The first attempt of a race is nearly always the only one, so this is a plain list that is polled in order.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;

use tokio::time::{Instant, sleep_until};

/// Attempts under way. Dropping it ends them all.
pub(crate) struct Race<F: Future> {
    running: Vec<Pin<Box<F>>>,
}

/// What happened in a race.
pub(crate) enum Step<T> {
    /// An attempt ended, well or not.
    Ended(T),
    /// The time given has come.
    Late,
    /// No attempt is under way.
    Empty,
}

impl<F: Future> Race<F> {
    pub(crate) fn new() -> Self {
        Self { running: Vec::with_capacity(1) }
    }

    pub(crate) fn start(&mut self, attempt: F) {
        self.running.push(Box::pin(attempt));
    }

    pub(crate) fn len(&self) -> usize {
        self.running.len()
    }

    /// Waits for an attempt to end, or for the time, if one is given.
    pub(crate) async fn step(&mut self, until: Option<Instant>) -> Step<F::Output> {
        if self.running.is_empty() {
            return Step::Empty;
        }
        let ended = poll_fn(|cx| {
            for index in 0..self.running.len() {
                if let Poll::Ready(output) = self.running[index].as_mut().poll(cx) {
                    drop(self.running.swap_remove(index));
                    return Poll::Ready(output);
                }
            }
            Poll::Pending
        });
        match until {
            None => Step::Ended(ended.await),
            Some(until) => tokio::select! {
                biased;
                output = ended => Step::Ended(output),
                () = sleep_until(until) => Step::Late,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_first_to_end_is_first() {
        let mut race = Race::new();
        for (name, delay) in [("slow", 500), ("quick", 1)] {
            race.start(async move {
                tokio::time::sleep(Duration::from_millis(delay)).await;
                name
            });
        }
        assert!(matches!(race.step(None).await, Step::Ended("quick")));
        assert_eq!(race.len(), 1);
    }

    #[tokio::test]
    async fn time_passes_and_nothing_is_lost() {
        let mut race = Race::new();
        race.start(std::future::pending::<()>());
        assert!(matches!(race.step(Some(Instant::now())).await, Step::Late));
        assert_eq!(race.len(), 1);
        assert!(matches!(Race::<std::future::Ready<()>>::new().step(None).await, Step::Empty));
    }
}
