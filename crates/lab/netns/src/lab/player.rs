use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};

use bondwire_scenario::Scenario;
use bondwire_units::Timestamp;

use super::Lab;
use crate::clock;
use crate::error::LabError;

/// A scenario's events, happening at their times. Dropping it stops them.
#[derive(Debug)]
pub struct Player {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Result<usize, LabError>>>,
}

impl Lab {
    /// Plays the events of `scenario`, which has to be the one that the lab was built from; their times count from
    /// `start`, and those that lie in the past happen at once.
    ///
    /// # Errors
    /// [`LabError::Scenario`] if the system refuses the thread for it.
    pub fn play(&self, scenario: &Scenario, start: Timestamp) -> Result<Player, LabError> {
        let (stop, stopped) = mpsc::channel();
        let (lab, scenario) = (self.clone(), scenario.clone());
        let play = move || {
            let mut played = 0;
            for event in &scenario.events {
                let wait = (start + event.at).since(clock::now());
                if stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                    return Ok(played);
                }
                let link = scenario.links.get(event.link).map_or("", |link| link.name.as_str());
                tracing::info!(at = event.at.as_secs_f64(), link, action = ?event.action, "event");
                lab.apply(link, &event.action)?;
                played += 1;
            }
            Ok(played)
        };
        let thread = thread::Builder::new().name("events".to_owned()).spawn(play).map_err(|error| {
            LabError::Scenario(format!("cannot start the thread that plays events: {error}"))
        })?;
        Ok(Player { stop: Some(stop), thread: Some(thread) })
    }
}

impl Player {
    /// Waits until the last event has happened; how many did.
    ///
    /// # Errors
    /// The first event's that failed; none follow it.
    pub fn finish(mut self) -> Result<usize, LabError> {
        let result = self.thread.take().map(JoinHandle::join);
        match result {
            Some(Ok(result)) => result,
            _ => Err(LabError::Scenario("the thread that plays events ended unexpectedly".to_owned())),
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // Its failure was for `finish` to tell.
            let _ = thread.join();
        }
    }
}
