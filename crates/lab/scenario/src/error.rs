use std::path::PathBuf;

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The text breaks the rules of TOML or of a scenario.
    #[error("{origin}:{line}:{column}: {message}")]
    Invalid {
        /// The file, or `scenario` if it was none.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No built-in profile has this name.
    #[error("there is no profile `{name}`: the built-in ones are {}", crate::BUILTIN.map(|(name, _)| name).join(", "))]
    UnknownProfile {
        /// What was asked for.
        name: String,
    },
}

/// What is wrong at a place in the text: the file's name is added by whoever knows it.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Byte offset in the text.
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    pub(crate) fn locate(self, origin: &str, text: &str) -> ScenarioError {
        let before = text.get(..self.at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        ScenarioError::Invalid {
            origin: origin.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: self.message,
        }
    }
}
