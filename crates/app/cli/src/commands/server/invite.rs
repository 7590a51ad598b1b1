//! `bondwire server invite NAME`

use std::time::Duration;

use bondwire_api::{ClientState, Fault};
use bondwire_daemon::identity;
use bondwire_daemon::names::ClientName;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde::Serialize;

use crate::args::Global;
use crate::output;

/// Lets a client in. Prints the invite, one line and nothing else: hand it over as you would a password. It works for one
/// client, once. A running server knows of it at once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The client's name: letters, digits, `-`, `_` and `.`
    name: ClientName,
    /// How long the invite may be used for the first time: 30m, 24h, 7d
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse_span)]
    expires: Duration,
    /// Show it as a QR code too, on stderr
    #[arg(long)]
    qr: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    invite: String,
    /// What there is to say about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    remark: Option<String>,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let invited = identity::invite(&global.folders(), &args.name, args.expires)?;
    let report = Report { invite: invited.invite, remark: remark(&args.name, invited.before) };
    if let (Some(remark), false) = (&report.remark, global.json) {
        output::note(&format!("note: {remark}"));
    }
    if args.qr {
        output::note(&match QrCode::new(&report.invite) {
            Ok(code) => code.render::<Dense1x2>().build(),
            Err(error) => format!("note: the invite does not fit a QR code ({error})"),
        });
    }
    output::answer(global, &report, |report| format!("{}\n", report.invite))
}

/// What is different now for a client that was known before.
fn remark(name: &ClientName, before: Option<ClientState>) -> Option<String> {
    match before {
        Some(ClientState::Invited) => Some(format!("the earlier invite for `{name}` no longer works")),
        Some(ClientState::Revoked) => Some(format!("`{name}` was revoked; this lets it in again")),
        _ => None,
    }
}

/// `90s`, `30m`, `24h`, `7d`, at most ten years.
fn parse_span(text: &str) -> Result<Duration, String> {
    let fail = || format!("`{text}` is not a time: write a number and s, m, h or d, such as 24h");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(fail)?;
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(fail()),
    };
    let number: u64 = number.parse().map_err(|_| fail())?;
    let span = number.saturating_mul(seconds);
    if span == 0 || span > 3_650 * 86_400 {
        return Err(format!("`{text}` is not possible: one second to ten years"));
    }
    Ok(Duration::from_secs(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans() {
        assert_eq!(parse_span("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_span("90s"), Ok(Duration::from_secs(90)));
        for bad in ["", "h", "24", "0h", "-1h", "1y", "99999999d", "ä"] {
            assert!(parse_span(bad).is_err(), "{bad}");
        }
    }
}
