//! What people and scripts read: text or one JSON object on stdout, errors and the log on stderr.

use std::io::{ErrorKind, IsTerminal, Write};

use bondwire_api::Fault;
use serde::Serialize;
use tracing_subscriber::EnvFilter;

use crate::args::Global;

/// Writes text to stdout; whether somebody still reads it. A reader that has gone is no reason to fail.
///
/// # Errors
/// It could not be written, because the disk is full for example.
pub(crate) fn say(text: &str) -> Result<bool, Fault> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Fault::failed(
            "cannot write the answer to stdout",
            error.to_string(),
            "see that there is room where the output goes, and try again",
        )),
    }
}

/// Writes a line to stderr. Nothing can be done about a stderr that is closed.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Writes the object under `--json`, else the text that `text` makes of it.
pub(crate) fn answer<T: Serialize>(
    global: &Global,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<(), Fault> {
    tell(global, value, text).map(drop)
}

/// As [`answer`]; whether somebody still reads it.
pub(crate) fn tell<T: Serialize>(
    global: &Global,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> Result<bool, Fault> {
    if global.json {
        let mut json = serde_json::to_string(value).map_err(|error| {
            Fault::failed(
                "cannot write the answer as JSON",
                error.to_string(),
                "report this as a fault of bondwire",
            )
        })?;
        json.push('\n');
        say(&json)
    } else {
        say(&text(value))
    }
}

/// Writes an error to stderr.
pub(crate) fn print_fault(fault: &Fault, json: bool) {
    let text = match serde_json::to_string(fault) {
        Ok(text) if json => text,
        _ => format!("error: {fault}"),
    };
    note(&text);
}

/// Starts the log on stderr: `INFO` and above, `DEBUG` with `-v`, `TRACE` with `-vv`; `RUST_LOG` overrules.
pub(crate) fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "info",
        1 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(verbose > 0);
    // Only a second start could fail, and there is one.
    let _ = log.try_init();
}

/// A rate for a narrow column: `39.2 M`, `810 k`, in bits per second.
pub(crate) fn rate(bps: u64) -> String {
    let bps = bps as f64;
    if bps >= 1e9 {
        format!("{:.2} Gbit/s", bps / 1e9)
    } else if bps >= 1e6 {
        format!("{:.1} Mbit/s", bps / 1e6)
    } else {
        format!("{:.0} kbit/s", bps / 1e3)
    }
}

/// An amount of data in decimal units.
pub(crate) fn amount(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes >= 1e9 {
        format!("{:.2} GB", bytes / 1e9)
    } else if bytes >= 1e6 {
        format!("{:.1} MB", bytes / 1e6)
    } else {
        format!("{:.0} kB", bytes / 1e3)
    }
}

/// A span of time in its two largest units.
pub(crate) fn span(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, _, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        assert_eq!(rate(39_240_000), "39.2 Mbit/s");
        assert_eq!(rate(0), "0 kbit/s");
        assert_eq!(amount(1_500_000_000), "1.50 GB");
        assert_eq!(
            (span(59), span(61), span(7_260), span(90_000)),
            ("59 s".into(), "1 min 1 s".into(), "2 h 1 min".into(), "1 d 1 h".into())
        );
    }
}
