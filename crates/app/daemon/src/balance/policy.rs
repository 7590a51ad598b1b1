//! The policy under its lock, shared by the main thread and the proxy's.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bondwire_balance::{Balancer, Config};
use bondwire_engine::Clock;
use bondwire_units::Timestamp;

use crate::wake::Waker;

/// The policy. Clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    balancer: Arc<Mutex<Balancer>>,
    waker: Waker,
}

impl Policy {
    /// A policy without links.
    pub(super) fn new(config: Config, seed: u64, waker: Waker) -> Self {
        Self { balancer: Arc::new(Mutex::new(Balancer::new(config, seed))), waker }
    }

    /// Asks or tells it something. Nothing that waits may be done meanwhile.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Balancer, Timestamp) -> T) -> T {
        act(&mut self.lock(), Clock.now())
    }

    /// As [`Policy::with`], from a thread other than the main one, for news that it should look at now.
    pub(super) fn with_news<T>(&self, act: impl FnOnce(&mut Balancer, Timestamp) -> T) -> T {
        let result = self.with(act);
        self.waker.wake();
        result
    }

    fn lock(&self) -> MutexGuard<'_, Balancer> {
        // A panic in the policy is a fault of ours; refusing everything from then on would make it worse.
        self.balancer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
