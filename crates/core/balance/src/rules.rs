//! The user's rules, and the addresses of the names that they speak of.

use core::net::IpAddr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

use bondwire_units::Timestamp;

use crate::config::{Action, MAX_RULES, Match, Rule};
use crate::request::{Request, is_port_in};
use crate::sites::plain_name;

/// The most addresses of names that rules speak of; the oldest gives way.
const MAX_NAMES: usize = 4096;
/// How long an address belongs to a name: caches of applications keep names longer than their records say.
const NAME_LASTS: Duration = Duration::from_secs(3600);

/// The rules, in order.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rules: Vec<Rule>,
    names: BTreeMap<IpAddr, (Box<str>, Timestamp)>,
    ages: VecDeque<(Timestamp, IpAddr)>,
}

impl Rules {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        let mut new = Self::default();
        new.set(rules);
        new
    }

    /// Other rules; addresses of names stay.
    pub(crate) fn set(&mut self, mut rules: Vec<Rule>) {
        rules.truncate(MAX_RULES);
        for rule in &mut rules {
            if let Some(name) = &mut rule.when.name {
                *name = plain_name(name.trim_start_matches("*.")).into_owned();
            }
        }
        self.rules = rules;
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter()
    }

    /// What the first rule that matches says.
    pub(crate) fn find(&self, request: &Request<'_>) -> Option<&Action> {
        self.rules.iter().find(|rule| matches(&rule.when, request)).map(|rule| &rule.then)
    }

    /// Keeps an address of a name that a rule speaks of; whether there is something new.
    pub(crate) fn learn(&mut self, name: &str, address: IpAddr, now: Timestamp) -> bool {
        let spoken_of = |rule: &Rule| rule.when.name.as_deref().is_some_and(|of| is_within(name, of));
        if !self.rules.iter().any(spoken_of) {
            return false;
        }
        let (address, until) = (address.to_canonical(), now + NAME_LASTS);
        let old = self.names.insert(address, (plain_name(name).into(), until));
        let is_new = old.as_ref().is_none_or(|(old, _)| **old != *plain_name(name));
        if old.is_none_or(|(_, before)| before < until) {
            self.ages.push_back((until, address));
        }
        while self.names.len() > MAX_NAMES || self.ages.len() > MAX_NAMES * 2 {
            self.forget_oldest();
        }
        is_new
    }

    /// Forgets addresses that are too old; whether there were any.
    pub(crate) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.names.len();
        while self.ages.front().is_some_and(|&(until, _)| until <= now) {
            self.forget_oldest();
        }
        self.names.len() < before
    }

    fn forget_oldest(&mut self) {
        if let Some((until, address)) = self.ages.pop_front()
            && self.names.get(&address).is_some_and(|&(_, newest)| newest <= until)
        {
            self.names.remove(&address);
        }
    }

    /// The addresses of `name` and its subdomains.
    pub(crate) fn addresses<'a>(&'a self, name: &'a str) -> impl Iterator<Item = IpAddr> + 'a {
        self.names.iter().filter(move |(_, (of, _))| is_within(of, name)).map(|(&address, _)| address)
    }
}

fn matches(when: &Match, request: &Request<'_>) -> bool {
    fn agrees<T>(wanted: Option<&T>, with: impl FnOnce(&T) -> bool) -> bool {
        wanted.is_none_or(with)
    }
    agrees(when.transport.as_ref(), |&transport| transport == request.transport)
        && agrees(when.ports.as_ref(), |ports| is_port_in(ports, request.remote.port()))
        && agrees(when.uid.as_ref(), |&uid| request.uid == Some(uid))
        && agrees(when.prefix.as_ref(), |prefix| {
            !request.remote.ip().is_unspecified() && prefix.contains(request.remote.ip())
        })
        && agrees(when.process.as_ref(), |process| {
            request.process.is_some_and(|name| is_process(name, process))
        })
        && agrees(when.name.as_ref(), |of| request.name.is_some_and(|name| is_within(name, of)))
}

/// Linux keeps 15 bytes of a process's name.
fn is_process(name: &str, wanted: &str) -> bool {
    name == wanted
        || (name.len() == 15 && wanted.len() > 15 && wanted.as_bytes().starts_with(name.as_bytes()))
}

/// Whether `name` is `of` or one of its subdomains.
fn is_within(name: &str, of: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).as_bytes();
    let of = of.as_bytes();
    let Some(start) = name.len().checked_sub(of.len()) else { return false };
    name[start..].eq_ignore_ascii_case(of) && (start == 0 || name[start - 1] == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Prefix;
    use crate::request::Transport;

    fn rule(when: Match) -> Rule {
        Rule { when, then: Action::Bypass }
    }

    #[test]
    fn all_that_is_set_must_match() {
        let prefix = Some(Prefix { address: [10, 1, 0, 0].into(), length: 16 });
        let rules = Rules::new(vec![
            rule(Match { prefix, ports: Some(80..=81), ..Match::default() }),
            rule(Match { name: Some("*.Example.org".into()), ..Match::default() }),
            rule(Match { process: Some("a-process-with-a-long-name".into()), ..Match::default() }),
        ]);
        let found = |request: Request<'_>| rules.find(&request).is_some();
        let to = |address: [u8; 4], port| Request::new(Transport::Tcp, (address, port).into());
        assert!(found(to([10, 1, 2, 3], 81)));
        assert!(!found(to([10, 1, 2, 3], 82)) && !found(to([10, 2, 2, 3], 81)));
        let other = to([192, 0, 2, 1], 443);
        assert!(found(other.with_name("example.ORG")) && found(other.with_name("a.b.example.org.")));
        assert!(!found(other.with_name("badexample.org")) && !found(other.with_name("org")));
        assert!(found(other.with_process("a-process-with-")) && !found(other.with_process("a-proc")));
    }

    #[test]
    fn names_are_kept_for_rules_only_and_bounded() {
        let name = Some("example.org".to_owned());
        let mut rules = Rules::new(vec![rule(Match { name, ..Match::default() })]);
        assert!(!rules.learn("example.com", [1; 4].into(), Timestamp::ZERO));
        for i in 0..10_000_u32 {
            let now = Timestamp::from_millis(u64::from(i));
            rules.learn("www.example.org", i.to_be_bytes().into(), now);
            rules.learn("www.example.org", 0_u32.to_be_bytes().into(), now);
        }
        assert!(rules.names.len() <= MAX_NAMES && rules.ages.len() <= MAX_NAMES * 2);
        assert!(rules.addresses("example.org").count() > 1_000);
        assert!(rules.expire(Timestamp::from_millis(4_000_000)));
        assert!(rules.names.is_empty() && rules.ages.is_empty());
    }
}
