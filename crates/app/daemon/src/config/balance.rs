//! The local load balancer: `[balance]` in `client.toml`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bondwire_balance::{
    Action, Config, MAX_RULES, MAX_TARGETS, Match, Ports, Prefix, ProbeMethod, Rule, Target, Transport,
};
use serde::Deserialize;

use super::streams::{Port, network, ports};
use crate::names::InterfaceName;

/// What mode `balance` may be told. Every key has a default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceConfig {
    /// The first one that matches a socket decides; none matches: load and delay do.
    pub rules: BalanceRules,
    /// Which sites keep their link, by port; `["tcp/443", "udp/443"]`.
    pub sticky_ports: Vec<PortName>,
    /// For how many minutes after its last new socket a site keeps its link, 0 to 1440; 10.
    pub sticky_minutes: Minutes,
    /// Whether interactive sockets take the link with the least delay; true.
    pub prefer_delay: bool,
    /// What is asked whether a link works, at most 8; well-known resolvers.
    pub probes: Option<Probes>,
    /// Resolvers for names that the proxy is told; those of the system.
    pub resolvers: Vec<Resolver>,
    /// Whether questions to resolvers are asked over the links and raced, in the transparent way; true.
    pub dns: bool,
    /// Who may use the proxy, and by which password; everyone who reaches it.
    pub login: Option<LoginConfig>,
}

impl Default for BalanceConfig {
    fn default() -> Self {
        Self {
            rules: BalanceRules::default(),
            sticky_ports: [Transport::Tcp, Transport::Udp]
                .map(|transport| PortName(Ports::one(transport, 443)))
                .into(),
            sticky_minutes: Minutes(10),
            prefer_delay: true,
            probes: None,
            resolvers: Vec::new(),
            dns: true,
            login: None,
        }
    }
}

impl BalanceConfig {
    /// As the policy takes it.
    pub fn to_policy(&self) -> Config {
        let mut config = Config {
            rules: self.rules.0.iter().map(|rule| rule.0.clone()).collect(),
            prefer_delay: self.prefer_delay,
            ..Config::default()
        };
        config.stickiness.ports = self.sticky_ports.iter().map(|port| port.0.clone()).collect();
        config.stickiness.duration = Duration::from_secs(60 * u64::from(self.sticky_minutes.0));
        if let Some(probes) = &self.probes {
            config.probes.targets = probes.0.iter().map(|probe| probe.0).collect();
        }
        config
    }
}

/// Who may use the proxy.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoginConfig {
    /// 1 to 255 bytes.
    pub user: Credential,
    /// 1 to 255 bytes.
    pub password: Credential,
}

/// A name or password: 1 to 255 bytes, as RFC 1929 has them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Credential(String);

impl Credential {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl core::fmt::Debug for Credential {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("(not shown)")
    }
}

impl TryFrom<String> for Credential {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if (1..=255).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err("1 to 255 bytes are needed here".to_owned())
        }
    }
}

/// Minutes, a day at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "i64")]
pub struct Minutes(u16);

impl TryFrom<i64> for Minutes {
    type Error = String;

    fn try_from(value: i64) -> Result<Self, String> {
        match u16::try_from(value) {
            Ok(minutes @ 0..=1440) => Ok(Self(minutes)),
            _ => Err(format!("{value} minutes are not possible: 0 to 1440")),
        }
    }
}

/// Ports of a transport: `tcp/443`, `udp/5000-5010`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct PortName(Ports);

impl TryFrom<String> for PortName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong =
            || format!("`{text}` is no port of a transport, such as \"tcp/443\" or \"udp/5000-5010\"");
        let (transport, range) = text.split_once('/').ok_or_else(wrong)?;
        Ok(Self(Ports { transport: transport_of(transport)?, ports: ports(Port::Range(range.to_owned()))? }))
    }
}

fn transport_of(text: &str) -> Result<Transport, String> {
    match text {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        _ => Err(format!("there is no transport `{text}` here: tcp or udp")),
    }
}

/// A resolver: an address, with its port unless that is 53.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Resolver(SocketAddr);

impl Resolver {
    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl TryFrom<String> for Resolver {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        address(&text, 53).map(Self).ok_or_else(|| {
            format!("`{text}` is no resolver's address, such as \"9.9.9.9\" or \"[2620:fe::fe]:53\"")
        })
    }
}

/// An address with or without a port.
fn address(text: &str, port: u16) -> Option<SocketAddr> {
    let plain = || text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).ok();
    text.parse().ok().or_else(plain)
}

/// What is asked whether a link works, at most [`MAX_TARGETS`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<ProbeName>")]
pub struct Probes(Vec<ProbeName>);

impl TryFrom<Vec<ProbeName>> for Probes {
    type Error = String;

    fn try_from(probes: Vec<ProbeName>) -> Result<Self, String> {
        match probes.len() {
            0..=MAX_TARGETS => Ok(Self(probes)),
            count => Err(format!("{count} probes are too many: at most {MAX_TARGETS}")),
        }
    }
}

/// One probe: `ping 1.1.1.1`, `dns 8.8.8.8`, `tcp 9.9.9.9:443`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ProbeName(Target);

impl TryFrom<String> for ProbeName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "`{text}` is no probe; they are \"ping 1.1.1.1\", \"dns 8.8.8.8\" and \"tcp 9.9.9.9:443\""
            )
        };
        let (method, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let (method, port) = match method {
            "ping" => (ProbeMethod::Ping, 0),
            "dns" => (ProbeMethod::Dns, 53),
            "tcp" => (ProbeMethod::Connect, 443),
            _ => return Err(wrong()),
        };
        Ok(Self(Target { address: address(rest.trim(), port).ok_or_else(wrong)?, method }))
    }
}

/// At most 1,024 rules, in the order in which they are asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<BalanceRule>")]
pub struct BalanceRules(Vec<BalanceRule>);

impl TryFrom<Vec<BalanceRule>> for BalanceRules {
    type Error = String;

    fn try_from(rules: Vec<BalanceRule>) -> Result<Self, String> {
        match rules.len() {
            0..=MAX_RULES => Ok(Self(rules)),
            count => Err(format!("{count} rules are too many: at most {MAX_RULES}")),
        }
    }
}

/// One rule. What is left out matches every socket.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "RawRule")]
pub struct BalanceRule(Rule);

// Nothing in a rule is a float.
impl Eq for BalanceRule {}

/// A rule as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    remote: Option<String>,
    port: Option<Port>,
    protocol: Option<String>,
    process: Option<String>,
    uid: Option<u32>,
    name: Option<String>,
    link: Option<InterfaceName>,
    only: Option<InterfaceName>,
    avoid: Option<InterfaceName>,
    #[serde(default)]
    bypass: bool,
}

impl TryFrom<RawRule> for BalanceRule {
    type Error = String;

    fn try_from(raw: RawRule) -> Result<Self, String> {
        let link = |name: InterfaceName, strict| Action::Link { name: name.to_string(), strict };
        let mut actions: Vec<Action> = Vec::new();
        actions.extend(raw.link.map(|name| link(name, false)));
        actions.extend(raw.only.map(|name| link(name, true)));
        actions.extend(raw.avoid.map(|name| Action::Avoid { name: name.to_string() }));
        actions.extend(raw.bypass.then_some(Action::Bypass));
        let [then] = <[Action; 1]>::try_from(actions).map_err(|actions| {
            let count = if actions.is_empty() { "nothing" } else { "more than one thing" };
            format!("a rule has to say one thing to do, and this one says {count}: link = \"NAME\", only = \"NAME\", avoid = \"NAME\" or bypass = true")
        })?;
        let prefix = raw.remote.as_deref().map(network).transpose()?;
        let when = Match {
            prefix: prefix.map(|(address, length)| Prefix { address, length }),
            ports: raw.port.map(ports).transpose()?,
            transport: raw.protocol.as_deref().map(transport_of).transpose()?,
            process: raw.process.map(|name| comm(&name)),
            uid: raw.uid,
            name: raw.name.map(|name| name.trim_matches('.').trim_start_matches("*.").to_lowercase()),
        };
        Ok(Self(Rule { when, then }))
    }
}

/// A process's name as the kernel has it: at most 15 bytes.
fn comm(name: &str) -> String {
    let mut end = name.len().min(15);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<BalanceConfig, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    #[test]
    fn nothing_has_to_be_said() {
        let config = read("").expect("good");
        assert_eq!(config, BalanceConfig::default());
        let policy = config.to_policy();
        assert_eq!(policy.stickiness.duration, Duration::from_secs(600));
        assert_eq!(policy.stickiness.ports.len(), 2);
        assert!(policy.rules.is_empty() && !policy.probes.targets.is_empty() && policy.prefer_delay);
    }

    #[test]
    fn everything_can_be_said() {
        let config = read(
            r#"
            rules = [
              { name = "*.Bank.example.", only = "wan0" },
              { process = "a-name-of-many-letters", protocol = "udp", port = "5000-5010", avoid = "wan1" },
              { remote = "198.51.100.0/24", uid = 1000, bypass = true },
            ]
            sticky_ports = ["tcp/8443"]
            sticky_minutes = 0
            prefer_delay = false
            probes = ["ping 192.0.2.1", "dns 192.0.2.2", "tcp 192.0.2.3:80", "tcp [2001:db8::1]:443"]
            resolvers = ["192.0.2.2", "[2001:db8::2]:5353"]
            dns = false
            login = { user = "me", password = "secret" }
            "#,
        )
        .expect("good");
        let policy = config.to_policy();
        assert_eq!(policy.rules[0].when.name.as_deref(), Some("bank.example"));
        assert_eq!(policy.rules[0].then, Action::Link { name: "wan0".into(), strict: true });
        assert_eq!(policy.rules[1].when.process.as_deref(), Some("a-name-of-many-"));
        assert_eq!(policy.rules[1].when.ports, Some(5000..=5010));
        assert_eq!(policy.rules[2].then, Action::Bypass);
        assert_eq!(policy.probes.targets[1].address, "192.0.2.2:53".parse().expect("good"));
        assert_eq!(policy.probes.targets[3].method, ProbeMethod::Connect);
        assert!(!config.dns);
        assert_eq!(config.resolvers[1].address().port(), 5353);
        assert!(!format!("{config:?}").contains("secret"));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("rules = [{ name = \"x\" }]", "says nothing"),
            ("rules = [{ link = \"a\", bypass = true }]", "more than one thing"),
            ("rules = [{ remote = \"x\", bypass = true }]", "neither an address nor a network"),
            ("rules = [{ protocol = \"icmp\", bypass = true }]", "tcp or udp"),
            ("probes = [\"http x\"]", "is no probe"),
            ("sticky_ports = [\"443\"]", "tcp/443"),
            ("sticky_minutes = 9999", "0 to 1440"),
            ("resolvers = [\"dns.example\"]", "no resolver's address"),
            ("login = { user = \"\", password = \"x\" }", "1 to 255"),
        ] {
            let error = read(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
