//! The whole of it: links with tables and marks, the programs or rules that mark, and what happens when a link dies.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bondwire_netctl::{Change, Changes, Prefix, forget_marked};

use crate::compile::compile;
use crate::error::CaptureError;
use crate::event::Event;
use crate::hook::Hook;
use crate::kept::Kept;
use crate::links::{Known, refresh_link, settings, specific, told_routes};
use crate::nft::{self, Chosen};
use crate::plan::{LinkName, LinkPlan, MAX_LINKS, Plan, Slot, limits, mapped, mark_of};
use crate::support::{Support, Way};

/// The changes of the network, shared with others in this process that make some.
pub type SharedChanges = Arc<Mutex<Changes>>;

/// Destinations with a route of their own that the table knows, where sockets of a family are refused.
const MOST_NEAR: usize = 1_024;
const NFT_GROUP: &str = "balance";
const SETTINGS_GROUP: &str = "balance settings";

/// Where questions to resolvers go instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsRedirect {
    /// A forwarder for IPv4 sockets.
    pub v4: Option<SocketAddrV4>,
    /// One for IPv6 sockets.
    pub v6: Option<SocketAddrV6>,
}

/// What is captured, and where to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The links. Addresses, gateways and routes are read from the kernel. One that is not there yet may come later.
    pub links: Vec<LinkName>,
    /// The sockets of this machine are captured. Default; without it only the LAN's flows are.
    pub local: bool,
    /// Interfaces of a LAN whose flows are captured.
    pub lan: Vec<String>,
    /// Sends the captured sockets' questions to resolvers ([`Capture::set_resolvers`]) to a forwarder. Default none. In the eBPF way only.
    pub dns: Option<DnsRedirect>,
    /// This way, or with none the better one that is possible.
    pub way: Option<Way>,
    /// This process' own sockets are left alone. Default. In the eBPF way only: by nftables they are told by a mark that they
    /// carry, or by the interface that they are bound to.
    pub spare_self: bool,
}

impl Config {
    /// The sockets of this machine, over these links.
    pub fn new(links: Vec<LinkName>) -> Self {
        Self { links, local: true, lan: Vec::new(), dns: None, way: None, spare_self: true }
    }
}

/// Captured sockets. See the crate's first page.
pub struct Capture {
    changes: SharedChanges,
    config: Config,
    way: Way,
    hook: Option<Hook>,
    links: BTreeMap<Slot, Known>,
    moved: BTreeMap<Slot, Slot>,
    kept: Kept,
    plan: Plan,
    /// What stands in the table's maps: the plan that it came from, and the commands.
    spread: Option<(Vec<LinkPlan>, String)>,
}

impl Capture {
    /// What this machine allows.
    pub fn support() -> Support {
        Support::probe()
    }

    /// Gives each link its table and its mark, and attaches the programs. Nothing is captured before [`Capture::apply`].
    ///
    /// Where the programs are refused although they seemed possible, and no way was asked for, nftables does the work; a line in the log says so.
    ///
    /// # Errors
    /// Neither way is possible, or the one that was asked for is not; a slot is out of bounds; the network cannot be changed.
    /// Nothing is left behind then.
    pub fn attach(config: Config, changes: SharedChanges) -> Result<Self, CaptureError> {
        if let Some(link) = config.links.iter().find(|link| usize::from(link.slot) >= MAX_LINKS) {
            return Err(CaptureError::NoSuchSlot { slot: link.slot });
        }
        let (way, hook) = begin(&config)?;
        let links = config.links.iter().map(|link| (link.slot, Known::absent(&link.name))).collect();
        let mut capture = Self {
            changes,
            config,
            way,
            hook,
            links,
            moved: BTreeMap::new(),
            kept: Kept::default(),
            plan: Plan::default(),
            spread: None,
        };
        capture.refresh()?;
        Ok(capture)
    }

    /// Which way it works.
    pub const fn way(&self) -> Way {
        self.way
    }

    /// Spreads new sockets as the plan says, from now on. The same plan again costs nothing.
    ///
    /// # Errors
    /// The plan is beyond the bounds, or the kernel refuses. The old plan stands then.
    pub fn apply(&mut self, plan: &Plan) -> Result<(), CaptureError> {
        plan.check()?;
        self.kept.expire(&mut lock(&self.changes), Instant::now())?;
        if *plan == self.plan {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.plan, plan.clone());
        let result = self.publish();
        if result.is_err() {
            self.plan = before;
        }
        result
    }

    /// Looks at links and routes again: to be called when [`bondwire_netctl::Watcher`] says that something changed. A link that
    /// is gone or has no way to the internet takes no sockets; when it is back it does.
    ///
    /// # Errors
    /// The network cannot be read or changed.
    pub fn refresh(&mut self) -> Result<(), CaptureError> {
        {
            let mut changes = lock(&self.changes);
            for (slot, known) in &mut self.links {
                refresh_link(&mut changes, *slot, known)?;
            }
            changes.keep_settings(SETTINGS_GROUP, &settings(&self.links, &self.config.lan))?;
            let names = self.links.iter().map(|(slot, known)| (*slot, known.name.as_str())).collect();
            for slot in self.kept.refresh(&mut changes, &names, Instant::now())? {
                forget_marked(mark_of(slot))?;
            }
        }
        if let Some(hook) = &mut self.hook {
            let routes = lock(&self.changes).netlink().routes()?;
            hook.set_routes(told_routes(&routes, &self.links))?;
        }
        self.publish()
    }

    /// Whose questions go to the forwarder that [`Config::dns`] names: those to these addresses, unless a rule of the plan speaks of them or the
    /// main table has a route to them that is neither a default nor a link's own network. None before the first call, and none in
    /// the nftables way; at most [`limits::RESOLVERS`], those beyond are asked directly.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_resolvers(&mut self, resolvers: &[IpAddr]) -> Result<(), CaptureError> {
        let Some(hook) = &mut self.hook else { return Ok(()) };
        hook.set_resolvers(resolvers.iter().copied().map(mapped).take(limits::RESOLVERS).collect())
    }

    /// Adds a link while it runs, or gives a slot another interface.
    ///
    /// # Errors
    /// As [`Capture::refresh`]; the slot is out of bounds.
    pub fn set_link(&mut self, link: LinkName) -> Result<(), CaptureError> {
        if usize::from(link.slot) >= MAX_LINKS {
            return Err(CaptureError::NoSuchSlot { slot: link.slot });
        }
        if self.links.get(&link.slot).is_some_and(|known| known.name != link.name) {
            self.remove_link(link.slot)?;
        }
        self.links.entry(link.slot).or_insert_with(|| Known::absent(&link.name));
        self.refresh()
    }

    /// Takes a link out: its table, its mark and its flows' entries go.
    ///
    /// # Errors
    /// The network cannot be changed.
    pub fn remove_link(&mut self, slot: Slot) -> Result<(), CaptureError> {
        let Some(known) = self.links.remove(&slot) else { return Ok(()) };
        self.moved.remove(&slot);
        self.publish()?;
        {
            let mut changes = lock(&self.changes);
            changes.unmark_link(mark_of(slot))?;
            changes.unroute_link(&known.name)?;
        }
        Ok(forget_marked(mark_of(slot))?)
    }

    /// Leads what was marked for a dead link over another one: connected UDP sockets go on there with that link's address, connects without an answer repeat
    /// their SYN there. Established TCP connections cannot move; their packets wait, and are dropped, until the link is back or
    /// somebody closes them. New sockets follow the plan, which has to say that the link is dead.
    ///
    /// # Errors
    /// No link has that slot, the other one never was there, or the network cannot be changed.
    pub fn move_link(&mut self, from: Slot, to: Slot) -> Result<(), CaptureError> {
        let table_of = |slot: Slot| self.links.get(&slot).and_then(|known| known.table);
        if !self.links.contains_key(&from) {
            return Err(CaptureError::UnknownLink { slot: from });
        }
        let table = table_of(to).ok_or(CaptureError::UnknownLink { slot: to })?;
        lock(&self.changes).move_mark(mark_of(from), Some(table))?;
        self.moved.insert(from, to);
        // Only now: an entry that is made from here on belongs to the new way.
        Ok(forget_marked(mark_of(from))?)
    }

    /// Leads a link's mark back to it. Flows that moved stay where they are, since their other end knows them by that address.
    ///
    /// # Errors
    /// The network cannot be changed.
    pub fn restore_link(&mut self, slot: Slot) -> Result<(), CaptureError> {
        if self.moved.remove(&slot).is_some() {
            lock(&self.changes).move_mark(mark_of(slot), None)?;
        }
        Ok(())
    }

    /// Where a link's mark leads now, if not to the link itself.
    pub fn moved_to(&self, slot: Slot) -> Option<Slot> {
        self.moved.get(&slot).copied()
    }

    /// The next thing that a captured socket did; none if there is nothing new, and never any in the nftables way. Does not block.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.hook.as_mut()?.poll_event()
    }

    /// Readable when there are events.
    pub fn events_fd(&self) -> Option<BorrowedFd<'_>> {
        self.hook.as_ref().map(Hook::events_fd)
    }

    /// How many events were lost since the start, because nobody fetched those before them.
    pub fn lost_events(&self) -> u64 {
        self.hook.as_ref().map_or(0, Hook::lost)
    }

    /// Ends it, and says what could not be undone. A drop does the same and logs it.
    ///
    /// # Errors
    /// The first change that the kernel will not undo; it stays in the journal.
    pub fn detach(mut self) -> Result<(), CaptureError> {
        self.undo()
    }

    fn undo(&mut self) -> Result<(), CaptureError> {
        // First the programs: nothing new is marked for tables that go.
        self.hook = None;
        let links = std::mem::take(&mut self.links);
        let mut changes = lock(&self.changes);
        let mut first = changes.remove(NFT_GROUP).err();
        for (slot, known) in &links {
            for result in [changes.unmark_link(mark_of(*slot)), changes.unroute_link(&known.name)] {
                first = first.or(result.err());
            }
        }
        first = first.or(changes.remove(SETTINGS_GROUP).err()).or(Kept::clear(&mut changes).err());
        drop(changes);
        for slot in links.keys() {
            first = first.or(forget_marked(mark_of(*slot)).err());
        }
        first.map_or(Ok(()), |error| Err(error.into()))
    }

    /// Brings programs and table to what plan and links are now.
    fn publish(&mut self) -> Result<(), CaptureError> {
        let local = self.config.local && self.way == Way::Nftables;
        let chosen = Chosen { lan: &self.config.lan, local };
        let mut changes = lock(&self.changes);
        // Packets are looked at before they are routed, so what has a way of its own has to be named.
        let routes = if self.plan.refuse.is_empty() { Vec::new() } else { changes.netlink().routes()? };
        let near: Vec<Prefix> = specific(&routes).map(|route| route.to.network()).take(MOST_NEAR).collect();
        let body = nft::structure(&self.plan, &self.links, chosen, &near);
        let table = Change::NftTable { name: nft::TABLE.to_owned(), body };
        let replaced = !changes.group(NFT_GROUP).any(|standing| *standing == table);
        if replaced {
            changes.sync(NFT_GROUP, &[table])?;
        }
        if local || !chosen.lan.is_empty() {
            let elements = nft::elements(&self.plan, &self.links);
            let stands = self.spread.as_ref().is_some_and(|(links, standing)| {
                *standing == elements || nft::is_near(links, &self.plan.links, standing, &elements)
            });
            if replaced || !stands {
                changes.nft_commands("spread flows over the links", &elements)?;
                self.spread = Some((self.plan.links.clone(), elements));
            }
        }
        drop(changes);
        if let Some(hook) = &mut self.hook {
            hook.apply(compile(&self.plan, &self.links))?;
        }
        Ok(())
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            tracing::warn!(%error, "capturing left something behind; the next start undoes it");
        }
    }
}

impl fmt::Debug for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Capture")
            .field("way", &self.way)
            .field("links", &self.links)
            .field("moved", &self.moved)
            .finish_non_exhaustive()
    }
}

/// Chooses the way, and goes its first step.
fn begin(config: &Config) -> Result<(Way, Option<Hook>), CaptureError> {
    let support = Support::probe();
    let refuse = |support: Support| CaptureError::Unsupported {
        ebpf: support.ebpf.err().unwrap_or_else(|| "possible".to_owned()),
        nftables: support.nftables.err().unwrap_or_else(|| "possible".to_owned()),
    };
    let Some(way) = config.way.or(support.way()) else { return Err(refuse(support)) };
    if way == Way::Nftables || !config.local {
        if config.local && config.way.is_none() {
            let why = support.ebpf.err().unwrap_or_default();
            tracing::warn!(why, "eBPF is not possible here: nftables marks this machine's sockets");
        }
        return Ok((Way::Nftables, None));
    }
    match Hook::attach(config.spare_self, config.dns.as_ref()) {
        Ok(hook) => Ok((Way::Ebpf, Some(hook))),
        Err(error) if config.way.is_none() => {
            tracing::warn!(%error, "eBPF is not possible here: nftables marks this machine's sockets");
            Ok((Way::Nftables, None))
        }
        Err(error) => Err(error),
    }
}

fn lock(changes: &SharedChanges) -> MutexGuard<'_, Changes> {
    changes.lock().unwrap_or_else(PoisonError::into_inner)
}
