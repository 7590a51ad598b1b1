use core::time::Duration;

use bondwire_units::{Bitrate, ByteCount, Timestamp};

use crate::config::PipeConfig;
use crate::trace::Trace;

/// When a packet that begins to be sent is fully sent: the clock of the link's rate.
#[derive(Debug)]
pub(crate) enum Serializer {
    /// At once.
    Unlimited,
    /// At a constant rate.
    Constant(Bitrate),
    /// As a recording says.
    Recorded {
        trace: Trace,
        origin: Timestamp,
        /// The opportunity that was used last or comes next.
        index: u64,
        /// What is left of it.
        left: u64,
    },
}

impl Serializer {
    pub(crate) fn new(config: &PipeConfig, now: Timestamp) -> Self {
        match (&config.trace, config.rate) {
            (Some(trace), _) => {
                Self::Recorded { trace: trace.clone(), origin: now, index: 0, left: Trace::OPPORTUNITY.get() }
            }
            (None, Some(rate)) => Self::Constant(rate),
            (None, None) => Self::Unlimited,
        }
    }

    /// When `size` bytes are through that begin at `start`. Starts never go back.
    pub(crate) fn finish(&mut self, size: ByteCount, start: Timestamp) -> Timestamp {
        match self {
            Self::Unlimited => start,
            Self::Constant(rate) => match rate.time_for(size) {
                Duration::MAX => Timestamp::MAX,
                span => start + span,
            },
            Self::Recorded { trace, origin, index, left } => {
                let earliest = trace.first_from(start, *origin);
                if earliest > *index {
                    (*index, *left) = (earliest, Trace::OPPORTUNITY.get());
                }
                let mut wanted = size.get();
                while wanted > *left {
                    wanted -= *left;
                    *index += 1;
                    *left = Trace::OPPORTUNITY.get();
                }
                *left -= wanted;
                trace.at(*index, *origin)
            }
        }
    }
}
