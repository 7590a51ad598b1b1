//! What a packet carried, remembered until the packet is acknowledged or lost.

use crate::store::StoreId;
use bondwire_units::PathId;
use bondwire_wire::frame::PathStatus as StatusFrame;
use bondwire_wire::{LinkPolicy, Mode};

/// How many items one packet may carry; what does not fit goes into the next.
pub(crate) const MAX_ITEMS: usize = 4;

/// A frame that is sent again when it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// The mode that the client wants.
    Mode { sequence: u64, mode: Mode },
    /// How this end sees a path.
    Status(StatusFrame),
    /// How the client wants a path to be used.
    Policy(LinkPolicy),
    /// A path is over.
    PathClose(PathId),
    /// Packets that will not come.
    Skip { flow: u16, first: u64, count: u16 },
    /// How a flow stands: the one of this record.
    FlowClass(u32),
}

/// One piece of a packet that matters after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// A whole inner packet of an ordered flow.
    Data(StoreId),
    /// One of several fragments of it: index and count.
    Fragment(StoreId, u8, u8),
    /// A control frame.
    Control(Control),
}

impl Item {
    /// The stored packet that it is a part of.
    pub(crate) fn stored(self) -> Option<StoreId> {
        match self {
            Self::Data(id) | Self::Fragment(id, ..) => Some(id),
            Self::Control(_) => None,
        }
    }
}

/// Which parities cover a packet, if its path is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cover {
    /// None.
    #[default]
    None,
    /// Those of the path itself.
    Ordered,
    /// Those that real-time flows pay for: the flow of this record.
    RealTime(u32),
}

/// The items of one packet.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Content {
    items: [Option<Item>; MAX_ITEMS],
    /// The packet's number on its path.
    pub(crate) number: u64,
    /// Which parities cover the packet.
    pub(crate) cover: Cover,
}

impl Content {
    /// Adds an item; false if there is no room.
    pub(crate) fn add(&mut self, item: Item) -> bool {
        match self.items.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(item);
                true
            }
            None => false,
        }
    }

    /// One item alone, covered by these parities.
    pub(crate) fn of(item: Item, cover: Cover) -> Self {
        let mut content = Self { cover, ..Self::default() };
        content.add(item);
        content
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self) -> bool {
        self.items.iter().any(Option::is_none)
    }

    /// The items.
    pub(crate) fn items(&self) -> impl Iterator<Item = Item> {
        self.items.into_iter().flatten()
    }
}
