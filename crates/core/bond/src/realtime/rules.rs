//! The user's rules: the first one that matches a flow decides about it.

use bondwire_packet::FlowKey;
use core::net::IpAddr;
use core::ops::RangeInclusive;

/// Rules that are used at most; a person writes fewer.
pub const MAX_RULES: usize = 256;

/// What a rule makes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleClass {
    /// First, and protected.
    RealTime,
    /// Put in order and repaired like a TCP connection, never real-time.
    Bulk,
    /// Neither, whatever it looks like.
    Default,
}

impl RuleClass {
    /// Its code on the wire (docs/protocol.md, FLOW-1); 0 means that nothing is said.
    pub(crate) const fn code(this: Option<Self>) -> u8 {
        match this {
            None => 0,
            Some(Self::RealTime) => 1,
            Some(Self::Bulk) => 2,
            Some(Self::Default) => 3,
        }
    }

    /// The class of a code; codes that are not known say nothing.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::RealTime),
            2 => Some(Self::Bulk),
            3 => Some(Self::Default),
            _ => None,
        }
    }
}

/// One rule. What is not given matches everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The other end's address, and how many leading bits of it count.
    pub remote: Option<(IpAddr, u8)>,
    /// The port of either end.
    pub ports: Option<RangeInclusive<u16>>,
    /// The number of the transport protocol.
    pub protocol: Option<u8>,
    /// The differentiated services codepoint, 0 to 63.
    pub dscp: Option<u8>,
    /// What such a flow is.
    pub class: RuleClass,
}

impl Rule {
    /// Whether it is about the flow whose packets leave here under `key`.
    fn matches(&self, key: &FlowKey, dscp: u8) -> bool {
        self.protocol.is_none_or(|protocol| protocol == key.protocol)
            && self.dscp.is_none_or(|wanted| wanted == dscp)
            && self
                .ports
                .as_ref()
                .is_none_or(|ports| ports.contains(&key.src_port) || ports.contains(&key.dst_port))
            && self.remote.is_none_or(|(network, bits)| covers(network, bits, key.dst))
    }
}

/// Rules in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// These rules; those beyond [`MAX_RULES`] are left out.
    pub fn new(mut rules: Vec<Rule>) -> Self {
        rules.truncate(MAX_RULES);
        Self(rules)
    }

    /// What the first matching rule says.
    pub(crate) fn class_of(&self, key: &FlowKey, dscp: u8) -> Option<RuleClass> {
        self.0.iter().find(|rule| rule.matches(key, dscp)).map(|rule| rule.class)
    }
}

fn covers(network: IpAddr, bits: u8, address: IpAddr) -> bool {
    match (network, address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.checked_shr(32 - u32::from(bits.min(32))).unwrap_or(0) == 0
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let differ = network.to_bits() ^ address.to_bits();
            differ.checked_shr(128 - u32::from(bits.min(128))).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(remote: &str, port: u16) -> FlowKey {
        let src = IpAddr::from([10, 99, 0, 2]);
        FlowKey { protocol: 17, src, dst: remote.parse().unwrap(), src_port: 50_000, dst_port: port }
    }

    #[test]
    fn the_first_match_wins() {
        let any = Rule { remote: None, ports: None, protocol: None, dscp: None, class: RuleClass::Default };
        let rules = Rules::new(vec![
            Rule { ports: Some(5_000..=5_010), class: RuleClass::RealTime, ..any.clone() },
            Rule {
                remote: Some((IpAddr::from([203, 0, 113, 0]), 24)),
                class: RuleClass::Bulk,
                ..any.clone()
            },
            Rule { dscp: Some(46), ..any.clone() },
            Rule { protocol: Some(6), class: RuleClass::Bulk, ..any },
        ]);
        assert_eq!(rules.class_of(&key("203.0.113.9", 5_005), 0), Some(RuleClass::RealTime));
        assert_eq!(rules.class_of(&key("203.0.113.9", 4_999), 0), Some(RuleClass::Bulk));
        assert_eq!(rules.class_of(&key("203.0.114.9", 4_999), 46), Some(RuleClass::Default));
        assert_eq!(rules.class_of(&key("203.0.114.9", 4_999), 0), None);
        assert_eq!(rules.class_of(&key("2001:db8::1", 4_999), 0), None);
    }

    #[test]
    fn prefixes_of_every_length() {
        let (v4, v6) = ("192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap());
        assert!(covers("0.0.0.0".parse().unwrap(), 0, v4) && !covers("0.0.0.0".parse().unwrap(), 0, v6));
        assert!(covers(v4, 32, v4) && covers(v6, 128, v6) && covers("::".parse().unwrap(), 0, v6));
        assert!(
            !covers("192.0.2.0".parse().unwrap(), 32, v4) && covers("192.0.2.0".parse().unwrap(), 31, v4)
        );
    }
}
