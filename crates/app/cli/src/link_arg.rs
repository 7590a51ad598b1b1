//! A link as it is named on the command line: `wan1`, `wan1:secondary`.

use std::str::FromStr;

use bondwire_api::Priority;
use bondwire_daemon::names::InterfaceName;

/// A link with its priority, if that is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkArg {
    /// The interface.
    pub(crate) name: InterfaceName,
    /// When it is used; none: as configured.
    pub(crate) priority: Option<Priority>,
}

impl FromStr for LinkArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // No interface has a colon in its name.
        let (name, priority) = match text.split_once(':') {
            Some((name, priority)) => (name, Some(priority.parse()?)),
            None => (text, None),
        };
        Ok(Self { name: name.parse()?, priority })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_may_carry_its_priority() {
        let link: LinkArg = "wan1:secondary".parse().expect("good");
        assert_eq!((link.name.as_str(), link.priority), ("wan1", Some(Priority::Secondary)));
        assert_eq!("wan1".parse::<LinkArg>().expect("good").priority, None);
        for bad in ["wan1:", "wan1:second", ":backup", "a b:never", "wan1:never:never"] {
            assert!(bad.parse::<LinkArg>().is_err(), "{bad}");
        }
    }
}
