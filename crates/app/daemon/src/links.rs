//! Which links a client uses.
//!
//! Those that were named, and no others; or, if none was named, every way to the internet that the machine has. A
//! name that does not exist at the start is a mistake and an error; one that exists and cannot be used yet is a
//! warning, unless nothing is left. Later on links come and go as they please.

use std::sync::Arc;

use bondwire_api::Fault;
use bondwire_netctl::Link;

use crate::config::suggest;
use crate::link_settings::{LinkSettings, Resolved};
use crate::names::InterfaceName;

/// Which links may be used.
#[derive(Clone, Debug)]
pub(crate) struct LinkChoice {
    /// Their names; empty: all candidates.
    named: Vec<InterfaceName>,
    /// The tunnel's own devices, which never are.
    own: Vec<String>,
    /// What is wanted of each.
    settings: Arc<LinkSettings>,
}

impl LinkChoice {
    /// Those of `named`, or all if there are none; never the tunnel's `own` devices.
    pub(crate) fn new(named: Vec<InterfaceName>, own: Vec<String>, settings: Arc<LinkSettings>) -> Self {
        Self { named, own, settings }
    }

    /// What is wanted of all links.
    pub(crate) fn settings(&self) -> Arc<LinkSettings> {
        Arc::clone(&self.settings)
    }

    /// What is wanted of a link.
    pub(crate) fn wanted(&self, link: &Link) -> Resolved {
        self.settings.resolve(&link.name, link.kind)
    }

    /// Whether this link belongs to the bond, be it usable now or not.
    pub(crate) fn includes(&self, link: &Link) -> bool {
        if self.own.contains(&link.name) {
            return false;
        }
        match self.named.is_empty() {
            true => link.is_candidate(),
            false => self.is_named(&link.name),
        }
    }

    /// Whether this link carries traffic now.
    pub(crate) fn uses(&self, link: &Link) -> bool {
        self.includes(link) && link.is_usable() && self.wanted(link).rules.is_some()
    }

    /// Why a link does not carry traffic; none if it can.
    pub(crate) fn obstacle(&self, link: &Link) -> Option<String> {
        let never = || {
            let name = &link.name;
            self.wanted(link).rules.is_none().then(|| {
                format!("link `{name}` has the priority `never` (`bondwire links` shows them; `priority` in client.toml, or `up --link {name}:always`)")
            })
        };
        obstacle(link).or_else(never)
    }

    fn is_named(&self, name: &str) -> bool {
        self.named.iter().any(|named| named.as_str() == name)
    }

    /// Looks at the links at the start. What is not as it should be, in words for the operator.
    ///
    /// # Errors
    /// A link was named that does not exist, or none can be used.
    pub(crate) fn check(&self, links: &[Link]) -> Result<Vec<String>, Fault> {
        let there = || links.iter().filter(|link| !link.is_loopback && !self.own.contains(&link.name));
        for named in &self.named {
            let name = named.as_str();
            if there().any(|link| link.name == name) {
                continue;
            }
            let list: Vec<&str> = there().map(|link| link.name.as_str()).collect();
            let known = if list.is_empty() {
                "this machine has no links".to_owned()
            } else {
                format!("the links of this machine: {}", list.join(", "))
            };
            let remedy = match suggest::nearest(name, list.iter().copied()) {
                Some(near) => format!("did you mean `{near}`? {known}"),
                None => known,
            };
            return Err(Fault::usage(
                format!("there is no link `{name}`"),
                "no interface of this machine has that name",
                remedy,
            ));
        }
        if there().any(|link| self.uses(link)) {
            return Ok(there()
                .filter(|link| self.is_named(&link.name))
                .filter_map(|link| self.obstacle(link))
                .collect());
        }
        let mut reasons: Vec<String> = there()
            .filter(|link| self.named.is_empty() || self.is_named(&link.name))
            .map(|link| {
                self.obstacle(link).unwrap_or_else(|| format!("link `{}` has no default route", link.name))
            })
            .collect();
        if reasons.is_empty() {
            reasons.push("this machine has no links".to_owned());
        }
        Err(Fault::failed(
            "no link can be used",
            reasons.join("\n"),
            "connect one of them and see to it that it gets an address (DHCP), then try again; `ip address` shows how they stand",
        ))
    }
}

/// Why a link cannot carry traffic; none if it can.
fn obstacle(link: &Link) -> Option<String> {
    let name = &link.name;
    if !link.is_up {
        Some(format!("link `{name}` is switched off (`ip link set {name} up` switches it on)"))
    } else if !link.has_carrier {
        Some(format!("link `{name}` is not connected: no cable, or no network"))
    } else if link.v4().is_none() && link.v6().is_none() {
        Some(format!("link `{name}` has no address (is DHCP running for it?)"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use bondwire_api::FaultKind;
    use bondwire_netctl::{Gateway, LinkAddress, LinkKind};

    use super::*;

    fn link(name: &str) -> Link {
        Link {
            index: 1,
            name: name.into(),
            mtu: 1500,
            kind: LinkKind::Ethernet,
            is_virtual: false,
            is_loopback: false,
            is_up: true,
            has_carrier: true,
            hardware: Vec::new(),
            addresses: vec![LinkAddress {
                prefix: "192.0.2.2/24".parse().expect("good"),
                is_global: true,
                is_tentative: false,
            }],
            gateway4: Some(Gateway { via: None, metric: 0, onlink: false }),
            gateway6: None,
        }
    }

    fn choice(names: &[&str]) -> LinkChoice {
        LinkChoice::new(
            names.iter().map(|name| name.parse().expect("good")).collect(),
            vec!["bondwire0".into()],
            Arc::default(),
        )
    }

    #[test]
    fn an_unknown_link_is_answered_with_those_that_exist() {
        let loopback = Link { is_loopback: true, ..link("lo") };
        let links = [link("wan0"), link("wan1"), link("bondwire0"), loopback];
        let fault = choice(&["wan7"]).check(&links).expect_err("unknown");
        assert_eq!(fault.kind, FaultKind::Usage);
        assert_eq!(fault.what, "there is no link `wan7`");
        assert_eq!(fault.what_to_do, "did you mean `wan0`? the links of this machine: wan0, wan1");
        assert!(choice(&["bondwire0"]).check(&links).is_err(), "the tunnel is no link");
    }

    #[test]
    fn a_link_without_an_address_is_named() {
        let bare = Link { addresses: Vec::new(), ..link("wan1") };
        let warnings = choice(&["wan0", "wan1"]).check(&[link("wan0"), bare.clone()]).expect("one is left");
        assert_eq!(warnings, ["link `wan1` has no address (is DHCP running for it?)"]);
        let fault = choice(&["wan1"]).check(&[link("wan0"), bare]).expect_err("none is left");
        assert!(fault.why.contains("`wan1` has no address") && !fault.why.contains("wan0"), "{fault}");
    }

    #[test]
    fn without_names_every_way_to_the_internet_is_taken() {
        let local = Link { gateway4: None, ..link("lan0") };
        let off = Link { is_up: false, ..link("wan1") };
        let all = choice(&[]);
        assert!(
            all.uses(&link("wan0")) && !all.uses(&local) && !all.uses(&off) && !all.uses(&link("bondwire0"))
        );
        assert!(choice(&["lan0"]).uses(&local), "a named link needs no default route");
        assert!(all.check(&[link("wan0"), local.clone(), off.clone()]).expect("one is there").is_empty());
        let fault = all.check(&[local, off]).expect_err("none is there");
        assert!(
            fault.why.contains("`lan0` has no default route") && fault.why.contains("`wan1` is switched off"),
            "{fault}"
        );
    }

    #[test]
    fn a_link_that_is_never_used_is_not() {
        use bondwire_api::{LinkChange, Priority};
        let dir = tempfile::tempdir().expect("a directory");
        let settings = LinkSettings::load(Default::default(), Default::default(), dir.path()).expect("loads");
        settings.set("wan1", LinkChange::Priority(Priority::Never)).expect("written");
        let choice = LinkChoice::new(Vec::new(), Vec::new(), Arc::new(settings));
        assert!(choice.uses(&link("wan0")) && !choice.uses(&link("wan1")) && choice.includes(&link("wan1")));
        let fault = choice.check(&[link("wan1")]).expect_err("none is left");
        assert!(fault.why.contains("`wan1` has the priority `never`"), "{fault}");
    }
}
