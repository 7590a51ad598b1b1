//! The project's own commands, run as `cargo xtask COMMAND`.
//!
//! `demo` builds the release binary and becomes it, `bench` does so with the benchmark; `test` is what `.ci/run` calls and
//! what a person types before a commit; `check` is the part of `test` that runs no test. Nothing here is needed to build
//! or to use bondwire, so the dependencies are few: a fresh clone pays for them before anything else.

#![forbid(unsafe_code)]

mod bench;
mod bpf;
mod check;
mod demo;
mod process;
mod release;
mod setup;
mod test;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  demo [ARGS...]   build bondwire and run `bondwire demo ARGS` (try: --seconds 20 --json)
  test [FILTER]    set this machine up, then run the checks and all tests; with FILTER only the tests whose name has it
  bench [ARGS...]  build bondwire, measure it on emulated links and print a table (see docs/benchmarks.md; try: --help)
  bpf              build the programs that capturing loads into the kernel (after a change of their source; needs clang)
  check            formatting, clippy, documentation, layers, sizes, requirements; runs no test
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match (command.as_str(), rest.as_slice()) {
        ("demo", args) => demo::run(args),
        ("bench", args) => bench::run(args),
        ("test", []) => test::run(None),
        ("test", [filter]) if !filter.starts_with('-') => test::run(Some(filter)),
        ("bpf", []) => bpf::run(),
        ("check", []) => check::run(),
        ("help" | "--help" | "-h", _) => {
            print!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
