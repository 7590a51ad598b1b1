use super::*;

fn measurement(share: f64, gap: f64, late_us_p99: u64) -> Measurement {
    Measurement {
        profile: "twin".to_owned(),
        direction: "down",
        row: "aggregation",
        figures: vec![
            Figure::new("of the sum", share, Unit::Ratio).at_least(0.88),
            Figure::new("longest gap", gap, Unit::Ms).at_most(gap.min(250.0)),
            Figure::absent("extra bytes", Unit::Percent),
        ],
        conditions: Conditions { late_us_p99, dropped: 0, cpu_idle: 0.5, is_full: false },
        failure: None,
    }
}

fn report() -> Report {
    let failed = Measurement {
        profile: "home".to_owned(),
        figures: Vec::new(),
        failure: Some("no connection | at all".to_owned()),
        ..measurement(0.0, 0.0, 1500)
    };
    Report {
        machine: Machine {
            kernel: "6.1".to_owned(),
            processor: "Example 1".to_owned(),
            cores: 2,
            memory_mb: 4096,
        },
        runs: 3,
        seconds: 12,
        congestion: "cubic".to_owned(),
        notes: vec!["mqvpn is left out: `mqvpn` is not installed (not found on PATH)".to_owned()],
        measurements: vec![
            measurement(0.9, 100.0, 80),
            measurement(0.87, f64::INFINITY, 90),
            measurement(0.91, 300.0, 70),
            failed,
        ],
    }
}

const MARKDOWN: &str = "\
3 runs; transfers of 12 s, TCP cubic. Linux 6.1, 2 × Example 1, 4096 MB of memory.

Note: mqvpn is left out: `mqvpn` is not installed (not found on PATH).

| profile | | row | figure | median | min – max | target | met |
|---|---|---|---|---|---|---|---|
| twin | down | aggregation | of the sum | 0.90 | 0.87 – 0.91 | ≥ 0.88 | yes |
| twin | down | aggregation | longest gap | 300 ms | 100 ms – ∞ | ≤ 250 ms | no |
| twin | down | aggregation | extra bytes | n/a |  |  |  |
| home | down | aggregation ⚠ | failed: no connection / at all | | | | no |

| profile | | row | emulator late, p99 | dropped by this machine | CPU idle, least |
|---|---|---|---|---|---|
| twin | down | aggregation | 90 µs | 0 | 50 % |
| home | down | aggregation ⚠ | 1500 µs | 0 | 50 % |

⚠ The machine was too busy in at least one run (the emulator over 1 ms late, packets dropped, or under 5 % of the CPU idle): these figures say more about it than about what was measured.
";

#[test]
fn the_table_is_as_reviewed() {
    assert_eq!(report().markdown(), MARKDOWN);
}

#[test]
fn the_object_has_every_value() {
    let json = report().json();
    let figure = &json["rows"][0]["figures"][1];
    assert_eq!(figure["values"], serde_json::json!([100.0, "infinite", 300.0]));
    assert_eq!((&figure["median"], &figure["met"]), (&serde_json::json!(300.0), &serde_json::json!(false)));
    assert_eq!(figure["target"], serde_json::json!({"kind": "at_most", "value": 250.0}));
    assert_eq!(json["rows"][1]["overloaded"], serde_json::json!(true));
    assert_eq!(json["rows"][0]["figures"][2]["median"], serde_json::Value::Null);
}
