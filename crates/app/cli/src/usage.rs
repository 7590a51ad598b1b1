//! Commands that were not understood, in the form of all errors: what, why, what to do.

use std::ffi::OsString;

use bondwire_api::Fault;
use clap::CommandFactory;
use clap::error::ErrorKind;

use crate::args::Cli;

/// What the parser says about `args`, which come without the program's name.
pub(crate) fn fault(error: &clap::Error, args: impl Iterator<Item = OsString>) -> Fault {
    let command = command_of(args);
    let mut remedy = format!("`{command} --help` shows how it is written");
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Fault::usage(
            "the command was not understood",
            format!("`{command}` needs a command"),
            remedy,
        );
    }
    // The parser's text is a message, then paragraphs of tips and usage.
    let text = error.render().to_string();
    let mut parts = text.trim().split("\n\n");
    let why = parts.next().unwrap_or_default().trim_start_matches("error: ");
    let why: Vec<&str> = why.lines().map(str::trim).collect();
    let tips = parts.flat_map(str::lines).filter_map(|line| line.trim().strip_prefix("tip: "));
    for tip in tips {
        remedy = format!("{tip}\n{remedy}");
    }
    Fault::usage("the command was not understood", why.join("\n"), remedy)
}

/// The command that was meant, as far as it is one: `bondwire server invite`.
fn command_of(args: impl Iterator<Item = OsString>) -> String {
    let root = Cli::command();
    let globals: Vec<String> = root
        .get_arguments()
        .filter(|arg| arg.get_action().takes_values())
        .filter_map(|arg| arg.get_long().map(|long| format!("--{long}")))
        .collect();
    let mut command = &root;
    let mut words = vec!["bondwire"];
    let mut is_value = false;
    for arg in args {
        let Some(arg) = arg.to_str() else { break };
        if std::mem::take(&mut is_value) {
            continue;
        }
        if arg.starts_with('-') {
            is_value = globals.iter().any(|global| global == arg);
            continue;
        }
        let Some(next) = command.find_subcommand(arg) else { break };
        words.push(next.get_name());
        command = next;
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn of(args: &[&str]) -> Fault {
        let error = Cli::try_parse_from([&["bondwire"], args].concat()).expect_err("wrong");
        fault(&error, args.iter().map(OsString::from))
    }

    #[test]
    fn the_command_s_own_help_is_named() {
        let fault = of(&["--config-dir", "up", "-v", "server", "invite"]);
        assert_eq!(fault.what_to_do, "`bondwire server invite --help` shows how it is written");
        assert!(fault.why.contains("<NAME>"), "{fault}");
        let fault = of(&["up", "--mod", "speed"]);
        assert!(
            fault.what_to_do.contains("'--mode'") && fault.what_to_do.contains("bondwire up --help"),
            "{fault}"
        );
        assert!(of(&["upp"]).what_to_do.ends_with("`bondwire --help` shows how it is written"));
        assert_eq!(of(&["server"]).why, "`bondwire server` needs a command");
    }
}
