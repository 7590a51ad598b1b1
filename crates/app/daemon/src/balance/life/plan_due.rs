//! Whether the kernel has to be told the plan: because it changed, or because the kernel did not take the last one.

use std::time::Instant;

use super::RETRY;

/// What is owed to the kernel.
#[derive(Debug)]
pub(super) struct PlanDue {
    changed: bool,
    /// When what failed is tried again.
    again: Option<Instant>,
}

impl Default for PlanDue {
    /// It knows none yet.
    fn default() -> Self {
        Self { changed: true, again: None }
    }
}

impl PlanDue {
    /// The plan is another one.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// Whether to tell it now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.changed || self.again.is_some_and(|again| again <= now)
    }

    /// It was told, or was not. True for the first failure of a row, which is to be said.
    pub(super) fn told(&mut self, taken: bool, now: Instant) -> bool {
        self.changed = false;
        let is_first = self.again.is_none();
        self.again = (!taken).then(|| now + RETRY);
        !taken && is_first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_that_the_kernel_did_not_take_is_told_again() {
        let (mut due, now) = (PlanDue::default(), Instant::now());
        assert!(due.is_due(now));
        assert!(due.told(false, now), "said once");
        assert!(!due.is_due(now), "and not at every turn");
        assert!(due.is_due(now + RETRY));
        assert!(!due.told(false, now + RETRY));
        due.change();
        assert!(due.is_due(now + RETRY), "a new plan does not wait");
        assert!(!due.told(true, now + RETRY));
        assert!(!due.is_due(now + 10 * RETRY));
    }
}
