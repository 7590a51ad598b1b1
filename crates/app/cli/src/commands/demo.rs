//! `bondwire demo`: a private internet with emulated links on this machine, a server and a client in it, one download.
//!
//! The program starts itself again inside the lab's wrapper ([`bondwire_netns::enter`]): all that follows happens in
//! namespaces that vanish with it. It builds the lab, measures a plain TCP download over each link alone, starts a server
//! and a client (this very program, as a person would), and downloads through the bond. A person sees a live view and may
//! cut links; without a person a script does it, and the figures are printed as one JSON object.

mod bond;
mod downloads;
mod figures;
mod live;
mod report;
mod script;
mod session;
mod stop;
mod unattended;
mod view;
mod watch;

use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

use bondwire_api::{Fault, Mode};
use bondwire_netns::IsolationError;
use bondwire_scenario::{BUILTIN, Scenario};

use crate::output;
use session::Session;
use stop::Stop;

/// How long a run without a person lasts, unless it is told.
const UNATTENDED: Duration = Duration::from_secs(20);

/// What `demo` accepts.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Args {
    /// How long it runs, 8 to 3600; a link is cut after 40 % and restored after 65 % of the time. Default: until you press
    /// q, or 20 without a terminal
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u16).range(8..=3600))]
    seconds: Option<u16>,
    /// The links: the name of a profile (twin, home, road, geo, event, skew, poison, demo), or a scenario file
    #[arg(long, value_name = "NAME|FILE", default_value = "demo")]
    profile: String,
    /// How packets are spread: speed, streaming or redundant; or balance: no server, and each of eight downloads on one link
    #[arg(long, value_name = "MODE", default_value = "speed", value_parser = mode)]
    mode: Mode,
}

/// The modes of a bond, and `balance`.
fn mode(text: &str) -> Result<Mode, String> {
    if text == Mode::Balance.name() {
        Ok(Mode::Balance)
    } else {
        text.parse().map_err(|why| format!("{why}, and balance"))
    }
}

/// Runs the demo; with `json`, or without a terminal, unattended.
///
/// # Errors
/// Namespaces are refused here, the scenario is wrong, bondwire broke in the lab, or a signal ended a run without a person.
pub(crate) fn run(args: Args, json: bool) -> Result<(), Fault> {
    let scenario = scenario(&args.profile)?;
    bondwire_netns::enter().map_err(isolation_fault)?;
    let stop = Stop::install().map_err(|error| {
        Fault::from_io("cannot listen for signals", &error, "end other programs and try again")
    })?;
    let attended = !json && std::io::stdout().is_terminal();
    let length = args.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    if let Some(remark) = args.mode.remark() {
        output::note(remark);
    }
    let Some(mut session) = Session::start(scenario, args.mode, &stop)? else {
        return Err(interrupted());
    };
    if attended {
        live::run(&mut session, length, &stop)?;
    } else if !unattended::run(&mut session, length.unwrap_or(UNATTENDED), &stop)? {
        return Err(interrupted());
    }
    let report = session.finish()?;
    if let Some(warning) = report.warning() {
        output::note(&format!("warning: {warning}"));
    }
    let text = if attended { report.to_text() } else { report.to_json()? };
    output::say(&text).map(drop)
}

/// A profile by its name, or a scenario by its file.
fn scenario(profile: &str) -> Result<Scenario, Fault> {
    if BUILTIN.iter().any(|(name, _)| *name == profile) {
        return Scenario::builtin(profile)
            .map_err(|error| Fault::failed("a built-in profile is broken", error.to_string(), ""));
    }
    let path = Path::new(profile);
    if !path.exists() {
        let names: Vec<&str> = BUILTIN.iter().map(|(name, _)| *name).collect();
        return Err(Fault::usage(
            format!("there is no profile `{profile}`"),
            "it is neither the name of a profile nor a file",
            format!("choose one of {}, or name a scenario file", names.join(", ")),
        ));
    }
    Scenario::load(path).map_err(|error| {
        Fault::usage(
            format!("cannot use the scenario {profile}"),
            error.to_string(),
            "correct it and try again",
        )
    })
}

fn isolation_fault(error: IsolationError) -> Fault {
    let what = "the demo cannot make its private network";
    match error {
        IsolationError::Refused { reason, said, remedy } => {
            Fault::permission(what, format!("{reason} (unshare said: {said})"), remedy)
        }
        other => Fault::failed(what, other.to_string(), "try again, or run this command as root"),
    }
}

fn interrupted() -> Fault {
    Fault::failed("the demo was interrupted", "it was told to end before it had its figures", "run it again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_found_by_name_and_by_file() {
        assert_eq!(scenario("demo").expect("built in").links.len(), 3);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(
            file.path(),
            "name = \"mine\"\n[[links]]\nname = \"a\"\nup = \"1 Mbit/s\"\ndown = \"1 Mbit/s\"\n",
        )
        .expect("written");
        assert_eq!(scenario(file.path().to_str().expect("text")).expect("a scenario").name, "mine");
    }

    #[test]
    fn an_unknown_profile_names_the_known_ones() {
        let fault = scenario("moon").expect_err("no such profile");
        assert_eq!(fault.kind.exit_code(), 2);
        assert!(fault.what_to_do.contains("twin") && fault.what_to_do.contains("demo"), "{fault}");
    }

    #[test]
    fn a_wrong_scenario_is_located() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "name = \"x\"\nlinkz = []\n").expect("written");
        let fault = scenario(file.path().to_str().expect("text")).expect_err("an unknown key");
        assert!(fault.why.contains('2'), "{fault}");
    }
}
