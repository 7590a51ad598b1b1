//! The demo without a person: a cut, a restore, the end.

use std::time::Duration;

use bondwire_api::Fault;

use super::script::{Script, Step};
use super::session::Session;
use super::stop::Stop;

/// How often it looks whether all still runs.
const TURN: Duration = Duration::from_millis(500);

/// Runs for `length`; false when it was told to stop before.
///
/// # Errors
/// The download or the bond broke.
pub(super) fn run(session: &mut Session, length: Duration, stop: &Stop) -> Result<bool, Fault> {
    let mut script = Script::new(length, session.victim());
    loop {
        session.check()?;
        session.sample_rate();
        while let Some(step) = script.poll(session.elapsed()) {
            eprintln!("{}", describe(session, step));
            match step {
                Step::Cut(link) => session.cut(link)?,
                Step::Restore(link) => session.restore(link)?,
                Step::End => return Ok(true),
            }
        }
        let due = script.next_at().map_or(TURN, |at| at.saturating_sub(session.elapsed()));
        if stop.wait(due.min(TURN)) {
            return Ok(false);
        }
    }
}

fn describe(session: &mut Session, step: Step) -> String {
    let (seconds, rate) = (session.elapsed().as_secs_f64(), session.sample_rate().as_mbps());
    let name = |link: usize| session.scenario().links.get(link).map_or("", |link| link.name.as_str());
    let what = match step {
        Step::Cut(link) => format!("cutting {}", name(link)),
        Step::Restore(link) => format!("restoring {}", name(link)),
        Step::End => "done".to_owned(),
    };
    format!("{seconds:>5.1} s  {rate:>6.1} Mbit/s  {what}")
}
