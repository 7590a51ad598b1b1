//! The client's rules about flows: `[streams]` in `client.toml`.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use bondwire_bond::{MAX_RULES, Rule, RuleClass, Rules};
use bondwire_packet::protocol;
use serde::Deserialize;

/// What the user says of flows, in mode `streaming`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreamsConfig {
    /// The first one that matches a flow decides; none matches: how the flow behaves.
    pub rules: StreamRules,
}

/// At most 256 rules, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<StreamRule>")]
pub struct StreamRules(Vec<StreamRule>);

impl StreamRules {
    /// As the data plane takes them.
    pub fn to_rules(&self) -> Rules {
        Rules::new(self.0.iter().map(StreamRule::to_rule).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl TryFrom<Vec<StreamRule>> for StreamRules {
    type Error = String;

    fn try_from(rules: Vec<StreamRule>) -> Result<Self, String> {
        if rules.len() > MAX_RULES {
            return Err(format!("{} rules are too many: at most {MAX_RULES}", rules.len()));
        }
        Ok(Self(rules))
    }
}

/// One rule. What is left out matches every flow.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct StreamRule {
    remote: Option<(IpAddr, u8)>,
    ports: Option<RangeInclusive<u16>>,
    protocol: Option<u8>,
    dscp: Option<u8>,
    class: StreamClass,
}

/// What a rule makes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamClass {
    /// First, and protected.
    RealTime,
    /// Put in order and repaired, never real-time.
    Bulk,
    /// Neither, whatever it looks like.
    Default,
}

/// A rule as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    remote: Option<String>,
    port: Option<Port>,
    protocol: Option<String>,
    dscp: Option<Dscp>,
    class: StreamClass,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Port {
    Number(i64),
    Range(String),
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Dscp {
    Number(i64),
    Name(String),
}

impl StreamRule {
    fn to_rule(&self) -> Rule {
        Rule {
            remote: self.remote,
            ports: self.ports.clone(),
            protocol: self.protocol,
            dscp: self.dscp,
            class: match self.class {
                StreamClass::RealTime => RuleClass::RealTime,
                StreamClass::Bulk => RuleClass::Bulk,
                StreamClass::Default => RuleClass::Default,
            },
        }
    }
}

impl TryFrom<RawRule> for StreamRule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        Ok(Self {
            remote: raw.remote.as_deref().map(network).transpose()?,
            ports: raw.port.map(ports).transpose()?,
            protocol: raw.protocol.as_deref().map(number_of).transpose()?,
            dscp: raw.dscp.map(dscp).transpose()?,
            class: raw.class,
        })
    }
}

pub(super) fn network(text: &str) -> Result<(IpAddr, u8), String> {
    let wrong = || format!("`{text}` is neither an address nor a network such as 203.0.113.0/24");
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
    if bits > most { Err(wrong()) } else { Ok((address, bits)) }
}

pub(super) fn ports(port: Port) -> Result<RangeInclusive<u16>, String> {
    let wrong = |shown: &str| format!("`{shown}` is no port: 1 to 65535, or a range such as \"5000-5010\"");
    let one = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port > 0);
    let (shown, range) = match port {
        Port::Number(number) => (number.to_string(), one(&number.to_string()).map(|port| port..=port)),
        Port::Range(text) => {
            let (first, last) = text.split_once('-').unwrap_or((&text, &text));
            let range = one(first).zip(one(last)).map(|(first, last)| first..=last);
            (text, range)
        }
    };
    range.filter(|range| !range.is_empty()).ok_or_else(|| wrong(&shown))
}

fn number_of(text: &str) -> Result<u8, String> {
    match text {
        "udp" => Ok(protocol::UDP),
        "udplite" => Ok(protocol::UDP_LITE),
        _ => Err(format!(
            "`{text}` is no protocol for a rule: \"udp\" or \"udplite\" (TCP is put in order anyway)"
        )),
    }
}

/// Codepoints by their names (RFC 2474, 2597, 3246, 5865), or by number.
fn dscp(value: Dscp) -> Result<u8, String> {
    let (shown, code) = match value {
        Dscp::Number(number) => (number.to_string(), u8::try_from(number).ok()),
        Dscp::Name(name) => {
            let digit = |at: usize| name.as_bytes().get(at).map(|byte| byte.wrapping_sub(b'0'));
            let code = match (name.to_ascii_uppercase().as_str(), digit(2), digit(3)) {
                ("EF", ..) => Some(46),
                ("VA", ..) => Some(44),
                (upper, Some(class @ 1..=4), Some(drop @ 1..=3)) if upper.starts_with("AF") => {
                    Some(class * 8 + drop * 2)
                }
                (upper, Some(class @ 0..=7), None) if upper.starts_with("CS") => Some(class * 8),
                _ => None,
            };
            (name, code)
        }
    };
    code.filter(|code| *code < 64)
        .ok_or_else(|| format!("`{shown}` is no DSCP: 0 to 63, or a name such as \"EF\" or \"AF41\""))
}
