//! The table of sockets: their life, their rates, their ageing.
//!
//! A socket stands in one list by what it does: *fresh* (opened within two seconds, nothing known of its size),
//! *busy* (it transfers, and said so within three seconds), *quiet* (by transport). Each list has one span, so it
//! is in the order of its deadlines and ageing costs O(1). Fresh and busy sockets are the load that the choice
//! of links counts; quiet ones cost nothing however many they are.
//!
//! Bound: [`crate::Config::max_sockets`]. A full table forgets the socket that was quiet longest, UDP first.

use core::net::SocketAddr;
use core::time::Duration;

use bondwire_units::Timestamp;

use crate::chains::Chains;
use crate::config::MAX_LINKS;
use crate::request::{Reason, SocketId, Stage, Transport};
use crate::sites::Key;

/// How long a socket of unknown size counts as a load.
const FRESH: Duration = Duration::from_secs(2);
/// How long after its last report a transfer counts as running.
const BUSY: Duration = Duration::from_secs(3);
/// When a UDP flow is idle, and when it is forgotten (RFC 4787, REQ-5 asks NATs for at least two minutes).
const UDP_IDLE: Duration = Duration::from_secs(30);
const UDP_LASTS: Duration = Duration::from_secs(180);
/// When a quiet TCP socket is forgotten: two hours and a bit, after the kernel's own keep-alive has asked.
const TCP_LASTS: Duration = Duration::from_secs(7500);
/// The shortest span between two reports that makes a rate.
const RATE_SPAN: Duration = Duration::from_millis(100);

/// The lists by age, in the order in which a full table forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Age {
    QuietUdp = 0,
    QuietTcp = 1,
    Fresh = 2,
    Busy = 3,
}

const AGES: [(Age, Duration); 4] =
    [(Age::QuietUdp, UDP_LASTS), (Age::QuietTcp, TCP_LASTS), (Age::Fresh, FRESH), (Age::Busy, BUSY)];

/// What a socket counts as on its link: bits.
pub(crate) mod counts {
    pub(crate) const FRESH: u8 = 1;
    pub(crate) const UP: u8 = 2;
    pub(crate) const DOWN: u8 = 4;
    /// A transfer that may still be growing.
    pub(crate) const GROWING: u8 = 8;
}

/// One socket.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) transport: Transport,
    pub(crate) remote: SocketAddr,
    pub(crate) name: Option<Box<str>>,
    pub(crate) process: Option<Box<str>>,
    /// Its link's slot; none: bypassed.
    pub(crate) link: Option<u8>,
    pub(crate) reason: Reason,
    pub(crate) stage: Stage,
    /// Its site, if that keeps its link.
    pub(crate) site: Option<Key>,
    pub(crate) interactive: bool,
    /// Slots that a rule says to avoid.
    pub(crate) avoid: u32,
    /// Slots that were tried.
    pub(crate) tried: u32,
    pub(crate) opened: Timestamp,
    /// When its present connect was started.
    pub(crate) connecting: Timestamp,
    /// When it entered its list by age.
    pub(crate) touched: Timestamp,
    /// When something passed last.
    pub(crate) active: Timestamp,
    reported: Timestamp,
    pub(crate) up: u64,
    pub(crate) down: u64,
    base: (u64, u64),
    /// Bits per second.
    pub(crate) rate_up: f64,
    pub(crate) rate_down: f64,
    pub(crate) connect_rtt: Option<Duration>,
    /// What it counts as on its link; see [`counts`].
    pub(crate) counted: u8,
}

impl Flow {
    pub(crate) fn new(transport: Transport, remote: SocketAddr, now: Timestamp) -> Self {
        Self {
            transport,
            remote,
            name: None,
            process: None,
            link: None,
            reason: Reason::Load,
            stage: if transport == Transport::Tcp { Stage::Created } else { Stage::Active },
            site: None,
            interactive: false,
            avoid: 0,
            tried: 0,
            opened: now,
            connecting: now,
            touched: now,
            active: now,
            reported: now,
            up: 0,
            down: 0,
            base: (0, 0),
            rate_up: 0.0,
            rate_down: 0.0,
            connect_rtt: None,
            counted: 0,
        }
    }

    /// Takes totals; whether they grew.
    pub(crate) fn on_bytes(&mut self, up: u64, down: u64, now: Timestamp) -> bool {
        let grew = up > self.up || down > self.down;
        self.up = self.up.max(up);
        self.down = self.down.max(down);
        if grew {
            self.active = now;
        }
        let span = now.since(self.reported);
        if span >= RATE_SPAN {
            let seconds = span.as_secs_f64();
            let rate = |bytes: u64| bytes as f64 * 8.0 / seconds;
            // The first report is a rate in itself; later ones are smoothed.
            let weight = if self.base == (0, 0) { 1.0 } else { 0.5_f64.max(1.0 - (-seconds).exp()) };
            self.rate_up += (rate(self.up - self.base.0) - self.rate_up) * weight;
            self.rate_down += (rate(self.down - self.base.1) - self.rate_down) * weight;
            self.base = (self.up, self.down);
            self.reported = now;
        }
        grew
    }

    /// Where it is in its life.
    pub(crate) fn stage(&self, now: Timestamp) -> Stage {
        match self.transport {
            Transport::Udp if now.since(self.active) >= UDP_IDLE => Stage::Idle,
            _ => self.stage,
        }
    }

    pub(crate) fn is_old(&self, span: Duration, now: Timestamp) -> bool {
        now.since(self.opened) >= span
    }
}

/// The table.
#[derive(Debug)]
pub(crate) struct Flows {
    slots: Vec<(u32, Option<Flow>)>,
    free: Vec<u32>,
    ages: Chains,
    /// UDP flows by link, for moves.
    datagrams: Chains,
    len: usize,
    max: usize,
}

impl Flows {
    pub(crate) fn new(max: usize) -> Self {
        let max = max.clamp(1, u32::MAX as usize / 2);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ages: Chains::new(AGES.len()),
            datagrams: Chains::new(MAX_LINKS),
            len: 0,
            max,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.max
    }

    /// The socket that a full table should forget.
    pub(crate) fn most_forgettable(&self) -> Option<SocketId> {
        AGES.iter().find_map(|&(age, _)| self.ages.front(age as usize)).map(|slot| self.id(slot))
    }

    fn id(&self, slot: usize) -> SocketId {
        SocketId::new(slot as u32, self.slots[slot].0)
    }

    /// Takes in a socket, as fresh. The caller makes room.
    pub(crate) fn insert(&mut self, flow: Flow) -> SocketId {
        let slot = match self.free.pop() {
            Some(slot) => slot as usize,
            None => {
                self.slots.push((0, None));
                self.slots.len() - 1
            }
        };
        self.len += 1;
        self.slots[slot].1 = Some(flow);
        self.ages.push(Age::Fresh as usize, slot);
        self.id(slot)
    }

    pub(crate) fn get(&self, socket: SocketId) -> Option<&Flow> {
        let (generation, flow) = self.slots.get(socket.slot())?;
        flow.as_ref().filter(|_| *generation == socket.generation())
    }

    pub(crate) fn get_mut(&mut self, socket: SocketId) -> Option<&mut Flow> {
        let (generation, flow) = self.slots.get_mut(socket.slot())?;
        flow.as_mut().filter(|_| *generation == socket.generation())
    }

    pub(crate) fn remove(&mut self, socket: SocketId) -> Option<Flow> {
        self.get(socket)?;
        let slot = socket.slot();
        self.ages.remove(slot);
        self.datagrams.remove(slot);
        self.len -= 1;
        self.slots[slot].0 = self.slots[slot].0.wrapping_add(1);
        self.free.push(slot as u32);
        self.slots[slot].1.take()
    }

    /// Puts a socket at the end of a list.
    pub(crate) fn touch(&mut self, socket: SocketId, age: Age, now: Timestamp) {
        if let Some(flow) = self.get_mut(socket) {
            flow.touched = now;
            self.ages.push(age as usize, socket.slot());
        }
    }

    /// Whether it is neither fresh nor busy: only then it may be forgotten by its age.
    pub(crate) fn is_quiet(&self, socket: SocketId) -> bool {
        let list = self.ages.list_of(socket.slot());
        self.get(socket).is_some()
            && [Age::QuietUdp, Age::QuietTcp].map(|age| Some(age as usize)).contains(&list)
    }

    pub(crate) fn is_fresh(&self, socket: SocketId) -> bool {
        self.ages.list_of(socket.slot()) == Some(Age::Fresh as usize)
    }

    /// A UDP flow is on `link`, and may be moved.
    pub(crate) fn on_datagram_link(&mut self, socket: SocketId, link: Option<usize>) {
        match link {
            Some(link) => self.datagrams.push(link, socket.slot()),
            None => self.datagrams.remove(socket.slot()),
        }
    }

    /// Some UDP flow on `link`.
    pub(crate) fn datagram_on(&self, link: usize) -> Option<SocketId> {
        self.datagrams.front(link).map(|slot| self.id(slot))
    }

    /// The next socket whose time in its list is over, and the list.
    pub(crate) fn due(&self, now: Timestamp) -> Option<(SocketId, Age)> {
        AGES.iter().find_map(|&(age, span)| {
            let slot = self.ages.front(age as usize)?;
            let flow = self.slots[slot].1.as_ref()?;
            (flow.touched + span <= now).then(|| (self.id(slot), age))
        })
    }

    /// When [`Flows::due`] has something.
    pub(crate) fn timeout(&self) -> Option<Timestamp> {
        let first = |&(age, span): &(Age, Duration)| {
            let slot = self.ages.front(age as usize)?;
            self.slots[slot].1.as_ref().map(|flow| flow.touched + span)
        };
        AGES.iter().filter_map(first).min()
    }

    /// Every socket, in the order of its slot.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SocketId, &Flow)> {
        let id = |slot: usize, generation: u32| SocketId::new(slot as u32, generation);
        let slots = self.slots.iter().enumerate();
        slots.filter_map(move |(slot, (generation, flow))| Some((id(slot, *generation), flow.as_ref()?)))
    }
}
