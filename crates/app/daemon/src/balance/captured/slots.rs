//! Which number below 16 each link has in the kernel's plan. A link that comes back under its name gets the same one again.

use bondwire_capture::{MAX_LINKS, Slot};
use bondwire_units::LinkId;

/// The slots, by their number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    slots: [Option<Held>; MAX_LINKS],
}

#[derive(Clone, Debug)]
struct Held {
    name: String,
    /// The link that has it, or had it last.
    link: LinkId,
    is_there: bool,
}

impl Slots {
    /// The slot of a link, a new one if it has none; none if all are taken.
    pub(super) fn take(&mut self, link: LinkId, name: &str) -> Option<Slot> {
        let at = self
            .slots
            .iter()
            .position(|slot| slot.as_ref().is_some_and(|held| held.name == name))
            .or_else(|| self.slots.iter().position(Option::is_none))
            .or_else(|| {
                self.slots.iter().position(|slot| slot.as_ref().is_some_and(|held| !held.is_there))
            })?;
        self.slots[at] = Some(Held { name: name.to_owned(), link, is_there: true });
        Slot::try_from(at).ok()
    }

    /// The link is gone. Its slot is kept for it as long as there are others.
    pub(super) fn free(&mut self, link: LinkId) -> Option<Slot> {
        let slot = self.of(link)?;
        if let Some(Some(held)) = self.slots.get_mut(usize::from(slot)) {
            held.is_there = false;
        }
        Some(slot)
    }

    /// The slot of a link that is there.
    pub(super) fn of(&self, link: LinkId) -> Option<Slot> {
        self.all().find(|(_, known)| *known == link).map(|(slot, _)| slot)
    }

    /// The link in a slot.
    pub(super) fn link(&self, slot: Slot) -> Option<LinkId> {
        self.slots.get(usize::from(slot))?.as_ref().filter(|held| held.is_there).map(|held| held.link)
    }

    /// The slot that a link has, or had last if it is gone.
    pub(super) fn last(&self, link: LinkId) -> Option<Slot> {
        let at = self.slots.iter().position(|slot| slot.as_ref().is_some_and(|held| held.link == link))?;
        Slot::try_from(at).ok()
    }

    /// All slots that have, or had, a link.
    pub(super) fn taken(&self) -> impl Iterator<Item = Slot> {
        let held = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_some());
        held.filter_map(|(at, _)| Slot::try_from(at).ok())
    }

    /// All slots that have a link.
    pub(super) fn all(&self) -> impl Iterator<Item = (Slot, LinkId)> {
        let held = self.slots.iter().enumerate();
        held.filter_map(|(at, slot)| {
            Some((Slot::try_from(at).ok()?, slot.as_ref().filter(|held| held.is_there)?.link))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_comes_back_has_its_slot_again() {
        let mut slots = Slots::default();
        assert_eq!(slots.take(LinkId(7), "wan0"), Some(0));
        assert_eq!(slots.take(LinkId(9), "wan1"), Some(1));
        assert_eq!(slots.free(LinkId(7)), Some(0));
        assert_eq!((slots.of(LinkId(7)), slots.link(0), slots.last(LinkId(7))), (None, None, Some(0)));
        assert_eq!(slots.take(LinkId(8), "usb0"), Some(2));
        assert_eq!(slots.take(LinkId(12), "wan0"), Some(0));
        assert_eq!(slots.link(0), Some(LinkId(12)));
        assert_eq!(slots.all().count(), 3);
    }

    #[test]
    fn links_beyond_the_last_slot_get_none_until_one_is_gone() {
        let mut slots = Slots::default();
        for at in 0..16 {
            assert!(slots.take(LinkId(at), &format!("wan{at}")).is_some());
        }
        assert_eq!(slots.take(LinkId(99), "more"), None);
        slots.free(LinkId(3));
        assert_eq!(slots.take(LinkId(99), "more"), Some(3));
    }
}
