use core::time::Duration;

use bondwire_netem::{Burst, Policer};
use bondwire_units::{Bitrate, ByteCount};

use super::*;

const MS: Duration = Duration::from_millis(1);

const WHOLE: &str = r#"
name = "whole"
seed = 9

[[links]]
name = "wan0"
kind = "cellular"
up = "5 Mbit/s"
down = "50 Mbit/s"
delay = "10 ms"
jitter = "5 ms"
loss = "0.1 %"
burst = { p = 0.001, r = "25 %" }
queue = "800 ms"
reorder = 0.01
duplicate = "1 %"
nat = true
v6 = true

[[links]]
name = "wan1"
down = "1.5 Gbit/s"
queue = "64 kB"
trace_up = [1, 5, 10]
policer_up = { rate = "2 Mbit/s" }
policer_down = { rate = "40 Mbit/s", burst = "20 ms" }
grants = "10 ms"
v4 = false
v6 = true
mtu = 1400

[[events]]
at = "6 s"
link = "wan0"
do = "return"

[[events]]
at = "4 s"
link = "wan0"
do = "silence"

[[events]]
at = "7 s"
link = "wan1"
do = "change"
up = "3 Mbit/s"
delay = "40 ms"

[[events]]
at = "8 s"
link = "wan1"
do = "trace"
trace_down = [10]

[[events]]
at = "9500 ms"
link = "wan0"
do = "nat-rebind"
"#;

#[test]
fn all_properties_arrive() {
    let scenario: Scenario = WHOLE.parse().unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seed, scenario.links.len()), ("whole", 9, 2));
    let (up, down) = scenario.pipe_configs("wan0").unwrap();
    assert_eq!(up.rate, Some(Bitrate::from_mbps(5.0)));
    assert_eq!(up.queue, Some(ByteCount::new(500_000)));
    assert_eq!(down.queue, Some(ByteCount::new(5_000_000)));
    assert_eq!((down.delay, down.jitter, down.loss), (10 * MS, 5 * MS, 0.001));
    assert_eq!(down.burst, Some(Burst { p: 0.001, r: 0.25 }));
    assert_eq!((down.reorder, down.duplicate), (0.01, 0.01));
    let wan0 = scenario.link("wan0").unwrap();
    assert!(wan0.nat && wan0.v4 && wan0.v6 && wan0.kind == LinkKind::Cellular && wan0.mtu == 1500);
    let (up, down) = scenario.pipe_configs("wan1").unwrap();
    assert_eq!(up.trace.unwrap().period(), 10 * MS);
    assert_eq!((down.rate, down.queue), (Some(Bitrate::from_mbps(1500.0)), Some(ByteCount::new(64_000))));
    assert_eq!(scenario.pipe_configs("wan2"), None);
}

#[test]
fn events_are_sorted_and_change_links() {
    let scenario: Scenario = WHOLE.parse().unwrap();
    let times: Vec<u128> = scenario.events.iter().map(|event| event.at.as_millis()).collect();
    assert_eq!(times, [4000, 6000, 7000, 8000, 9500]);
    assert_eq!(scenario.events[0].action, Action::Silence);
    assert_eq!((scenario.events[4].link, &scenario.events[4].action), (0, &Action::NatRebind));
    let mut link = scenario.links[1].clone();
    for event in &scenario.events {
        if let (1, Action::Change(change)) = (event.link, &event.action) {
            link.apply(change);
        }
    }
    let (up, down) = link.pipes();
    assert_eq!((up.rate, up.trace), (Some(Bitrate::from_mbps(3.0)), None));
    assert_eq!((down.delay, down.trace.unwrap().period()), (40 * MS, 10 * MS));
}

/// The message that a text is refused with.
fn refusal(text: &str) -> String {
    Scenario::parse(text).expect_err(text).to_string()
}

#[test]
fn errors_name_line_and_column() {
    let head = "name = \"x\"\n[[links]]\nname = \"a\"\n";
    let event = |rest: &str| format!("{head}[[events]]\nat = \"1 s\"\n{rest}\n");
    let cases = [
        (format!("{head}dely = \"1 ms\"\n"), "scenario:4:1: ", "unknown field `dely`"),
        (format!("{head}delay = 10\n"), "scenario:4:9: ", "is not a time"),
        (format!("{head}up = \"fast\"\n"), "scenario:4:6: ", "is not a rate"),
        (format!("{head}loss = 1.5\n"), "scenario:4:8: ", "is not a share"),
        (format!("{head}queue = \"some\"\n"), "scenario:4:9: ", "is not a queue"),
        (format!("{head}kind = \"string\"\n"), "scenario:4:8: ", "unknown variant"),
        (format!("{head}mtu = 100\n"), "scenario:4:7: ", "576"),
        (format!("{head}v4 = false\n"), "scenario:2:1: ", "neither IPv4 nor IPv6"),
        (format!("{head}trace_up = [5, 4]\n"), "scenario:4:12: ", "goes back in time"),
        (format!("{head}trace_up = \"file\"\n"), "scenario:4:12: ", "write the trace as an array"),
        (format!("{head}[[links]]\nname = \"a\"\n"), "scenario:5:8: ", "two links"),
        (format!("{head}[[links]]\nname = \"A b\"\n"), "scenario:5:8: ", "cannot name a link"),
        (event("link = \"b\"\ndo = \"silence\""), "scenario:6:8: ", "no link `b`: the links are a"),
        (event("link = \"a\"\ndo = \"die\""), "scenario:7:6: ", "unknown variant"),
        (event("link = \"a\"\ndo = \"change\""), "scenario:7:6: ", "changes nothing"),
        (event("link = \"a\"\ndo = \"trace\""), "scenario:7:6: ", "needs `trace_up`"),
        (event("link = \"a\"\ndo = \"nat-rebind\""), "scenario:7:6: ", "nat = true"),
        (event("link = \"a\"\ndo = \"silence\"\nloss = 0.1"), "scenario:7:6: ", "only `change`"),
        ("name = \"x\"\nlinks = []\n".into(), "scenario:2:9: ", "1 to 16 links, not 0"),
        ("name = \"x\"\nlinks = [\n".into(), "scenario:", ""),
    ];
    for (text, place, what) in cases {
        let message = refusal(&text);
        assert!(message.starts_with(place) && message.contains(what), "{text}→ {message}");
    }
}

#[test]
fn built_in_profiles_are_the_published_ones() {
    for (name, _) in BUILTIN {
        assert_eq!(Scenario::builtin(name).unwrap().name, name);
    }
    // Rate up and down in Mbit/s, delay and jitter in ms, loss.
    let table = |name: &str| -> Vec<(f64, f64, u128, u128, f64)> {
        let links = Scenario::builtin(name).unwrap().links;
        let row = |l: Link| {
            let rate = |r: Option<Bitrate>| r.unwrap().as_mbps();
            (rate(l.up), rate(l.down), l.delay.as_millis(), l.jitter.as_millis(), l.loss)
        };
        links.into_iter().map(row).collect()
    };
    assert_eq!(table("twin"), [(50.0, 50.0, 10, 0, 0.0); 2]);
    assert_eq!(table("home"), [(10.0, 50.0, 10, 0, 0.0), (20.0, 40.0, 25, 5, 0.001)]);
    assert_eq!(table("road"), [(30.0, 100.0, 20, 8, 0.002), (15.0, 120.0, 25, 10, 0.0)]);
    assert_eq!(table("geo"), [(10.0, 30.0, 30, 5, 0.0), (3.0, 25.0, 300, 0, 0.001)]);
    let event = [(15.0, 15.0, 40, 10, 0.01), (12.0, 10.0, 50, 15, 0.01), (8.0, 20.0, 60, 15, 0.02)];
    assert_eq!(table("event"), event);
    assert_eq!(table("skew"), [(100.0, 300.0, 5, 0, 0.0), (10.0, 30.0, 40, 10, 0.003)]);
    assert_eq!(table("poison"), [(50.0, 50.0, 15, 0, 0.0), (20.0, 20.0, 80, 40, 0.25)]);
    let demo = [(20.0, 40.0, 15, 0, 0.0), (15.0, 30.0, 30, 8, 0.003), (10.0, 20.0, 45, 0, 0.0)];
    assert_eq!(table("demo"), demo);
    let burst = Some(Burst { p: 0.001, r: 0.25 });
    assert_eq!(Scenario::builtin("road").unwrap().links[1].burst, burst);
    let poison = Scenario::builtin("poison").unwrap();
    assert_eq!(poison.pipe_configs("bad").unwrap().0.queue, Some(ByteCount::new(2_000_000)));
}

#[test]
fn unknown_profiles_are_named_with_the_known_ones() {
    let message = Scenario::find("tvin").unwrap_err().to_string();
    assert!(message.contains("no profile `tvin`") && message.contains("twin, home, road"), "{message}");
    let message = Scenario::find("no/such.toml").unwrap_err().to_string();
    assert!(message.starts_with("cannot read no/such.toml: "), "{message}");
}

#[test]
fn trace_files_stand_beside_the_scenario() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "name = \"x\"\n[[links]]\nname = \"a\"\ntrace_down = \"rate.trace\"\n").unwrap();
    let message = Scenario::load(&file).unwrap_err().to_string();
    assert!(message.contains("x.toml:4:14: cannot read"), "{message}");
    std::fs::write(folder.path().join("rate.trace"), "5\n20\n").unwrap();
    let scenario = Scenario::load(&file).unwrap();
    assert_eq!(scenario.links[0].trace_down.as_ref().unwrap().period(), 20 * MS);
}

#[test]
fn policers_and_grants() {
    let scenario = Scenario::parse(WHOLE).unwrap();
    let (up, down) = scenario.pipe_configs("wan1").unwrap();
    let policer =
        |mbps, burst| Some(Policer { rate: Bitrate::from_mbps(mbps), burst: ByteCount::new(burst) });
    assert_eq!((up.policer, down.policer), (policer(2.0, 25_000), policer(40.0, 100_000)));
    assert_eq!((up.grants, down.grants), (10 * MS, 10 * MS));
}
