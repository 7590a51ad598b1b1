//! The packets of one flow that wait in front of the bond.
//!
//! They leave in the order in which they came. What an inner TCP sender sends again is looked at first:
//!
//! - Data that waits here, or that the bond has in its care (sent, and not yet all acknowledged by the other end, which puts it in order and
//!   has it repaired), is dropped: what is here is earlier. After a death the inner sender takes for lost what is only late, and what it
//!   repeats would take as long again as the whole queue.
//! - Anything else was lost: before it came here, beyond the bond, or since it waited too long. It goes behind the others as usual; but while
//!   the bond is [patient](FlowQueue::hurry), before them: a queue that was meant for a fast path lasts a second on a slow one, and so long nothing reaches
//!   the application behind the gap. (Always in front would be wrong: the sender takes what it overtook for lost, RFC 8985, and its window shrinks.)
//!
//! Bounds: those of [`crate::ingress`] for what waits, and [`MAX_KEPT`] for what is in care, 16 bytes each.

use crate::store::{Store, StoreId};
use bondwire_packet::PacketInfo;
use bondwire_units::Timestamp;
use std::collections::VecDeque;

/// Segments in care that are known at a time; what is sent again of older ones is taken again.
const MAX_KEPT: usize = 4_096;
/// Room for so many is not given back.
const IDLE_KEPT: usize = 64;

/// A packet that waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// When it came.
    pub(crate) since: Timestamp,
    /// The inner packet.
    pub(crate) bytes: Vec<u8>,
    /// Its new data, if it is a TCP segment that has any.
    pub(crate) segment: Option<Segment>,
    /// It is sent again.
    is_repeat: bool,
}

/// Data of a TCP connection: its first sequence number, and the one behind its last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    from: u32,
    until: u32,
}

/// Where a packet that comes belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Behind all others; with the new data that it brings.
    Last(Option<Segment>),
    /// It was lost: behind all others, or before them if the bond is patient.
    Again,
    /// Nowhere: the bond has it.
    Never,
}

/// One flow's packets.
#[derive(Debug, Default)]
pub(crate) struct FlowQueue {
    packets: VecDeque<Waiting>,
    bytes: usize,
    /// How many packets at the front are sent again.
    hurried: usize,
    /// What is sent again goes to the front.
    in_hurry: bool,
    /// The sequence number behind the newest data that came.
    come: Option<u32>,
    /// The data among the packets, in their order, and before it what has left and is kept in the store.
    waiting: VecDeque<Segment>,
    kept: VecDeque<(Segment, StoreId)>,
}

impl FlowQueue {
    /// How many packets wait.
    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether none does.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Their bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next one.
    pub(crate) fn front(&self) -> Option<&Waiting> {
        self.packets.front()
    }

    /// The next one, if it came in its turn: what the queue's delay is judged by.
    pub(crate) fn front_in_turn(&mut self) -> Option<&mut Waiting> {
        if self.hurried > 0 { None } else { self.packets.front_mut() }
    }

    /// Begins or ends to let what is sent again go first.
    pub(crate) fn hurry(&mut self, in_hurry: bool) {
        if in_hurry && !self.in_hurry {
            let (again, new) =
                core::mem::take(&mut self.packets).into_iter().partition(|packet: &Waiting| packet.is_repeat);
            self.packets = again;
            self.hurried = self.packets.len();
            self.packets.extend::<VecDeque<_>>(new);
        }
        self.in_hurry = in_hurry;
    }

    /// Where a packet belongs. To be asked once, just before [`FlowQueue::push`].
    pub(crate) fn turn(&mut self, info: &PacketInfo, store: &Store) -> Turn {
        let Some(tcp) = info.tcp else { return Turn::Last(None) };
        if tcp.has_syn() {
            self.forget_connection();
        }
        if tcp.payload_len == 0 {
            return Turn::Last(None);
        }
        let segment =
            Segment { from: tcp.sequence, until: tcp.sequence.wrapping_add(tcp.payload_len as u32) };
        if self.come.is_none_or(|come| is_after(segment.until, come)) {
            self.come = Some(segment.until);
            return Turn::Last(Some(segment));
        }
        if self.has(segment, store) { Turn::Never } else { Turn::Again }
    }

    /// Whether the bond has all of these bytes in one packet.
    fn has(&mut self, Segment { from, until }: Segment, store: &Store) -> bool {
        self.forget_delivered(store);
        let waiting = self.waiting.partition_point(|known| is_after(until, known.until));
        let kept = self.kept.partition_point(|(known, _)| is_after(until, known.until));
        let found = self.waiting.get(waiting).into_iter().chain(self.kept.get(kept).map(|(known, _)| known));
        found.into_iter().any(|known| !is_after(known.from, from))
    }

    /// A packet that was taken out is kept in the store.
    pub(crate) fn on_kept(&mut self, segment: Segment, id: StoreId, store: &Store) {
        self.forget_delivered(store);
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        if self.kept.back().is_none_or(|(last, _)| is_after(segment.until, last.until)) {
            self.kept.push_back((segment, id));
        }
    }

    /// Forgets what is in care no more. To be called now and then: a flow that has ended keeps no memory.
    pub(crate) fn forget_delivered(&mut self, store: &Store) {
        while self.kept.front().is_some_and(|(_, id)| !store.has(*id)) {
            self.kept.pop_front();
        }
        if self.kept.is_empty() && self.kept.capacity() > IDLE_KEPT {
            self.kept = VecDeque::new();
        }
    }

    /// Takes a packet in. One with [`Turn::Never`] is the caller's to drop.
    pub(crate) fn push(&mut self, bytes: Vec<u8>, turn: Turn, now: Timestamp) {
        self.bytes += bytes.len();
        let segment = if let Turn::Last(segment) = turn { segment } else { None };
        let is_repeat = !matches!(turn, Turn::Last(_));
        let packet = Waiting { since: now, bytes, segment, is_repeat };
        if is_repeat && self.in_hurry {
            self.packets.insert(self.hurried, packet);
            self.hurried += 1;
        } else {
            self.waiting.extend(segment);
            self.packets.push_back(packet);
        }
    }

    /// Takes the next one out, to be sent or dropped.
    pub(crate) fn pop(&mut self) -> Option<Waiting> {
        let packet = self.packets.pop_front()?;
        self.bytes -= packet.bytes.len();
        self.hurried = self.hurried.saturating_sub(1);
        if packet.segment.is_some() {
            self.waiting.pop_front();
        }
        Some(packet)
    }

    /// Takes over what another queue holds, behind its own.
    pub(crate) fn append(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.packets.extend(other.packets);
        self.forget_connection();
    }

    /// What comes next belongs to another connection.
    pub(crate) fn forget_connection(&mut self) {
        self.come = None;
        self.waiting.clear();
        self.kept.clear();
        self.packets.iter_mut().for_each(|packet| packet.segment = None);
    }
}

/// Whether sequence number `a` comes after `b` (RFC 9293, 3.4).
pub(crate) fn is_after(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

#[cfg(test)]
#[path = "waiting_tests.rs"]
mod tests;
