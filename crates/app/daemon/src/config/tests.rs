//! The written files are the documentation: they have to parse, and to say what the defaults are.

use bondwire_api::{FaultKind, Mode};
use bondwire_bond::{Rule, RuleClass, Rules};

use super::*;

fn client(text: &str) -> Result<ClientConfig, Fault> {
    parse(Path::new("client.toml"), text)
}

/// The template with its commented-out keys switched on.
fn switched_on(template: &str) -> String {
    template
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n")
}

#[test]
fn the_client_template_is_the_default() {
    assert_eq!(client(client::TEMPLATE).expect("parses"), ClientConfig::default());
    assert_eq!(client("").expect("parses"), ClientConfig::default());
    let mut shown = client(&switched_on(client::TEMPLATE)).expect("the commented-out keys exist");
    assert_eq!(shown.links.chosen.len(), 2, "the example");
    shown.links.chosen.clear();
    assert_eq!(shown.link.len(), 1, "the example");
    shown.link.clear();
    shown.server.endpoints.clear();
    assert!(!shown.streams.rules.is_empty(), "the example");
    shown.streams = StreamsConfig::default();
    assert!(shown.balance.login.is_some() && shown.balance.probes.is_some(), "the examples");
    shown.balance = BalanceConfig::default();
    assert_eq!(shown, ClientConfig::default());
}

#[test]
fn the_server_template_is_the_default() {
    let endpoint = "vpn.example.org:4433".parse().expect("good");
    let text = server::template(&endpoint, "10.99.0.0/24".parse().expect("good"), None);
    let config: ServerConfig = parse(Path::new("server.toml"), &text).expect("parses");
    assert_eq!(config.listen().to_string(), "[::]:4433");
    assert!(config.nat && config.network.v6.is_none());
    let shown: ServerConfig =
        parse(Path::new("server.toml"), &switched_on(&text)).expect("the commented-out keys exist");
    assert_eq!(shown.listen(), config.listen());
    assert_eq!((shown.nat, shown.tunnel, shown.limits), (config.nat, config.tunnel, config.limits));
    let text = server::template(
        &endpoint,
        "10.99.0.0/24".parse().expect("good"),
        Some("fd00::/64".parse().expect("good")),
    );
    let config: ServerConfig = parse(Path::new("server.toml"), &text).expect("parses");
    assert!(config.network.v6.is_some());
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let fault = client("# a comment\nmode = \"speed\"\n  defualt_route = true\n").expect_err("unknown");
    assert_eq!(fault.kind, FaultKind::Usage);
    assert_eq!(fault.what, "configuration error in client.toml, line 3, column 3");
    assert_eq!(fault.why, "there is no key `defualt_route` here");
    assert!(fault.what_to_do.starts_with("did you mean `default_route`?"), "{fault}");
    let fault = client("[tunnel]\nbandwidth = 3\n").expect_err("unknown");
    assert_eq!(fault.what, "configuration error in client.toml, line 2, column 1");
    assert_eq!(fault.what_to_do, "known here: device, name, mtu");
}

#[test]
fn wrong_values_have_a_place_too() {
    for (text, place, why) in [
        ("mode = \"sped\"", "line 1, column 8", "there is no value `sped` here"),
        ("\n[tunnel]\nmtu = 9000", "line 3, column 7", "an mtu of 9000 is not possible"),
        ("[tunnel]\nname = \"a/b\"", "line 2, column 8", "cannot be the name of an interface"),
        ("max_redundant = 9", "line 1, column 17", "2 to 5"),
        ("[link.wan0]\npriority = \"backups\"", "line 2, column 12", "there is no value `backups` here"),
        ("[link.wan0]\nlimit_up = \"5 MB/s\"", "line 2, column 12", "is not a limit"),
        ("[link.wan0]\nlimit_up = \"5k\"", "line 2, column 12", "too small"),
        ("[link.wan0]\nlimit = \"5k\"", "line 2, column 1", "there is no key `limit` here"),
        ("[server]\nendpoints = [\"nowhere\"]", "line 2, column 13", "HOST:PORT"),
        ("mode = ", "line 1, column 8", ""),
        ("default_route = \"yes\"", "line 1, column 17", "boolean"),
        ("[streams]\nrules = [{ port = 0, class = \"bulk\" }]", "line 2, column 9", "`0` is no port"),
        ("[streams]\nrules = [{ dscp = \"AF51\", class = \"bulk\" }]", "line 2, column 9", "is no DSCP"),
        (
            "[streams]\nrules = [{ remote = \"10.0.0.0/33\", class = \"bulk\" }]",
            "line 2, column 9",
            "neither an address",
        ),
        (
            "[streams]\nrules = [{ class = \"urgent\" }]",
            "line 2, column 20",
            "there is no value `urgent` here",
        ),
    ] {
        let fault = client(text).expect_err(text);
        assert!(fault.what.ends_with(place), "{text}: {}", fault.what);
        assert!(fault.why.contains(why), "{text}: {}", fault.why);
    }
    assert_eq!(client("mode = \"redundant\"").expect("good").mode, Mode::Redundant);
}

#[test]
fn rules_about_flows_are_read() {
    let config = client(
        "[streams]\nrules = [\n  { remote = \"203.0.113.0/24\", port = \"5000-5010\", class = \"real-time\" },\n  \
         { remote = \"2001:db8::1\", protocol = \"udp\", dscp = \"AF41\", class = \"bulk\" },\n  \
         { dscp = 46, class = \"default\" },\n]",
    );
    let rules = config.expect("good").streams.rules.to_rules();
    let rule = |remote, ports, protocol, dscp, class| Rule { remote, ports, protocol, dscp, class };
    let network = ("203.0.113.0".parse().expect("good"), 24);
    let host = ("2001:db8::1".parse().expect("good"), 128);
    let expected = [
        rule(Some(network), Some(5_000..=5_010), None, None, RuleClass::RealTime),
        rule(Some(host), None, Some(17), Some(34), RuleClass::Bulk),
        rule(None, None, None, Some(46), RuleClass::Default),
    ];
    assert_eq!(rules, Rules::new(expected.to_vec()));
}
