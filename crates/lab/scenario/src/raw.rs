//! The file as it is written, before it is checked as a whole.

use core::time::Duration;

use bondwire_netem::{Burst, Policer, Trace};
use bondwire_units::{Bitrate, ByteCount};
use serde::Deserialize;
use toml::Spanned;

use crate::error::Fault;
use crate::event::{Action, Change};
use crate::link::{Link, LinkKind, Queue};
use crate::values::{Share, TraceSource, Value};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawScenario {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) about: String,
    #[serde(default = "one")]
    pub(crate) seed: u64,
    pub(crate) links: Spanned<Vec<Spanned<RawLink>>>,
    #[serde(default)]
    pub(crate) events: Vec<Spanned<RawEvent>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLink {
    pub(crate) name: Spanned<String>,
    #[serde(default)]
    kind: LinkKind,
    up: Option<Value<Bitrate>>,
    down: Option<Value<Bitrate>>,
    delay: Option<Value<Duration>>,
    jitter: Option<Value<Duration>>,
    #[serde(default)]
    jitter_reorders: bool,
    loss: Option<Value<Share>>,
    burst: Option<RawBurst>,
    queue: Option<Value<Queue>>,
    reorder: Option<Value<Share>>,
    duplicate: Option<Value<Share>>,
    trace_up: Option<Spanned<TraceSource>>,
    trace_down: Option<Spanned<TraceSource>>,
    policer_up: Option<RawPolicer>,
    policer_down: Option<RawPolicer>,
    grants: Option<Value<Duration>>,
    #[serde(default)]
    nat: bool,
    #[serde(default = "yes")]
    v4: bool,
    #[serde(default)]
    v6: bool,
    mtu: Option<Spanned<u16>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBurst {
    p: Value<Share>,
    r: Value<Share>,
}

impl RawBurst {
    fn checked(&self) -> Burst {
        Burst { p: self.p.0.0, r: self.r.0.0 }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPolicer {
    rate: Value<Bitrate>,
    /// Default: 100 ms of the rate, and ten full packets at least.
    burst: Option<Value<Queue>>,
}

impl RawPolicer {
    fn checked(&self) -> Policer {
        let rate = self.rate.0;
        let burst = match &self.burst {
            None => rate.bytes_in(Duration::from_millis(100)).max(ByteCount::new(15_000)),
            Some(Value(Queue::Time(time))) => rate.bytes_in(*time),
            Some(Value(Queue::Size(size))) => *size,
        };
        Policer { rate, burst }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Do {
    Silence,
    CarrierLoss,
    Return,
    AddressChange,
    NatRebind,
    Change,
    Trace,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvent {
    pub(crate) at: Value<Duration>,
    pub(crate) link: Spanned<String>,
    #[serde(rename = "do")]
    what: Spanned<Do>,
    up: Option<Value<Bitrate>>,
    down: Option<Value<Bitrate>>,
    delay: Option<Value<Duration>>,
    jitter: Option<Value<Duration>>,
    loss: Option<Value<Share>>,
    burst: Option<RawBurst>,
    queue: Option<Value<Queue>>,
    reorder: Option<Value<Share>>,
    duplicate: Option<Value<Share>>,
    trace_up: Option<Spanned<TraceSource>>,
    trace_down: Option<Spanned<TraceSource>>,
}

/// Turns the name of a trace file into its text, or says why it cannot.
pub(crate) type ReadFile<'a> = &'a dyn Fn(&str) -> Result<String, String>;

impl RawLink {
    /// Checks what concerns this link alone.
    pub(crate) fn check(self, at: usize, read: ReadFile<'_>) -> Result<Link, Fault> {
        let name_at = self.name.span().start;
        let name = self.name.into_inner();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if name.is_empty() || name.len() > 12 || !name.chars().all(fits) {
            let message = format!("`{name}` cannot name a link: use 1 to 12 characters of a-z, 0-9 and -");
            return Err(Fault::new(name_at, message));
        }
        if !self.v4 && !self.v6 {
            return Err(Fault::new(
                at,
                format!("link `{name}` carries neither IPv4 nor IPv6: set one of them"),
            ));
        }
        let mtu = match self.mtu {
            Some(mtu) if *mtu.get_ref() < 576 => {
                let message = "an MTU below 576 carries no IPv4: choose 576 to 65535";
                return Err(Fault::new(mtu.span().start, message));
            }
            Some(mtu) => mtu.into_inner(),
            None => 1500,
        };
        Ok(Link {
            name,
            kind: self.kind,
            up: self.up.map(|v| v.0),
            down: self.down.map(|v| v.0),
            delay: self.delay.map_or(Duration::ZERO, |v| v.0),
            jitter: self.jitter.map_or(Duration::ZERO, |v| v.0),
            jitter_reorders: self.jitter_reorders,
            loss: self.loss.map_or(0.0, |v| v.0.0),
            burst: self.burst.map(|b| b.checked()),
            queue: self.queue.map(|v| v.0),
            reorder: self.reorder.map_or(0.0, |v| v.0.0),
            duplicate: self.duplicate.map_or(0.0, |v| v.0.0),
            trace_up: trace(self.trace_up, read)?,
            trace_down: trace(self.trace_down, read)?,
            policer_up: self.policer_up.map(|p| p.checked()),
            policer_down: self.policer_down.map(|p| p.checked()),
            grants: self.grants.map_or(Duration::ZERO, |v| v.0),
            nat: self.nat,
            v4: self.v4,
            v6: self.v6,
            mtu,
        })
    }
}

impl RawEvent {
    /// Checks what concerns this event and the link that it names.
    pub(crate) fn check(self, link: &Link, read: ReadFile<'_>) -> Result<Action, Fault> {
        let at = self.what.span().start;
        let what = *self.what.get_ref();
        let change = Change {
            up: self.up.map(|v| v.0),
            down: self.down.map(|v| v.0),
            delay: self.delay.map(|v| v.0),
            jitter: self.jitter.map(|v| v.0),
            loss: self.loss.map(|v| v.0.0),
            burst: self.burst.map(|b| b.checked()),
            queue: self.queue.map(|v| v.0),
            reorder: self.reorder.map(|v| v.0.0),
            duplicate: self.duplicate.map(|v| v.0.0),
            trace_up: trace(self.trace_up, read)?,
            trace_down: trace(self.trace_down, read)?,
        };
        let empty = change == Change::default();
        let action = match what {
            Do::Change if empty => {
                return Err(Fault::new(
                    at,
                    "a `change` changes nothing: give a rate, delay, loss or other value",
                ));
            }
            Do::Trace if change.trace_up.is_none() && change.trace_down.is_none() => {
                return Err(Fault::new(at, "a `trace` needs `trace_up`, `trace_down` or both"));
            }
            Do::Change | Do::Trace => return Ok(Action::Change(Box::new(change))),
            Do::NatRebind if !link.nat => {
                let message = format!("link `{}` has no gateway to rebind: give it `nat = true`", link.name);
                return Err(Fault::new(at, message));
            }
            Do::Silence => Action::Silence,
            Do::CarrierLoss => Action::CarrierLoss,
            Do::Return => Action::Return,
            Do::AddressChange => Action::AddressChange,
            Do::NatRebind => Action::NatRebind,
        };
        if empty { Ok(action) } else { Err(Fault::new(at, "only `change` and `trace` take new properties")) }
    }
}

fn trace(source: Option<Spanned<TraceSource>>, read: ReadFile<'_>) -> Result<Option<Trace>, Fault> {
    let Some(source) = source else { return Ok(None) };
    let at = source.span().start;
    let parsed = match source.into_inner() {
        TraceSource::Inline(millis) => Trace::from_millis(millis),
        TraceSource::File(name) => Trace::parse(&read(&name).map_err(|why| Fault::new(at, why))?),
    };
    parsed.map(Some).map_err(|error| Fault::new(at, error.to_string()))
}

fn one() -> u64 {
    1
}

fn yes() -> bool {
    true
}
