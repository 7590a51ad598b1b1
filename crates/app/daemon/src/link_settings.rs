//! What is wanted of each link, and who said so.
//!
//! Four voices, the first that says something about a link's key counts: `links set` in this run; the command line
//! (`up --link wan1:secondary`); `links set` in an earlier run, from `links.toml` in the state folder; `[link.NAME]` in `client.toml`. With
//! none of them a link's priority follows from its kind, and it has no limits.
//!
//! The main thread reads, the control thread changes. A change is on disk before it counts.
//!
//! Bound: [`MAX_REMEMBERED`] links are remembered.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bondwire_api::{Fault, LinkChange, LinkKey, Priority};
use bondwire_bond::{LinkPriority, LinkRules};
use bondwire_netctl::LinkKind;
use bondwire_units::Bitrate;

use crate::config::{self, Limit, LinkConfig};
use crate::files;
use crate::names::InterfaceName;

/// The file in the state folder.
const FILE: &str = "links.toml";
/// Links of which something is remembered at most.
const MAX_REMEMBERED: usize = 64;

type ByName = BTreeMap<InterfaceName, LinkConfig>;

/// What counts for one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Its kind.
    pub(crate) kind: LinkKind,
    /// The priority that was asked for.
    pub(crate) setting: Priority,
    /// For the bond; none: the link is not used at all.
    pub(crate) rules: Option<LinkRules>,
    /// The limits, also where the link is not used.
    pub(crate) limit_up: Option<Bitrate>,
    pub(crate) limit_down: Option<Bitrate>,
}

impl Resolved {
    /// The word for the priority that counts.
    pub(crate) fn priority(&self) -> &'static str {
        self.rules.map_or(Priority::Never.name(), |rules| rules.priority.name())
    }
}

/// What is wanted of each link.
#[derive(Debug, Default)]
pub(crate) struct LinkSettings {
    configured: ByName,
    command: BTreeMap<InterfaceName, Priority>,
    path: PathBuf,
    said: Mutex<Said>,
}

/// What `links set` said.
#[derive(Clone, Debug, Default)]
struct Said {
    /// In this run.
    now: ByName,
    /// As it is on disk, this run's included.
    remembered: ByName,
}

impl LinkSettings {
    /// Of the configuration, the command line, and what is remembered in the state folder.
    ///
    /// # Errors
    /// The remembered file cannot be read, or holds something else.
    pub(crate) fn load(
        configured: ByName,
        command: BTreeMap<InterfaceName, Priority>,
        state: &Path,
    ) -> Result<Self, Fault> {
        let path = state.join(FILE);
        let remembered = config::load::<ByName>(&path)?.unwrap_or_default();
        let said = Mutex::new(Said { now: ByName::new(), remembered });
        Ok(Self { configured, command, path, said })
    }

    /// What counts for a link of which this kind was guessed.
    pub(crate) fn resolve(&self, name: &str, guess: LinkKind) -> Resolved {
        let Ok(name) = name.parse::<InterfaceName>() else { return resolved(guess, None, None, None) };
        let said = self.said();
        let now = said.now.get(&name).copied().unwrap_or_default();
        let remembered = said.remembered.get(&name).copied().unwrap_or_default();
        let configured = self.configured.get(&name).copied().unwrap_or_default();
        let command = self.command.get(&name).copied();
        resolved(
            configured.kind.unwrap_or(guess),
            now.priority.or(command).or(remembered.priority).or(configured.priority),
            now.limit_up.or(remembered.limit_up).or(configured.limit_up),
            now.limit_down.or(remembered.limit_down).or(configured.limit_down),
        )
    }

    /// As [`LinkSettings::resolve`], for a link whose kind is known by the word that is shown.
    pub(crate) fn resolve_named(&self, name: &str, kind: &str) -> Resolved {
        const KINDS: [LinkKind; 6] = [
            LinkKind::Ethernet,
            LinkKind::Wifi,
            LinkKind::Cellular,
            LinkKind::Satellite,
            LinkKind::Tethered,
            LinkKind::Unknown,
        ];
        let kind = KINDS.into_iter().find(|known| known.to_string() == kind).unwrap_or_default();
        self.resolve(name, kind)
    }

    /// Changes something, and remembers it.
    ///
    /// # Errors
    /// A limit is too small, too much is remembered already, or the file cannot be written; nothing has changed then.
    pub(crate) fn set(&self, name: &str, change: LinkChange) -> Result<(), Fault> {
        let what = || format!("link `{name}` was not changed");
        let key: InterfaceName = name
            .parse()
            .map_err(|why: String| Fault::usage(what(), why, "`bondwire links` lists the links"))?;
        let limit = |bps: Option<u64>| {
            Limit::try_from(bps.map(Bitrate::from_bps)).map_err(|why| {
                Fault::usage(what(), why, format!("for example `bondwire links set {name} limit-up 5M`"))
            })
        };
        let apply: Box<dyn Fn(&mut LinkConfig)> = match change {
            LinkChange::Priority(priority) => Box::new(move |link| link.priority = Some(priority)),
            LinkChange::LimitUp(bps) => {
                let limit = limit(bps)?;
                Box::new(move |link| link.limit_up = Some(limit))
            }
            LinkChange::LimitDown(bps) => {
                let limit = limit(bps)?;
                Box::new(move |link| link.limit_down = Some(limit))
            }
            LinkChange::Default(LinkKey::Priority) => Box::new(|link| link.priority = None),
            LinkChange::Default(LinkKey::LimitUp) => Box::new(|link| link.limit_up = None),
            LinkChange::Default(LinkKey::LimitDown) => Box::new(|link| link.limit_down = None),
        };
        let mut said = self.said();
        let mut next = said.clone();
        for links in [&mut next.now, &mut next.remembered] {
            let link = links.entry(key.clone()).or_default();
            apply(link);
            if *link == LinkConfig::default() {
                links.remove(&key);
            }
        }
        if next.remembered.len() > MAX_REMEMBERED {
            return Err(Fault::failed(
                what(),
                format!(
                    "settings of {MAX_REMEMBERED} links are remembered in {} already",
                    self.path.display()
                ),
                "remove from that file what is not needed any more, then restart bondwire",
            ));
        }
        self.save(&next.remembered)?;
        *said = next;
        Ok(())
    }

    fn save(&self, remembered: &ByName) -> Result<(), Fault> {
        let text = toml::to_string(remembered).map_err(|error| {
            Fault::failed(
                "the change could not be written",
                error.to_string(),
                "report this as a fault of bondwire",
            )
        })?;
        let text = format!(
            "# What `bondwire links set` said. `bondwire links set LINK KEY default` takes it back.\n{text}"
        );
        files::write_whole(&self.path, &text, files::PUBLIC)
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        // It is replaced as a whole: a panic cannot leave half of it.
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn resolved(
    kind: LinkKind,
    priority: Option<Priority>,
    limit_up: Option<Limit>,
    limit_down: Option<Limit>,
) -> Resolved {
    let setting = priority.unwrap_or_default();
    let (limit_up, limit_down) = (limit_up.and_then(Limit::rate), limit_down.and_then(Limit::rate));
    let priority = match setting {
        Priority::Automatic if kind == LinkKind::Cellular => Some(LinkPriority::Secondary),
        Priority::Automatic | Priority::Always => Some(LinkPriority::Always),
        Priority::Secondary => Some(LinkPriority::Secondary),
        Priority::Backup => Some(LinkPriority::Backup),
        Priority::Never => None,
    };
    let rules = priority.map(|priority| LinkRules { priority, limit_up, limit_down });
    Resolved { kind, setting, rules, limit_up, limit_down }
}

#[cfg(test)]
mod tests {
    use bondwire_api::FaultKind;

    use super::*;

    fn name(text: &str) -> InterfaceName {
        text.parse().expect("good")
    }

    fn configured(priority: Priority) -> ByName {
        let link = LinkConfig {
            priority: Some(priority),
            limit_up: Some("5M".parse().expect("good")),
            ..LinkConfig::default()
        };
        ByName::from([(name("wan0"), link)])
    }

    #[test]
    fn the_last_word_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let load = |command: &[(&str, Priority)]| {
            let command = command.iter().map(|(link, priority)| (name(link), *priority)).collect();
            LinkSettings::load(configured(Priority::Backup), command, dir.path()).expect("loads")
        };
        let setting = |settings: &LinkSettings| settings.resolve("wan0", LinkKind::Wifi).setting;
        let settings = load(&[]);
        assert_eq!(setting(&settings), Priority::Backup, "the file");
        settings.set("wan0", LinkChange::Priority(Priority::Never)).expect("written");
        assert_eq!(setting(&settings), Priority::Never);
        assert_eq!(settings.resolve("wan0", LinkKind::Wifi).priority(), "never");
        assert_eq!(setting(&load(&[])), Priority::Never, "remembered");
        let settings = load(&[("wan0", Priority::Always)]);
        assert_eq!(setting(&settings), Priority::Always, "the command line");
        settings.set("wan0", LinkChange::Priority(Priority::Secondary)).expect("written");
        assert_eq!(setting(&settings), Priority::Secondary, "set since");
        settings.set("wan0", LinkChange::Default(LinkKey::Priority)).expect("written");
        assert_eq!(setting(&settings), Priority::Always, "taken back");
        assert_eq!(setting(&load(&[])), Priority::Backup, "taken back on disk too");
    }

    #[test]
    fn limits_and_kinds() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut links = configured(Priority::Automatic);
        links.insert(name("eth1"), LinkConfig { kind: Some(LinkKind::Cellular), ..LinkConfig::default() });
        let settings = LinkSettings::load(links, BTreeMap::new(), dir.path()).expect("loads");
        let wan0 = settings.resolve("wan0", LinkKind::Ethernet);
        assert_eq!((wan0.priority(), wan0.limit_up), ("always", Some(Bitrate::from_mbps(5.0))));
        assert_eq!(settings.resolve("eth1", LinkKind::Ethernet).priority(), "secondary");
        assert_eq!(settings.resolve("wwan0", LinkKind::Cellular).priority(), "secondary");
        settings.set("wan0", LinkChange::LimitUp(None)).expect("written");
        settings.set("wan0", LinkChange::LimitDown(Some(1_500_000))).expect("written");
        let wan0 = settings.resolve("wan0", LinkKind::Ethernet);
        assert_eq!((wan0.limit_up, wan0.limit_down), (None, Some(Bitrate::from_mbps(1.5))));
        let text = std::fs::read_to_string(dir.path().join(FILE)).expect("written");
        assert!(
            text.contains("limit_up = \"none\"") && text.contains("limit_down = \"1500000 bit/s\""),
            "{text}"
        );
        let fault = settings.set("wan0", LinkChange::LimitUp(Some(9_600))).expect_err("too small");
        assert_eq!(fault.kind, FaultKind::Usage);
        assert!(fault.why.contains("100 kbit/s"), "{fault}");
    }

    #[test]
    fn what_cannot_be_written_does_not_count() {
        let dir = tempfile::tempdir().expect("a directory");
        let gone = dir.path().join("gone");
        let settings = LinkSettings::load(ByName::new(), BTreeMap::new(), &gone).expect("loads");
        assert!(settings.set("wan0", LinkChange::Priority(Priority::Never)).is_err());
        assert_eq!(settings.resolve("wan0", LinkKind::Wifi).setting, Priority::Automatic);
        std::fs::write(dir.path().join(FILE), "[wan0]\npriorty = \"never\"\n").expect("written");
        let fault = LinkSettings::load(ByName::new(), BTreeMap::new(), dir.path()).expect_err("a mistake");
        assert!(
            fault.what.contains("links.toml, line 2") && fault.what_to_do.contains("priority"),
            "{fault}"
        );
    }
}
