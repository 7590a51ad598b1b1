//! `bondwire links`

use bondwire_api::{ControlClient, Fault, LinkAnswer, LinkChange, LinkEntry, LinkKey, Links};
use bondwire_daemon::config::Limit;

use crate::args::Global;
use crate::output::{self, rate};
use crate::table::Table;

/// Shows the links of the bond, with priority and limits; `links set` changes them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Change when a link is used, or how much it may carry, from now on and for later runs
    Set(SetArgs),
}

/// Changes when a link is used, or how much it may carry.
#[derive(Debug, clap::Args)]
#[command(after_help = SET_HELP)]
struct SetArgs {
    /// The link's name, as `bondwire links` shows it
    link: String,
    /// priority, limit-up or limit-down
    #[arg(hide_possible_values = true)]
    key: Key,
    /// The value; `default` forgets what was set
    value: String,
}

const SET_HELP: &str = "\
A change takes effect at once, breaks no connection, and is remembered in the state folder: it overrules
client.toml, until `up --link LINK:PRIORITY` says otherwise or it is set to `default`.

Values of `priority`:
  automatic  by kind: cellular links are secondary, all others always
  always     used whenever it is alive
  secondary  used when the `always` links are full, or gone
  backup     used when no other link is alive
  never      not used

Values of `limit-up` and `limit-down`:
  5M, 800k, 1.5G   the most that it may carry, in bits per second with all headers; at least 100k
  none             no limit

Examples:
  bondwire links set wwan0 priority secondary
  bondwire links set wwan0 limit-down 5M";

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Key {
    /// When it is used
    Priority,
    /// The most that is sent there
    #[value(alias = "limit_up")]
    LimitUp,
    /// The most that the server sends there
    #[value(alias = "limit_down")]
    LimitDown,
}

pub(crate) fn run(args: &Args, global: &Global) -> Result<(), Fault> {
    let client = ControlClient::new(&global.socket);
    match &args.command {
        None => output::answer(global, &client.links()?, render),
        Some(Command::Set(set)) => {
            let answer = client.set_link(&set.link, change(set)?)?;
            output::answer(global, &answer, confirm)
        }
    }
}

/// What was typed, as a change.
fn change(set: &SetArgs) -> Result<LinkChange, Fault> {
    let misread = |why: String| {
        Fault::usage(
            format!("link `{}` was not changed", set.link),
            why,
            "`bondwire links set --help` lists the values",
        )
    };
    let limit = || {
        let limit: Limit = set.value.parse().map_err(misread)?;
        Ok(limit.rate().map(|rate| rate.as_bps()))
    };
    Ok(match (set.key, set.value.as_str()) {
        (Key::Priority, "default") => LinkChange::Default(LinkKey::Priority),
        (Key::LimitUp, "default") => LinkChange::Default(LinkKey::LimitUp),
        (Key::LimitDown, "default") => LinkChange::Default(LinkKey::LimitDown),
        (Key::Priority, value) => LinkChange::Priority(value.parse().map_err(misread)?),
        (Key::LimitUp, _) => LinkChange::LimitUp(limit()?),
        (Key::LimitDown, _) => LinkChange::LimitDown(limit()?),
    })
}

fn render(links: &Links) -> String {
    let headings = ["LINK", "KIND", "PRIORITY", "STATE", "DOWN", "UP", "LIMIT DOWN", "LIMIT UP"];
    let mut table = Table::new(&headings, &[4, 5, 6, 7]);
    for entry in &links.links {
        let link = &entry.status;
        table.row(vec![
            link.name.clone(),
            link.kind.clone(),
            priority(entry),
            link.state.clone(),
            rate(link.rx_bps),
            rate(link.tx_bps),
            limit(entry.limit_down_bps),
            limit(entry.limit_up_bps),
        ]);
    }
    table.render()
}

fn confirm(answer: &LinkAnswer) -> String {
    let entry = &answer.link;
    let remark = answer.remark.as_ref().map_or_else(String::new, |remark| format!("note: {remark}\n"));
    format!(
        "link {}: priority {}, limit-down {}, limit-up {}\n{remark}",
        entry.status.name,
        priority(entry),
        limit(entry.limit_down_bps),
        limit(entry.limit_up_bps),
    )
}

/// The priority in effect, and whether it follows from the kind.
fn priority(entry: &LinkEntry) -> String {
    let (setting, effective) = (entry.priority_setting.name(), &entry.status.priority);
    if setting == effective { effective.clone() } else { format!("{setting} ({effective})") }
}

fn limit(bps: Option<u64>) -> String {
    bps.map_or_else(|| "none".to_owned(), rate)
}

#[cfg(test)]
mod tests {
    use bondwire_api::{LinkStatus, Priority};

    use super::*;

    fn entry(name: &str, setting: Priority, effective: &str) -> LinkEntry {
        LinkEntry {
            status: LinkStatus {
                name: name.into(),
                kind: "ethernet".into(),
                priority: effective.into(),
                state: "active".into(),
                rtt_ms: None,
                jitter_ms: None,
                loss: 0.0,
                spurious: 0.0,
                tx_bps: 1_000_000,
                rx_bps: 38_500_000,
                capacity_up_bps: 0,
                capacity_down_bps: 0,
                bytes_tx: 0,
                bytes_rx: 0,
                in_flight_bytes: 0,
                mtu: 1500,
                remote: None,
                share: None,
                sockets: None,
            },
            priority_setting: setting,
            limit_up_bps: None,
            limit_down_bps: Some(5_000_000),
        }
    }

    #[test]
    fn the_table_says_why_a_link_is_used() {
        let links = Links {
            links: vec![
                entry("wan0", Priority::Automatic, "always"),
                entry("wwan0", Priority::Backup, "backup"),
            ],
        };
        assert_eq!(
            render(&links),
            "\
LINK   KIND      PRIORITY            STATE          DOWN          UP  LIMIT DOWN  LIMIT UP
wan0   ethernet  automatic (always)  active  38.5 Mbit/s  1.0 Mbit/s  5.0 Mbit/s      none
wwan0  ethernet  backup              active  38.5 Mbit/s  1.0 Mbit/s  5.0 Mbit/s      none
"
        );
    }

    #[test]
    fn values_are_checked_before_anyone_is_asked() {
        let set = |key, value: &str| change(&SetArgs { link: "wan0".into(), key, value: value.into() });
        assert_eq!(set(Key::Priority, "never"), Ok(LinkChange::Priority(Priority::Never)));
        assert_eq!(set(Key::LimitUp, "5M"), Ok(LinkChange::LimitUp(Some(5_000_000))));
        assert_eq!(set(Key::LimitDown, "none"), Ok(LinkChange::LimitDown(None)));
        assert_eq!(set(Key::LimitDown, "default"), Ok(LinkChange::Default(LinkKey::LimitDown)));
        for (key, value) in
            [(Key::Priority, "5M"), (Key::LimitUp, "always"), (Key::LimitUp, "5"), (Key::LimitUp, "1k")]
        {
            assert_eq!(set(key, value).expect_err(value).kind.exit_code(), 2, "{value}");
        }
    }
}
