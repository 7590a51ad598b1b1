//! The benchmark's command; `cargo xtask bench` builds bondwire, and becomes this. See docs/benchmarks.md.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use bondwire_bench::fixture::Options;
use bondwire_bench::rows::{self, ROWS};
use bondwire_bench::{Peer, Plan, Report, Settings, balance};
use bondwire_netns::traffic::Direction;
use clap::{Parser, ValueEnum};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tempfile::TempDir;

/// Measures bondwire on emulated links, beside single links and rivals, and prints a Markdown table. `balance` in the place of
/// profiles measures the load balancer, over unshaped links.
#[derive(Debug, Parser)]
#[command(name = "bondwire-bench", bin_name = "cargo xtask bench")]
struct Args {
    /// Profiles, or scenario files; or `balance` alone [default: the seven public profiles]
    #[arg(value_name = "PROFILE")]
    profiles: Vec<String>,
    /// Measure this rival too: mptcp, wireguard-go, mqvpn, glorytun, mlvpn; for `balance` microsocks, go-dispatch-proxy; may be
    /// repeated
    #[arg(long, value_name = "PEER", num_args = 1.., value_delimiter = ',')]
    against: Vec<String>,
    /// Only these rows, on every profile; may be repeated [default: all, where the targets name the profile]
    #[arg(long, value_name = "ROW", num_args = 1.., value_delimiter = ',')]
    rows: Vec<String>,
    /// How often; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// How long one transfer lasts
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(3..=600))]
    seconds: u32,
    /// The congestion control of the inner TCP
    #[arg(long, default_value = "cubic")]
    cc: String,
    /// Only one way
    #[arg(long, value_enum)]
    direction: Option<Way>,
    /// Write everything to this file as one JSON object
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The program to measure [default: the one that was built beside this one]
    #[arg(long, value_name = "PATH")]
    bondwire: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Up,
    Down,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let json = args.json.clone();
    let result = job(args).and_then(|(mut plan, measure)| {
        bondwire_netns::enter().map_err(|error| error.to_string())?;
        check_congestion(&plan.settings.congestion)?;
        let folder = tempfile::Builder::new().prefix("bondwire-bench-").tempdir();
        let folder = folder.map_err(|error| format!("cannot make a folder for temporary files: {error}"))?;
        plan.settings.folder = folder.path().to_owned();
        end_on_signals(&folder)?;
        let report = measure(&plan);
        print!("{}", report.markdown());
        match json {
            None => Ok(()),
            Some(file) => fs::write(&file, format!("{:#}\n", report.json()))
                .map_err(|error| format!("cannot write {}: {error}", file.display())),
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Everything that is left to do once the lab is entered.
type Measure = Box<dyn FnOnce(&Plan) -> Report>;

/// What was asked for, as far as it can be known outside of the lab.
fn job(args: Args) -> Result<(Plan, Measure), String> {
    if args.profiles.iter().any(|name| name == balance::PROFILE) {
        return balancer(args);
    }
    let (plan, notes) = plan(args)?;
    Ok((plan, Box::new(|plan| bondwire_bench::run(plan, notes))))
}

/// The load balancer's rows.
fn balancer(args: Args) -> Result<(Plan, Measure), String> {
    if args.profiles.len() > 1 {
        return Err(format!("`{}` stands alone, without profiles", balance::PROFILE));
    }
    let known = || balance::ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    let row = |name: &String| {
        balance::find(name).ok_or(format!("`balance` has no row `{name}`; choose among {}", known()))
    };
    let mut rows = args.rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    if rows.is_empty() {
        rows = balance::ROWS.iter().collect();
    }
    let (mut rivals, mut notes) = (Vec::new(), Vec::new());
    for name in &args.against {
        if !balance::Rival::NAMES.contains(&name.as_str()) {
            let known = balance::Rival::NAMES.join(", ");
            return Err(format!("`balance` has no peer `{name}`; choose among {known}"));
        }
        match balance::Rival::find(name) {
            Ok(rival) => rivals.push(rival),
            Err(why) => notes.push(why),
        }
    }
    let plan = plan(Args { profiles: Vec::new(), rows: Vec::new(), against: Vec::new(), ..args })?.0;
    let settings = Settings { length: balance::LENGTH, ..plan.settings };
    let plan = Plan { scenarios: Vec::new(), rows: Vec::new(), settings, ..plan };
    Ok((plan, Box::new(move |plan| balance::run(plan, &rows, &rivals, notes))))
}

/// Rows on profiles.
fn plan(args: Args) -> Result<(Plan, Vec<String>), String> {
    let known = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    let row =
        |name: &String| rows::find(name).ok_or(format!("there is no row `{name}`; choose among {}", known()));
    let named = args.rows.iter().map(row).collect::<Result<Vec<_>, _>>()?;
    let rows_named = !named.is_empty();
    let (peers, notes) = rivals(&args.against)?;
    let program = args.bondwire.unwrap_or_else(Options::built);
    if !program.is_file() {
        return Err(format!("{} is no file: build bondwire, or name it with --bondwire", program.display()));
    }
    let directions = match args.direction {
        None => vec![Direction::Down, Direction::Up],
        Some(Way::Down) => vec![Direction::Down],
        Some(Way::Up) => vec![Direction::Up],
    };
    let settings = Settings {
        length: Duration::from_secs(args.seconds.into()),
        congestion: args.cc,
        program: fs::canonicalize(&program).map_err(|error| format!("{}: {error}", program.display()))?,
        peers,
        ..Settings::default()
    };
    let plan = Plan {
        scenarios: Plan::scenarios(&args.profiles)?,
        rows: if rows_named { named } else { ROWS.iter().collect() },
        rows_named,
        directions,
        runs: args.runs as usize,
        settings,
    };
    Ok((plan, notes))
}

/// The rivals that are here, and notes for the report: their versions, and why others are left out.
fn rivals(names: &[String]) -> Result<(Vec<Peer>, Vec<String>), String> {
    let (mut peers, mut notes) = (Vec::new(), Vec::new());
    for name in names {
        let peer = Peer::named(name).ok_or_else(|| {
            format!(
                "there is no peer `{name}`; choose among {} (profiles stand before --against)",
                Peer::names()
            )
        })?;
        match peer.check() {
            Ok(()) => {
                peers.push(peer);
                notes.extend(peer.version().map(|version| format!("{name} is {version}")));
            }
            Err(why) => notes.push(why),
        }
    }
    Ok((peers, notes))
}

/// Whether the kernel has it, before an hour is spent.
fn check_congestion(name: &str) -> Result<(), String> {
    let known = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    if known.is_empty() || known.split_whitespace().any(|known| known == name) {
        return Ok(());
    }
    Err(format!("this kernel has no congestion control `{name}`; it has {}", known.trim()))
}

/// On a signal the files go, and with this process, which is the first of its namespace, all others and the lab.
fn end_on_signals(folder: &TempDir) -> Result<(), String> {
    let mut signals =
        Signals::new([SIGINT, SIGTERM, SIGHUP]).map_err(|error| format!("cannot catch signals: {error}"))?;
    let folder = folder.path().to_owned();
    thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            eprintln!("interrupted");
            end_all_others();
            // They end soon, and write nothing any more. What is left in the end harms nobody.
            for _ in 0..20 {
                if fs::remove_dir_all(&folder).is_ok() {
                    break;
                }
                thread::sleep(Duration::from_millis(10));
            }
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

/// Kills all processes of this one's PID namespace, of which it has to be the first; else it would hit strangers.
fn end_all_others() {
    if std::process::id() == 1 {
        // Without any others there is nobody to kill.
        let _ = kill(Pid::from_raw(-1), Signal::SIGKILL);
    }
}
