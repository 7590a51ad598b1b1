use std::sync::{Arc, Mutex, PoisonError};

use bondwire_units::Timestamp;

/// The data plane at one moment.
#[derive(Clone, Debug)]
pub struct EngineStatus<B> {
    /// When it was taken, on [`Clock`](crate::Clock)'s clock.
    pub at: Timestamp,
    /// The bond's own status.
    pub bond: B,
    /// What passed the sockets and the tunnel device.
    pub io: IoCounters,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoCounters {
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams that the kernel took.
    pub datagrams_out: u64,
    /// Datagrams dropped since a socket's buffer was full.
    pub blocked: u64,
    /// Datagrams refused as larger than the interface's MTU.
    pub too_large: u64,
    /// Datagrams refused for want of a route, a neighbour, or the source address.
    pub unreachable: u64,
    /// Datagrams that a local firewall rule dropped.
    pub firewalled: u64,
    /// Datagrams refused for other reasons, or for a link without a socket.
    pub refused: u64,
    /// Inner packets read from the tunnel device.
    pub packets_in: u64,
    /// Inner packets that the tunnel device took.
    pub packets_out: u64,
    /// Inner packets that it did not take.
    pub packets_refused: u64,
    /// Events that nobody fetched in time.
    pub events_lost: u64,
    /// Turns of the thread.
    pub turns: u64,
}

/// A place where one side leaves its newest status and the other side picks it up, and neither waits for the other for longer than a pointer takes.
#[derive(Debug)]
pub(crate) struct Board<S>(Mutex<Arc<S>>);

impl<S> Board<S> {
    pub(crate) fn new(status: S) -> Self {
        Self(Mutex::new(Arc::new(status)))
    }

    /// Leaves a status. False if a reader was just there: try again in the next turn.
    pub(crate) fn publish(&self, status: Arc<S>) -> bool {
        // The lock guards a pointer that is exchanged as a whole: a reader's panic cannot have spoilt it.
        let mut slot = match self.0.try_lock() {
            Ok(slot) => slot,
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        };
        *slot = status;
        true
    }

    /// The newest status.
    pub(crate) fn read(&self) -> Arc<S> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
