//! The programs of the cgroup: loaded, attached, fed and listened to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::UdpSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, RingBuf};
use aya::programs::{CgroupAttachMode, CgroupSock, CgroupSockAddr, Program, ProgramError, SockOps};
use aya::{Ebpf, EbpfLoader};

use crate::capture::DnsRedirect;
use crate::compile::Compiled;
use crate::error::CaptureError;
use crate::event::Event;
use crate::layout::{self, Itself, PortKey, PrefixKey, PrefixRule};
use crate::{cgroup, socket};

/// Built from `bpf/capture.bpf.c` by `cargo xtask bpf`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/capture.bpf.o");

/// Bits of a prefix rule's key before its address: which plan it belongs to.
const PLAN_BITS: u32 = 32;

/// The attached programs. They go when this is dropped, or the process ends in whichever way.
pub(crate) struct Hook {
    plans: Array<MapData, layout::Plan>,
    active: Array<MapData, u32>,
    prefixes: LpmTrie<MapData, PrefixKey, PrefixRule>,
    ports: HashMap<MapData, PortKey, u32>,
    routes: LpmTrie<MapData, [u8; 16], u32>,
    resolvers: HashMap<MapData, [u8; 16], u32>,
    lost: Array<MapData, u64>,
    events: RingBuf<MapData>,
    /// Which of the two plans is read now.
    current: u32,
    epoch: u32,
    /// What stands in `prefixes` for each of the two plans.
    standing: [BTreeMap<(u32, [u8; 16]), PrefixRule>; 2],
    /// What stands in `ports`.
    standing_ports: [BTreeSet<u16>; 2],
    known_routes: BTreeMap<(u32, [u8; 16]), u32>,
    known_resolvers: BTreeSet<[u8; 16]>,
    /// Keeps the programs attached.
    _programs: Ebpf,
}

impl Hook {
    /// Loads the programs and attaches them to all sockets of the machine; they look at those of this network namespace alone.
    pub(crate) fn attach(spare_self: bool, dns: Option<&DnsRedirect>) -> Result<Self, CaptureError> {
        let cgroup = cgroup::root()?;
        let probe = UdpSocket::bind("127.0.0.1:0")
            .map_err(|source| CaptureError::Socket { what: "open a UDP socket", source })?;
        let mut programs = load(socket::namespace_cookie(&probe)?, spare_self, dns)?;
        let mut selves: Array<_, Itself> = taken(&mut programs, "selves")?;
        let itself = Itself { cookie: socket::cookie(&probe)?, ..Itself::default() };
        selves.set(0, itself, 0).map_err(|error| CaptureError::kernel("write a map", &error))?;
        let hook = Self {
            plans: taken(&mut programs, "plans")?,
            active: taken(&mut programs, "active")?,
            prefixes: taken(&mut programs, "prefixes")?,
            ports: taken(&mut programs, "ports")?,
            routes: taken(&mut programs, "routes")?,
            resolvers: taken(&mut programs, "resolvers")?,
            lost: taken(&mut programs, "lost")?,
            events: taken(&mut programs, "events")?,
            current: 0,
            epoch: 0,
            standing: Default::default(),
            standing_ports: Default::default(),
            known_routes: BTreeMap::new(),
            known_resolvers: BTreeSet::new(),
            _programs: {
                attach(&mut programs, &cgroup, dns.is_some())?;
                programs
            },
        };
        prove(&probe, &selves)?;
        Ok(hook)
    }

    /// Makes the programs follow a plan, from one socket to the next.
    pub(crate) fn apply(&mut self, compiled: Compiled) -> Result<(), CaptureError> {
        let Compiled { mut plan, prefixes, ports } = compiled;
        let next = 1 - self.current;
        self.epoch = self.epoch.wrapping_add(1);
        plan.epoch = self.epoch;
        let write = |error: MapError| CaptureError::kernel("write a map", &error);
        let wanted: BTreeMap<(u32, [u8; 16]), PrefixRule> = prefixes.into_iter().collect();
        let standing = &mut self.standing[next as usize];
        for (length, to) in standing.keys().filter(|place| !wanted.contains_key(place)) {
            let key = Key::new(PLAN_BITS + length, PrefixKey { slot: next, to: *to });
            // One that is not there, after an error of an earlier turn, is as good.
            let _ = self.prefixes.remove(&key);
        }
        // Thousands of rules stay the same while weights change.
        let new = wanted.iter().filter(|(place, rule)| standing.get(place) != Some(rule));
        for ((length, to), rule) in new {
            let key = Key::new(PLAN_BITS + length, PrefixKey { slot: next, to: *to });
            self.prefixes.insert(&key, rule, 0).map_err(write)?;
        }
        *standing = wanted;
        let standing = &mut self.standing_ports[next as usize];
        for port in standing.iter().filter(|port| !ports.contains_key(port)) {
            let _ = self.ports.remove(&PortKey { slot: next, port: *port, unused: 0 });
        }
        for (port, says) in &ports {
            self.ports.insert(PortKey { slot: next, port: *port, unused: 0 }, says, 0).map_err(write)?;
        }
        *standing = ports.into_keys().collect();
        self.plans.set(next, *plan, 0).map_err(write)?;
        self.active.set(0, next, 0).map_err(write)?;
        self.current = next;
        Ok(())
    }

    /// Leaves sockets to these destinations alone. What does not fit is left to the routing rules, which do the same.
    pub(crate) fn set_routes(&mut self, wanted: BTreeMap<(u32, [u8; 16]), u32>) -> Result<(), CaptureError> {
        let write = |error: MapError| CaptureError::kernel("write a map", &error);
        for (length, to) in self.known_routes.keys().filter(|place| !wanted.contains_key(place)) {
            let _ = self.routes.remove(&Key::new(*length, *to));
        }
        let new = wanted.iter().filter(|(place, kind)| self.known_routes.get(place) != Some(kind));
        for ((length, to), kind) in new {
            self.routes.insert(&Key::new(*length, *to), kind, 0).map_err(write)?;
        }
        self.known_routes = wanted;
        Ok(())
    }

    /// Redirects questions to these resolvers, and to no others.
    pub(crate) fn set_resolvers(&mut self, wanted: BTreeSet<[u8; 16]>) -> Result<(), CaptureError> {
        let write = |error: MapError| CaptureError::kernel("write a map", &error);
        for resolver in self.known_resolvers.difference(&wanted) {
            let _ = self.resolvers.remove(resolver);
        }
        for resolver in wanted.difference(&self.known_resolvers) {
            self.resolvers.insert(resolver, 1, 0).map_err(write)?;
        }
        self.known_resolvers = wanted;
        Ok(())
    }

    /// The next event; none if there is none now.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        loop {
            let item = self.events.next()?;
            if let Some(event) = Event::read(&item) {
                return Some(event);
            }
        }
    }

    /// How many events found no place since the start.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.get(&0, 0).unwrap_or(0)
    }

    /// Readable when there are events.
    pub(crate) fn events_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

fn load(namespace: u64, spare_self: bool, dns: Option<&DnsRedirect>) -> Result<Ebpf, CaptureError> {
    let spare_self = u32::from(spare_self);
    let v4 = dns.and_then(|dns| dns.v4);
    let v6 = dns.and_then(|dns| dns.v6);
    let dns4 = v4.map_or(0, |at| u32::from_ne_bytes(at.ip().octets()));
    let dns4_port = v4.map_or(0, |at| u32::from(at.port()));
    let dns6_port = v6.map_or(0, |at| u32::from(at.port()));
    let octets = v6.map_or([0; 16], |at| at.ip().octets());
    let word = |index: usize| {
        u32::from_ne_bytes([octets[index], octets[index + 1], octets[index + 2], octets[index + 3]])
    };
    let words = [word(0), word(4), word(8), word(12)];
    let mut loader = EbpfLoader::new();
    loader
        .override_global("netns_cookie", &namespace, true)
        .override_global("spare_self", &spare_self, true)
        .override_global("dns4", &dns4, true)
        .override_global("dns4_port", &dns4_port, true)
        .override_global("dns6_port", &dns6_port, true);
    for (name, word) in ["dns6_a", "dns6_b", "dns6_c", "dns6_d"].into_iter().zip(&words) {
        loader.override_global(name, word, true);
    }
    loader.load(OBJECT).map_err(|error| CaptureError::kernel("load the programs", &error))
}

fn taken<T>(programs: &mut Ebpf, name: &'static str) -> Result<T, CaptureError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let map =
        programs.take_map(name).ok_or(CaptureError::Kernel { what: "load a map", why: name.to_owned() })?;
    T::try_from(map).map_err(|error| CaptureError::kernel("load a map", &error))
}

/// Attaches each program that is needed. The links close with their descriptors, so with this process at the latest.
fn attach(programs: &mut Ebpf, cgroup: &OwnedFd, dns: bool) -> Result<(), CaptureError> {
    // No flag: a link always stands beside those of others.
    let mode = CgroupAttachMode::Single;
    for (name, program) in programs.programs_mut() {
        if name.starts_with("getpeername") && !dns {
            continue;
        }
        attach_one(program, cgroup, mode).map_err(|error| {
            tracing::debug!(name, "this program is refused");
            CaptureError::kernel("attach a program", &error)
        })?;
    }
    Ok(())
}

fn attach_one(program: &mut Program, cgroup: &OwnedFd, mode: CgroupAttachMode) -> Result<(), ProgramError> {
    match program {
        Program::CgroupSockAddr(_) => {
            let program: &mut CgroupSockAddr = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode).map(|_| ())
        }
        Program::CgroupSock(_) => {
            let program: &mut CgroupSock = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode).map(|_| ())
        }
        _ => {
            let program: &mut SockOps = program.try_into()?;
            program.load()?;
            program.attach(cgroup, mode).map(|_| ())
        }
    }
}

/// Connects a socket of our own and looks whether the program saw it; so it also learns which process this is.
fn prove(probe: &UdpSocket, selves: &Array<MapData, Itself>) -> Result<(), CaptureError> {
    let own = probe.local_addr().and_then(|address| probe.connect(address));
    own.map_err(|source| CaptureError::Socket { what: "connect a UDP socket to itself", source })?;
    match selves.get(&0, 0) {
        Ok(itself) if itself.seen == 1 => Ok(()),
        _ => Err(CaptureError::NotCalled),
    }
}
