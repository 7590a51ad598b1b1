//! Random link sets in virtual time: is a bond ever slower than its best link alone, and how near is it to the sum?
//!
//! ```text
//! cargo run --release -p bondwire-sim --example sweep -- [--sets N] [--seed S] [--seconds T] [--source greedy|cubic] [--threads N] [--json]
//! ```
//! `--seed S --sets 1` replays one set. The whole (200 sets of 60 s, both sources) takes about half an hour on one core.

use core::time::Duration;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bondwire_sim::report;
use bondwire_sim::sweep::{self, Distribution, Outcome, Source};

/// How many of the worst are listed.
const WORST: usize = 10;

struct Options {
    sets: u64,
    seed: u64,
    span: Duration,
    sources: Vec<Source>,
    threads: usize,
    json: bool,
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}");
            return ExitCode::from(2);
        }
    };
    let (outcomes, failures) = sweep_all(&options);
    if options.json {
        print_json(&outcomes);
    } else {
        for &source in &options.sources {
            print(source, &outcomes);
        }
    }
    failures.iter().for_each(|failure| eprintln!("{failure}"));
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sweep_all(options: &Options) -> (Vec<Outcome>, Vec<String>) {
    let next = AtomicU64::new(0);
    let results = Mutex::new(Vec::new());
    let jobs = options.sets * options.sources.len() as u64;
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                loop {
                    let job = next.fetch_add(1, Ordering::Relaxed);
                    if job >= jobs {
                        return;
                    }
                    let count = options.sources.len() as u64;
                    let (seed, source) =
                        (options.seed + job / count, options.sources[(job % count) as usize]);
                    let outcome = sweep::run(seed, sweep::MOST, source, options.span);
                    if let Ok(mut results) = results.lock() {
                        results.push((job, outcome));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(job, _)| *job);
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for (_, outcome) in results {
        match outcome {
            Ok(outcome) => outcomes.push(outcome),
            Err(why) => failures.push(why),
        }
    }
    (outcomes, failures)
}

fn print(source: Source, outcomes: &[Outcome]) {
    let mut of_source: Vec<&Outcome> = outcomes.iter().filter(|o| o.source == source).collect();
    let distribution = |value: fn(&Outcome) -> f64| {
        Distribution::of(of_source.iter().map(|o| value(o)).collect()).map(|d| d.to_string())
    };
    println!("{} ({} sets)", source.name(), of_source.len());
    println!("  to the best link alone  {}", distribution(Outcome::to_best).unwrap_or_default());
    println!("  to the sum              {}", distribution(Outcome::to_sum).unwrap_or_default());
    for (title, value) in
        [("to the best link", Outcome::to_best as fn(&Outcome) -> f64), ("to the sum", Outcome::to_sum)]
    {
        println!("  the worst {title}:");
        of_source.sort_by(|a, b| value(a).total_cmp(&value(b)));
        for outcome in of_source.iter().take(WORST) {
            println!("    {outcome}");
        }
    }
}

fn print_json(outcomes: &[Outcome]) {
    let rows: Vec<String> = outcomes
        .iter()
        .map(|o| {
            let rates: Vec<String> = o
                .links
                .iter()
                .map(|link| report::link_rate(link, o.direction).as_bps().to_string())
                .collect();
            format!(
                r#"{{"seed":{},"source":"{}","down":{},"goodput_bps":{},"best_alone_bps":{},"sum_bps":{},"links_bps":[{}]}}"#,
                o.seed,
                o.source.name(),
                o.direction == bondwire_sim::traffic::Direction::Down,
                o.goodput.as_bps(),
                o.alone.as_bps(),
                o.sum.as_bps(),
                rates.join(",")
            )
        })
        .collect();
    println!("[{}]", rows.join(",\n"));
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        sets: 200,
        seed: 0,
        span: Duration::from_secs(60),
        sources: Source::BOTH.to_vec(),
        threads: 2,
        json: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        let number = |text: String| text.parse().map_err(|_| format!("`{text}` is no whole number"));
        match argument.as_str() {
            "--sets" => options.sets = number(value()?)?,
            "--seed" => options.seed = number(value()?)?,
            "--seconds" => options.span = Duration::from_secs(number(value()?)?),
            "--threads" => options.threads = number(value()?)?.max(1) as usize,
            "--source" => {
                let text = value()?;
                let source = Source::BOTH.into_iter().find(|source| source.name() == text);
                options.sources =
                    vec![source.ok_or(format!("there is no source `{text}`: greedy or cubic"))?];
            }
            "--json" => options.json = true,
            other => {
                return Err(format!(
                    "there is no option `{other}`: --sets, --seed, --seconds, --source, --threads or --json"
                ));
            }
        }
    }
    Ok(options)
}
