use core::time::Duration;

use bondwire_netem::{Burst, PipeConfig, Policer, Trace};
use bondwire_units::{Bitrate, ByteCount};
use serde::Deserialize;

use crate::event::Change;

/// What a link is made of, as `bondwire links` would name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A cable.
    Ethernet,
    /// A wireless network of one's own.
    Wifi,
    /// 4G, 5G.
    Cellular,
    /// By satellite.
    Satellite,
    /// A phone that shares its own link.
    Tethered,
    /// Not known.
    #[default]
    Unknown,
}

/// How long a link's drop-tail queue is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// What the link sends in this time: it follows the rate.
    Time(Duration),
    /// So many bytes.
    Size(ByteCount),
}

/// One access link, both directions. "Up" is what the client sends.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its name, fit for an interface: at most 12 characters out of `a-z`, `0-9` and `-`.
    pub name: String,
    /// What it is made of; default unknown.
    pub kind: LinkKind,
    /// The rate up; none is without limit.
    pub up: Option<Bitrate>,
    /// The rate down; none is without limit.
    pub down: Option<Bitrate>,
    /// One way, in each direction; default 0.
    pub delay: Duration,
    /// Uniform ± around the delay, in each direction; default 0.
    pub jitter: Duration,
    /// Whether jitter reorders; default no.
    pub jitter_reorders: bool,
    /// The share of packets lost at random, in each direction; default 0.
    pub loss: f64,
    /// Losses in bursts, in each direction; default none.
    pub burst: Option<Burst>,
    /// The queue of each direction; default 100 ms of the rate, 30 kB at least.
    pub queue: Option<Queue>,
    /// The share of packets that overtake; default 0.
    pub reorder: f64,
    /// The share of packets that come twice; default 0.
    pub duplicate: f64,
    /// A recorded rate up, in place of the constant one.
    pub trace_up: Option<Trace>,
    /// A recorded rate down, in place of the constant one.
    pub trace_down: Option<Trace>,
    /// Drops what exceeds a rate up; default none.
    pub policer_up: Option<Policer>,
    /// Drops what exceeds a rate down; default none.
    pub policer_down: Option<Policer>,
    /// Packets come out in bunches, so far apart, in each direction; default 0: each by itself.
    pub grants: Duration,
    /// Whether the provider translates addresses; default no.
    pub nat: bool,
    /// Whether it carries IPv4; default yes.
    pub v4: bool,
    /// Whether it carries IPv6; default no.
    pub v6: bool,
    /// The largest IP packet that it carries; larger ones vanish. Default 1,500.
    pub mtu: u16,
}

impl Link {
    /// What its two directions do to packets: up, down.
    pub fn pipes(&self) -> (PipeConfig, PipeConfig) {
        let mut up = self.pipe(self.up, self.trace_up.as_ref());
        let mut down = self.pipe(self.down, self.trace_down.as_ref());
        (up.policer, down.policer) = (self.policer_up, self.policer_down);
        (up, down)
    }

    /// Becomes what an event says. A new rate ends a trace of that direction.
    pub fn apply(&mut self, change: &Change) {
        if change.up.is_some() {
            (self.up, self.trace_up) = (change.up, None);
        }
        if change.down.is_some() {
            (self.down, self.trace_down) = (change.down, None);
        }
        self.trace_up = change.trace_up.clone().or(self.trace_up.take());
        self.trace_down = change.trace_down.clone().or(self.trace_down.take());
        self.delay = change.delay.unwrap_or(self.delay);
        self.jitter = change.jitter.unwrap_or(self.jitter);
        self.loss = change.loss.unwrap_or(self.loss);
        self.burst = change.burst.or(self.burst).filter(|burst| burst.p > 0.0);
        self.queue = change.queue.or(self.queue);
        self.reorder = change.reorder.unwrap_or(self.reorder);
        self.duplicate = change.duplicate.unwrap_or(self.duplicate);
    }

    fn pipe(&self, rate: Option<Bitrate>, trace: Option<&Trace>) -> PipeConfig {
        let mean = trace.map(Trace::mean_rate).or(rate);
        let queue = match self.queue {
            None => None,
            Some(Queue::Size(size)) => Some(size),
            Some(Queue::Time(time)) => mean.map(|rate| rate.bytes_in(time)),
        };
        PipeConfig {
            rate,
            queue,
            delay: self.delay,
            jitter: self.jitter,
            jitter_reorders: self.jitter_reorders,
            loss: self.loss,
            burst: self.burst,
            reorder: self.reorder,
            duplicate: self.duplicate,
            trace: trace.cloned(),
            policer: None,
            grants: self.grants,
        }
    }
}
