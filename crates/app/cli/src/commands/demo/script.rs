//! What happens in a run that nobody steers: one link dies, comes back, and the run ends.

use std::time::Duration;

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Cut this link.
    Cut(usize),
    /// Restore this link.
    Restore(usize),
    /// The run is over.
    End,
}

/// Steps with their times from the start of the download, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Script {
    steps: Vec<(Duration, Step)>,
    next: usize,
}

impl Script {
    /// A run of this length. With a link: it is cut after 40 % and restored after 65 % of the time.
    pub(super) fn new(length: Duration, link: Option<usize>) -> Self {
        let cut = link.map(|link| {
            [(length.mul_f64(0.40), Step::Cut(link)), (length.mul_f64(0.65), Step::Restore(link))]
        });
        let mut steps: Vec<_> = cut.into_iter().flatten().collect();
        steps.push((length, Step::End));
        Self { steps, next: 0 }
    }

    /// The next step, if it is due.
    pub(super) fn poll(&mut self, elapsed: Duration) -> Option<Step> {
        let (_, step) = self.steps.get(self.next).filter(|(at, _)| *at <= elapsed)?;
        self.next += 1;
        Some(*step)
    }

    /// When the next step is due; none after the last one.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.steps.get(self.next).map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_restores_and_ends() {
        let second = Duration::from_secs;
        let mut script = Script::new(second(20), Some(2));
        assert_eq!(script.poll(second(7)), None);
        assert_eq!(script.next_at(), Some(second(8)));
        assert_eq!(script.poll(second(8)), Some(Step::Cut(2)));
        assert_eq!(script.poll(second(21)), Some(Step::Restore(2)));
        assert_eq!(script.poll(second(21)), Some(Step::End));
        assert_eq!(script.poll(second(22)), None);
        assert_eq!(script.next_at(), None);
    }

    #[test]
    fn one_link_alone_is_left_in_peace() {
        let mut script = Script::new(Duration::from_secs(8), None);
        assert_eq!(script.poll(Duration::from_secs(9)), Some(Step::End));
    }
}
