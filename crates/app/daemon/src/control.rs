//! What the control API sees of a daemon, and what it leaves for it to do.
//!
//! The main thread publishes a status at every turn, at most [`EVERY`] old; the API's thread reads it, leaves commands, and
//! wakes the main thread. Neither waits for the other longer than a copy takes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bondwire_api::{
    Clients, Control, Fault, Info, LinkAnswer, LinkChange, LinkEntry, LinkStatus, Links, Mode, ModeAnswer,
    Role, Sockets, Status, Streams,
};

use crate::config::suggest;
use crate::faults;
use crate::link_settings::LinkSettings;
use crate::sockets::SocketWatch;
use crate::wake::Waker;

/// How often a status is published at least.
pub(crate) const EVERY: Duration = Duration::from_millis(200);

/// How long a question for sockets waits for the main thread, which answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The place where the two threads meet.
#[derive(Debug)]
pub(crate) struct Meeting {
    role: Role,
    waker: Waker,
    /// A client's.
    links: Option<Arc<LinkSettings>>,
    shared: Mutex<Shared>,
    /// Looks at the machine's sockets when it is asked for them; not needed where they are published.
    watch: Mutex<Option<SocketWatch>>,
    /// Told when sockets were published.
    shown: Condvar,
}

#[derive(Debug)]
struct Shared {
    status: Status,
    clients: Clients,
    streams: Streams,
    sockets: Sockets,
    sockets_wanted: bool,
    mode: Option<Mode>,
    links_changed: bool,
    stop: bool,
}

impl Meeting {
    /// A place with this first status.
    pub(crate) fn new(status: Status, waker: Waker) -> Self {
        let role = status.role;
        let shared = Shared {
            status,
            clients: Clients::default(),
            streams: Streams::default(),
            sockets: Sockets::default(),
            sockets_wanted: false,
            mode: None,
            links_changed: false,
            stop: false,
        };
        Self {
            role,
            waker,
            links: None,
            shared: Mutex::new(shared),
            watch: Mutex::default(),
            shown: Condvar::new(),
        }
    }

    /// The same for a client, whose links can be steered.
    pub(crate) fn with_links(self, links: Arc<LinkSettings>) -> Self {
        Self { links: Some(links), ..self }
    }

    /// Shows a new status.
    pub(crate) fn publish(&self, status: Status) {
        self.lock().status = status;
    }

    /// Shows a new list of clients.
    pub(crate) fn publish_clients(&self, clients: Clients) {
        self.lock().clients = clients;
    }

    /// Shows the real-time flows as they are now.
    pub(crate) fn publish_streams(&self, streams: Streams) {
        self.lock().streams = streams;
    }

    /// Shows the sockets of mode `balance` as they are now.
    pub(crate) fn publish_sockets(&self, sockets: Sockets) {
        let mut shared = self.lock();
        shared.sockets = sockets;
        shared.sockets_wanted = false;
        drop(shared);
        self.shown.notify_all();
    }

    /// Whether somebody waits for them: whose each is costs a search, so they are published on demand.
    pub(crate) fn sockets_wanted(&self) -> bool {
        self.lock().sockets_wanted
    }

    /// The mode that was asked for since the last call.
    pub(crate) fn take_mode(&self) -> Option<Mode> {
        self.lock().mode.take()
    }

    /// Whether something else is wanted of the links since the last call.
    pub(crate) fn take_links_changed(&self) -> bool {
        std::mem::take(&mut self.lock().links_changed)
    }

    /// Whether the daemon was asked to end.
    pub(crate) fn stop_asked(&self) -> bool {
        self.lock().stop
    }

    /// The links' settings, or why there are none.
    fn settings(&self, what: &str) -> Result<&LinkSettings, Fault> {
        self.links.as_deref().ok_or_else(|| {
            Fault::usage(
                what,
                "a server has no links of its own: its clients choose theirs",
                "run `bondwire links` on the client",
            )
        })
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // All that is kept is replaced as a whole: a panic cannot leave half of it.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Control for Meeting {
    fn info(&self) -> Info {
        Info { pid: std::process::id(), role: self.role, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    fn status(&self) -> Status {
        self.lock().status.clone()
    }

    fn clients(&self) -> Result<Clients, Fault> {
        match self.role {
            Role::Server => Ok(self.lock().clients.clone()),
            Role::Client => Err(Fault::usage(
                "there are no clients here",
                "this bondwire is a client itself",
                "ask the server: `bondwire server clients` there",
            )),
        }
    }

    fn streams(&self) -> Streams {
        self.lock().streams.clone()
    }

    fn sockets(&self) -> Result<Sockets, Fault> {
        if self.role == Role::Server {
            return Err(Fault::usage(
                "there are no sockets to list",
                "a server carries its clients' packets, and does not see their sockets",
                "run `bondwire sockets` on the client",
            ));
        }
        let status = {
            let mut shared = self.lock();
            if shared.status.mode == Some(Mode::Balance) {
                shared.sockets_wanted = true;
                self.waker.wake();
                let waited = self.shown.wait_timeout_while(shared, PATIENCE, |shared| shared.sockets_wanted);
                let (shared, _) = waited.unwrap_or_else(PoisonError::into_inner);
                return Ok(shared.sockets.clone());
            }
            shared.status.clone()
        };
        let inner = [status.inner_v4, status.inner_v6];
        let inner: Vec<_> = inner.iter().flatten().filter_map(|text| text.parse().ok()).collect();
        // A look replaces what was remembered as a whole: a panic cannot leave half of it.
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let sockets = match watch.take().map_or_else(SocketWatch::open, Ok) {
            Ok(opened) => watch.insert(opened).through_bond(status.mode, &inner),
            Err(error) => Err(error),
        };
        sockets.map_err(|error| faults::diag("cannot list the sockets", &error))
    }

    fn set_mode(&self, mode: Mode) -> Result<ModeAnswer, Fault> {
        if self.role == Role::Server {
            return Err(Fault::usage(
                "the mode was not changed",
                "a server has none of its own: each client chooses its mode",
                "run `bondwire mode` on the client",
            ));
        }
        let mut shared = self.lock();
        if mode == Mode::Balance || shared.status.mode == Some(Mode::Balance) {
            return Err(Fault::usage(
                "the mode was not changed",
                "`balance` spreads sockets without a server, the other modes spread packets with one: they cannot change into each other while they run",
                "end the running bondwire, then start `bondwire balance` or `bondwire up`",
            ));
        }
        shared.mode = Some(mode);
        shared.status.mode = Some(mode);
        drop(shared);
        self.waker.wake();
        Ok(ModeAnswer { mode, remark: mode.remark().map(str::to_owned) })
    }

    fn links(&self) -> Result<Links, Fault> {
        let settings = self.settings("there are no links here")?;
        let links = self.lock().status.links.iter().map(|link| entry(settings, link)).collect();
        Ok(Links { links })
    }

    fn set_link(&self, link: &str, set: LinkChange) -> Result<LinkAnswer, Fault> {
        let settings = self.settings("the link was not changed")?;
        let known: Vec<String> = self.lock().status.links.iter().map(|link| link.name.clone()).collect();
        if !known.iter().any(|known| known == link) {
            return Err(unknown_link(link, &known));
        }
        // Outside the lock: the main thread does not wait for a disk.
        settings.set(link, set)?;
        let mut shared = self.lock();
        shared.links_changed = true;
        let mut answer = None;
        let mut left = false;
        for status in &mut shared.status.links {
            let entry = entry(settings, status);
            status.priority.clone_from(&entry.status.priority);
            left |= status.priority != "never";
            if status.name == link {
                answer = Some(entry);
            }
        }
        drop(shared);
        self.waker.wake();
        let link = answer.ok_or_else(|| unknown_link(link, &known))?;
        let remark = (!left).then(|| "no link is left: traffic waits until one may be used again".to_owned());
        Ok(LinkAnswer { link, remark })
    }

    fn down(&self) {
        self.lock().stop = true;
        self.waker.wake();
    }
}

/// A link with what is wanted of it at this moment.
fn entry(settings: &LinkSettings, status: &LinkStatus) -> LinkEntry {
    let wanted = settings.resolve_named(&status.name, &status.kind);
    LinkEntry {
        status: LinkStatus { priority: wanted.priority().to_owned(), ..status.clone() },
        priority_setting: wanted.setting,
        limit_up_bps: wanted.limit_up.map(|rate| rate.as_bps()),
        limit_down_bps: wanted.limit_down.map(|rate| rate.as_bps()),
    }
}

fn unknown_link(link: &str, known: &[String]) -> Fault {
    let shown: String = link.chars().take(32).flat_map(char::escape_default).collect();
    let list = if known.is_empty() {
        "it has no links at present".to_owned()
    } else {
        format!("its links: {}", known.join(", "))
    };
    let remedy = match suggest::nearest(link, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`? {list}"),
        None => format!("{list}; another one is added by `up --link`, or by `use` in client.toml"),
    };
    Fault::usage(
        format!("there is no link `{shown}` in the bond"),
        "none that bondwire uses has that name",
        remedy,
    )
}
