//! Where the marks of links lead: each to its own link, and to another one's while that is lost.
//!
//! One mark that cannot be led keeps none of the others from it, and none is lost sight of: what did not work is told, and is done again with the
//! next plan.

use bondwire_balance::KernelPlan;
use bondwire_capture::{Capture, CaptureError, Slot};

use super::slots::Slots;

/// What leads marks. A trait, so that a test can have one that fails.
pub(super) trait Marks {
    /// Where a link's mark leads, if not to the link itself.
    fn moved_to(&self, slot: Slot) -> Option<Slot>;
    /// Leads it to another link.
    fn move_link(&mut self, from: Slot, to: Slot) -> Result<(), CaptureError>;
    /// Leads it back.
    fn restore_link(&mut self, slot: Slot) -> Result<(), CaptureError>;
}

impl Marks for Capture {
    fn moved_to(&self, slot: Slot) -> Option<Slot> {
        Self::moved_to(self, slot)
    }

    fn move_link(&mut self, from: Slot, to: Slot) -> Result<(), CaptureError> {
        Self::move_link(self, from, to)
    }

    fn restore_link(&mut self, slot: Slot) -> Result<(), CaptureError> {
        Self::restore_link(self, slot)
    }
}

/// Leads all marks where the plan says: those of links that are gone too, since sockets still have them.
///
/// # Errors
/// The first mark that could not be led; the others were.
pub(super) fn lead(plan: &KernelPlan, slots: &Slots, marks: &mut impl Marks) -> Result<(), CaptureError> {
    let mut result = Ok(());
    for link in &plan.links {
        let Some(slot) = slots.last(link.link) else { continue };
        let is_there = slots.of(link.link).is_some();
        let to = link.fallback.and_then(|fallback| slots.of(fallback));
        let led = match (marks.moved_to(slot), to) {
            (before, Some(to)) if before != Some(to) => marks.move_link(slot, to),
            // A link that is gone has nothing to be led back to.
            (Some(_), None) if is_there => marks.restore_link(slot),
            _ => Ok(()),
        };
        result = result.and(led);
    }
    result
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bondwire_balance::{LinkState, PlanLink, Priority};
    use bondwire_units::LinkId;

    use super::*;

    #[derive(Default)]
    struct Double {
        moved: BTreeMap<Slot, Slot>,
        refuses: Option<Slot>,
    }

    impl Marks for Double {
        fn moved_to(&self, slot: Slot) -> Option<Slot> {
            self.moved.get(&slot).copied()
        }

        fn move_link(&mut self, from: Slot, to: Slot) -> Result<(), CaptureError> {
            if self.refuses == Some(from) {
                return Err(CaptureError::UnknownLink { slot: from });
            }
            self.moved.insert(from, to);
            Ok(())
        }

        fn restore_link(&mut self, slot: Slot) -> Result<(), CaptureError> {
            self.moved.remove(&slot);
            Ok(())
        }
    }

    fn slots() -> Slots {
        let mut slots = Slots::default();
        for id in 0..3 {
            slots.take(LinkId(id), &format!("wan{id}"));
        }
        slots
    }

    fn plan(fallbacks: [Option<u32>; 3]) -> KernelPlan {
        let link = |(id, fallback): (u32, Option<u32>)| PlanLink {
            link: LinkId(id),
            state: if fallback.is_some() { LinkState::Failed } else { LinkState::Stable },
            priority: Priority::Always,
            keeps_sites: fallback.is_none(),
            fallback: fallback.map(LinkId),
        };
        KernelPlan { links: (0..).zip(fallbacks).map(link).collect(), ..KernelPlan::default() }
    }

    #[test]
    fn a_mark_that_cannot_be_led_keeps_no_other_from_it() {
        let mut marks = Double { refuses: Some(0), ..Double::default() };
        let plan = plan([Some(2), Some(2), None]);
        assert!(lead(&plan, &slots(), &mut marks).is_err());
        assert_eq!(marks.moved, BTreeMap::from([(1, 2)]));
        marks.refuses = None;
        lead(&plan, &slots(), &mut marks).expect("led");
        assert_eq!(marks.moved, BTreeMap::from([(0, 2), (1, 2)]), "it is tried again");
    }

    /// The modem was unplugged; what it carried went over the second link, and that one dies.
    #[test]
    fn the_mark_of_a_link_that_is_gone_follows_its_stand_in() {
        let (mut slots, mut marks) = (slots(), Double::default());
        slots.free(LinkId(0));
        lead(&plan([Some(1), None, None]), &slots, &mut marks).expect("led");
        lead(&plan([Some(2), Some(2), None]), &slots, &mut marks).expect("led");
        assert_eq!(marks.moved, BTreeMap::from([(0, 2), (1, 2)]));
        // Nothing works: it waits where it is.
        slots.free(LinkId(2));
        lead(&plan([None, None, None]), &slots, &mut marks).expect("led");
        assert_eq!(marks.moved, BTreeMap::from([(0, 2)]));
        slots.take(LinkId(9), "wan0");
        let back = PlanLink { link: LinkId(9), ..plan([None; 3]).links[0] };
        lead(&KernelPlan { links: vec![back], ..KernelPlan::default() }, &slots, &mut marks).expect("led");
        assert!(marks.moved.is_empty());
    }
}
