//! The demo with a person: a picture several times a second, and keys.

use std::fs::File;
use std::io::{self, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use bondwire_api::{Fault, Mode};
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::script::{Script, Step};
use super::session::Session;
use super::stop::Stop;
use super::view::{self, HISTORY_STEP, LinkScene, Scene};

/// The time between two pictures.
const PICTURE: Duration = Duration::from_millis(100);

/// What a key asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Toggle(usize),
    NextMode,
    Quit,
}

/// Shows the session until `q`, a signal, or the end of `length`; the terminal is as before afterwards, after a panic too.
///
/// # Errors
/// The terminal, the download or the bond broke.
pub(super) fn run(session: &mut Session, length: Option<Duration>, stop: &Stop) -> Result<(), Fault> {
    let _log = SetAside::new().map_err(|error| terminal_fault(&error))?;
    let mut terminal = ratatui::try_init().map_err(|error| terminal_fault(&error))?;
    let result = show(session, length, stop, &mut terminal);
    ratatui::restore();
    result
}

fn show(
    session: &mut Session,
    length: Option<Duration>,
    stop: &Stop,
    terminal: &mut ratatui::DefaultTerminal,
) -> Result<(), Fault> {
    let mut script = length.map(|length| Script::new(length, session.victim())).unwrap_or_default();
    let mut scene = Scene::new(&session.scenario().name, session.mode().name(), Vec::new(), session.best());
    let mut history_due = Instant::now();
    while !stop.wait(Duration::ZERO) {
        session.check()?;
        while let Some(step) = script.poll(session.elapsed()) {
            scene.message = match step {
                Step::Cut(link) | Step::Restore(link) => toggle(session, link)?,
                Step::End => return Ok(()),
            };
        }
        refresh(&mut scene, session);
        if Instant::now() >= history_due {
            scene.push_history(scene.rate);
            history_due += HISTORY_STEP;
        }
        terminal.draw(|frame| view::draw(frame, &scene)).map_err(|error| terminal_fault(&error))?;
        match next_wish(PICTURE, scene.links.len()).map_err(|error| terminal_fault(&error))? {
            Some(Wish::Quit) => return Ok(()),
            Some(Wish::Toggle(link)) => scene.message = toggle(session, link)?,
            Some(Wish::NextMode) => scene.message = next_mode(session),
            None => {}
        }
    }
    Ok(())
}

fn toggle(session: &mut Session, link: usize) -> Result<String, Fault> {
    let name = session.scenario().links.get(link).map_or_else(String::new, |link| link.name.clone());
    if session.is_cut(link) {
        session.restore(link)?;
        return Ok(format!("{name} is back: bondwire will find it by itself"));
    }
    session.cut(link)?;
    Ok(format!("{name} fell silent: nobody told bondwire"))
}

/// Goes on to the next mode; a refusal is worth a message, and not the end of the demo.
fn next_mode(session: &mut Session) -> String {
    if session.mode() == Mode::Balance {
        return "mode balance has no server: start the demo again for another mode".to_owned();
    }
    let at = Mode::ALL.iter().position(|mode| *mode == session.mode()).unwrap_or(0);
    match session.set_mode(Mode::ALL[(at + 1) % Mode::ALL.len()]) {
        Ok(Some(remark)) => remark,
        Ok(None) => format!("mode {}", session.mode()),
        Err(fault) => format!("{}: {}", fault.what, fault.why),
    }
}

fn refresh(scene: &mut Scene, session: &mut Session) {
    let link = |(at, link): (usize, &bondwire_scenario::Link)| LinkScene {
        name: link.name.clone(),
        kind: format!("{:?}", link.kind).to_lowercase(),
        limit: link.down,
        cut: session.is_cut(at),
        status: session.link_status(at),
    };
    scene.links = session.scenario().links.iter().enumerate().map(link).collect();
    scene.mode = session.mode().name().to_owned();
    scene.what = session.what();
    scene.elapsed = session.elapsed();
    scene.rate = session.sample_rate();
}

/// Waits for a key, at most for `time`.
fn next_wish(time: Duration, links: usize) -> io::Result<Option<Wish>> {
    match event::poll(time) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        // A signal: the loop looks for it.
        Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(None),
        Err(error) => return Err(error),
    }
    match event::read()? {
        Event::Key(key) if key.kind == KeyEventKind::Press => Ok(wish(key, links)),
        _ => Ok(None),
    }
}

fn wish(key: KeyEvent, links: usize) -> Option<Wish> {
    match key.code {
        KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Wish::Quit),
        KeyCode::Char('q') | KeyCode::Esc => Some(Wish::Quit),
        KeyCode::Char('m') => Some(Wish::NextMode),
        KeyCode::Char(digit @ '1'..='9') => {
            let link = usize::from(digit as u8 - b'1');
            (link < links).then_some(Wish::Toggle(link))
        }
        _ => None,
    }
}

fn terminal_fault(error: &io::Error) -> Fault {
    Fault::from_io(
        "cannot show the demo on this terminal",
        error,
        "run it without one: bondwire demo --seconds 20 --json",
    )
}

/// What is written to stderr meanwhile would spoil the picture: it goes into a file, and is shown when this is dropped.
#[derive(Debug)]
struct SetAside {
    log: File,
    stderr: OwnedFd,
}

impl SetAside {
    fn new() -> io::Result<Self> {
        let log = tempfile::tempfile()?;
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        rustix::stdio::dup2_stderr(&log)?;
        Ok(Self { log, stderr })
    }
}

impl Drop for SetAside {
    fn drop(&mut self) {
        // A log that cannot be shown must not hide why the demo ended.
        let _ = rustix::stdio::dup2_stderr(&self.stderr);
        let _ = self.log.rewind();
        let _ = io::copy(&mut self.log, &mut io::stderr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_what_the_foot_says() {
        let press = |code| wish(KeyEvent::new(code, KeyModifiers::NONE), 3);
        assert_eq!(press(KeyCode::Char('1')), Some(Wish::Toggle(0)));
        assert_eq!(press(KeyCode::Char('4')), None);
        assert_eq!(press(KeyCode::Char('m')), Some(Wish::NextMode));
        assert_eq!(press(KeyCode::Char('q')), Some(Wish::Quit));
        assert_eq!(press(KeyCode::Char('c')), None);
        assert_eq!(wish(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL), 3), Some(Wish::Quit));
    }
}
