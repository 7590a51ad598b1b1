//! The benchmark end to end: a lab, a bond in it, one row, one report. Figures are printed and not judged.
#![forbid(unsafe_code)]

use bondwire_bench::fixture::{Options, in_lab, seconds};
use bondwire_bench::{Plan, Settings, rows, run};
use bondwire_netns::traffic::Direction;

#[test]
fn a_short_aggregation_on_twin_gives_a_whole_report() {
    // Another package's program: cargo builds it with the workspace's tests, and not with this crate's alone.
    if !Options::built().is_file() {
        println!("skipped: bondwire is not built; `cargo build` does that");
        return;
    }
    let name = "a_short_aggregation_on_twin_gives_a_whole_report";
    in_lab(env!("CARGO_TARGET_TMPDIR"), name, || {
        let plan = Plan {
            scenarios: Plan::scenarios(&["twin".to_owned()]).expect("a profile"),
            rows: vec![rows::find("aggregation").expect("a row")],
            rows_named: true,
            directions: vec![Direction::Down],
            runs: 1,
            settings: Settings { length: seconds(3), ..Settings::default() },
        };
        let report = run(&plan, vec!["a smoke test".to_owned()]);
        println!("{}", report.markdown());
        let json = report.json();
        let row = &json["rows"][0];
        assert_eq!(row["failures"], serde_json::json!([]), "{json:#}");
        let figures = row["figures"].as_array().expect("a list");
        let share = figures.iter().find(|figure| figure["name"] == "of the sum of the links");
        let share = share.and_then(|figure| figure["median"].as_f64()).expect("a number");
        assert!((0.01..1.0).contains(&share), "{share}");
        assert!(row["conditions"]["late_us_p99"].as_u64().expect("a number") > 0);
    });
}
