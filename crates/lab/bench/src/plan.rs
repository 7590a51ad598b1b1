use std::path::PathBuf;
use std::time::Duration;

use bondwire_netns::traffic::Direction;
use bondwire_scenario::{PUBLIC_PROFILES, Scenario};

use crate::Peer;
use crate::fixture::Options;
use crate::rows::Row;

/// What every row is measured with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long one transfer lasts; goodput counts over the last two thirds.
    pub length: Duration,
    /// The congestion control of the inner TCP.
    pub congestion: String,
    /// The program under test.
    pub program: PathBuf,
    /// Where files may be kept while it runs.
    pub folder: PathBuf,
    /// The rivals that are there.
    pub peers: Vec<Peer>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            length: Duration::from_secs(12),
            congestion: "cubic".to_owned(),
            program: Options::built(),
            folder: std::env::temp_dir(),
            peers: Vec::new(),
        }
    }
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// On which links.
    pub scenarios: Vec<Scenario>,
    /// Which rows, and whether each was asked for by name: else only where the targets name the profile.
    pub rows: Vec<&'static Row>,
    /// Whether the rows were asked for by name.
    pub rows_named: bool,
    /// Which way.
    pub directions: Vec<Direction>,
    /// How often.
    pub runs: usize,
    /// With what.
    pub settings: Settings,
}

impl Plan {
    /// The public profiles, or those of these names, which may be files.
    ///
    /// # Errors
    /// Says which one is unknown, or what is wrong in its file.
    pub fn scenarios(names: &[String]) -> Result<Vec<Scenario>, String> {
        let public = PUBLIC_PROFILES.map(str::to_owned);
        let names = if names.is_empty() { &public[..] } else { names };
        names.iter().map(|name| Scenario::find(name).map_err(|error| error.to_string())).collect()
    }
}
