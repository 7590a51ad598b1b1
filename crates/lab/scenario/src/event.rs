use core::time::Duration;

use bondwire_netem::{Burst, Trace};
use bondwire_units::Bitrate;

use crate::link::Queue;

/// Something that happens to a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, counted from the start of the run.
    pub at: Duration,
    /// To which link: its position in [`Scenario::links`](crate::Scenario::links).
    pub link: usize,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// All packets vanish in both directions from now on; nobody is told.
    Silence,
    /// As silence, and the client's interface loses its carrier.
    CarrierLoss,
    /// The end of a silence or of a carrier loss.
    Return,
    /// The link's address at the client changes.
    AddressChange,
    /// The provider's gateway gives all flows new ports. Needs `nat = true`.
    NatRebind,
    /// Rate, delay, loss or other properties change, or a trace begins.
    Change(Box<Change>),
}

/// New properties of a link; what is none stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// The rate up.
    pub up: Option<Bitrate>,
    /// The rate down.
    pub down: Option<Bitrate>,
    /// The delay, one way.
    pub delay: Option<Duration>,
    /// Uniform ± around the delay.
    pub jitter: Option<Duration>,
    /// The share lost at random.
    pub loss: Option<f64>,
    /// Losses in bursts; p = 0 ends them.
    pub burst: Option<Burst>,
    /// The queue of each direction.
    pub queue: Option<Queue>,
    /// The share that overtakes.
    pub reorder: Option<f64>,
    /// The share that comes twice.
    pub duplicate: Option<f64>,
    /// A recorded rate up, from its beginning.
    pub trace_up: Option<Trace>,
    /// A recorded rate down, from its beginning.
    pub trace_down: Option<Trace>,
}
