use core::str::FromStr;
use std::path::Path;

use bondwire_netem::PipeConfig;

use crate::builtin::BUILTIN;
use crate::error::{Fault, ScenarioError};
use crate::event::Event;
use crate::link::Link;
use crate::raw::{RawScenario, ReadFile};

/// The most links of a scenario: as many as a session may have paths (docs/protocol.md, PATH-1).
pub const MAX_LINKS: usize = 16;

/// Links, and what happens to them.
#[derive(Clone, Debug, PartialEq)]
pub struct Scenario {
    /// What it is called.
    pub name: String,
    /// What it is for, in a sentence; may be empty.
    pub about: String,
    /// Where all randomness of a run comes from; default 1.
    pub seed: u64,
    /// The client's links, 1 to [`MAX_LINKS`], with distinct names.
    pub links: Vec<Link>,
    /// What happens, sorted by time; at the same time, in the order of the file.
    pub events: Vec<Event>,
}

impl Scenario {
    /// Reads a scenario from a text. Traces stand in the text itself.
    ///
    /// # Errors
    /// [`ScenarioError::Invalid`], with line and column.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let refuse = |name: &str| {
            Err(format!("`{name}` is a file, and this scenario is none: write the trace as an array"))
        };
        check(text, &refuse).map_err(|fault| fault.locate("scenario", text))
    }

    /// Reads a scenario file. The names of trace files in it are relative to it.
    ///
    /// # Errors
    /// [`ScenarioError::Unreadable`], or [`ScenarioError::Invalid`] with file, line and column.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let unreadable = |source| ScenarioError::Unreadable { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(unreadable)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let read = |name: &str| {
            let file = folder.join(name);
            std::fs::read_to_string(&file).map_err(|why| format!("cannot read {}: {why}", file.display()))
        };
        check(&text, &read).map_err(|fault| fault.locate(&path.display().to_string(), &text))
    }

    /// A profile that comes with bondwire; [`BUILTIN`] has their names.
    ///
    /// # Errors
    /// [`ScenarioError::UnknownProfile`], which names those that there are.
    pub fn builtin(name: &str) -> Result<Self, ScenarioError> {
        let text = BUILTIN.iter().find(|(known, _)| *known == name).map(|(_, text)| *text);
        text.ok_or_else(|| ScenarioError::UnknownProfile { name: name.to_owned() }).and_then(Self::parse)
    }

    /// A built-in profile if there is one of this name, else the file at this path.
    ///
    /// # Errors
    /// As [`Scenario::builtin`] if it looks like a name (no dot, no slash), else as [`Scenario::load`].
    pub fn find(name_or_path: &str) -> Result<Self, ScenarioError> {
        if name_or_path.contains(['.', '/']) {
            Self::load(Path::new(name_or_path))
        } else {
            Self::builtin(name_or_path)
        }
    }

    /// The link of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// What the two directions of the link of this name do to packets at the start: up, down.
    pub fn pipe_configs(&self, link: &str) -> Option<(PipeConfig, PipeConfig)> {
        self.link(link).map(Link::pipes)
    }
}

impl FromStr for Scenario {
    type Err = ScenarioError;

    fn from_str(text: &str) -> Result<Self, ScenarioError> {
        Self::parse(text)
    }
}

fn check(text: &str, read: ReadFile<'_>) -> Result<Scenario, Fault> {
    let raw: RawScenario = toml::from_str(text)
        .map_err(|error| Fault::new(error.span().map_or(0, |span| span.start), error.message()))?;
    let links_at = raw.links.span().start;
    let count = raw.links.get_ref().len();
    if count == 0 || count > MAX_LINKS {
        return Err(Fault::new(links_at, format!("a scenario has 1 to {MAX_LINKS} links, not {count}")));
    }
    let mut links: Vec<Link> = Vec::with_capacity(count);
    for raw_link in raw.links.into_inner() {
        let (at, name_at) = (raw_link.span().start, raw_link.get_ref().name.span().start);
        let link = raw_link.into_inner().check(at, read)?;
        if links.iter().any(|other| other.name == link.name) {
            return Err(Fault::new(name_at, format!("there are two links `{}`: rename one", link.name)));
        }
        links.push(link);
    }
    let mut events = Vec::with_capacity(raw.events.len());
    for raw_event in raw.events {
        let raw_event = raw_event.into_inner();
        let (at, name) = (raw_event.at.0, raw_event.link.get_ref());
        let Some(link) = links.iter().position(|link| link.name == *name) else {
            let known = links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
            let message = format!("there is no link `{name}`: the links are {known}");
            return Err(Fault::new(raw_event.link.span().start, message));
        };
        let action = raw_event.check(&links[link], read)?;
        events.push(Event { at, link, action });
    }
    events.sort_by_key(|event| event.at);
    Ok(Scenario { name: raw.name, about: raw.about, seed: raw.seed, links, events })
}
