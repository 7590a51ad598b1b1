//! The data plane's events, for a thread that also waits for other things: they are passed on one by one, and wake it.

use std::sync::mpsc::{Receiver, sync_channel};

use bondwire_api::Fault;
use bondwire_engine::{EVENTS, EngineEvent, EngineHandle};

use crate::wake::Waker;

/// The events of one data plane.
#[derive(Debug)]
pub(crate) struct Pump<E> {
    events: Receiver<EngineEvent<E>>,
}

impl<E: Send + 'static> Pump<E> {
    /// Takes the events of a data plane that has just started. `waker` is woken by each of them, and by its end.
    pub(crate) fn start<C, B>(engine: &mut EngineHandle<C, E, B>, waker: Waker) -> Result<Self, Fault> {
        let source = engine.take_events();
        let (sender, events) = sync_channel(EVENTS);
        let body = move || {
            for event in source.into_iter().flatten() {
                if sender.send(event).is_err() {
                    break;
                }
                waker.wake();
            }
            waker.wake();
        };
        std::thread::Builder::new().name("bw-events".into()).spawn(body).map_err(|error| {
            Fault::from_io("cannot start a thread", &error, "look at the system's limits")
        })?;
        Ok(Self { events })
    }

    /// The next event, if one is there.
    pub(crate) fn poll(&self) -> Option<EngineEvent<E>> {
        self.events.try_recv().ok()
    }
}
