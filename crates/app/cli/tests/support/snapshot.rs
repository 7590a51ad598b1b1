use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use bondwire_netns::Node;

use super::{Process, seconds};

/// What is compared, each as text.
const VIEWS: [&[&str]; 7] = [
    &["ip", "-4", "route", "show", "table", "all"],
    &["ip", "-6", "route", "show", "table", "all"],
    &["ip", "-4", "rule"],
    &["ip", "-6", "rule"],
    &["ip", "-oneline", "link"],
    &["ip", "-oneline", "address"],
    &["nft", "list", "ruleset"],
];

/// How a machine's network stands: routes, rules, links, addresses, firewall, kernel parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    views: BTreeMap<String, Vec<String>>,
}

impl Snapshot {
    /// Takes one. `ip` has to be there; without `nft` there is no firewall to compare.
    pub(crate) fn take(node: &Node) -> Self {
        let mut views = BTreeMap::new();
        for view in VIEWS {
            if view[0] == "nft" && !has_nft() {
                continue;
            }
            let mut command = Command::new(view[0]);
            command.args(&view[1..]);
            let ended = Process::start(node, command).wait_end(seconds(10));
            ended.assert_done();
            let mut lines: Vec<String> = ended.stdout.lines().map(|line| line.trim().to_owned()).collect();
            if view[0] == "ip" {
                lines.sort();
            }
            views.insert(view.join(" "), lines);
        }
        views.insert("kernel parameters".to_owned(), node.run(parameters));
        Self { views }
    }

    /// A view's lines: the words of the command that shows it.
    pub(crate) fn view(&self, name: &str) -> &[String] {
        self.views.get(name).expect("a view")
    }

    /// All lines of all views.
    pub(crate) fn contains(&self, text: &str) -> bool {
        self.views.values().flatten().any(|line| line.contains(text))
    }

    /// Nothing has changed since `before`.
    #[track_caller]
    pub(crate) fn assert_same(&self, before: &Self) {
        let mut report = String::new();
        for (name, lines) in &self.views {
            let before = before.views.get(name).cloned().unwrap_or_default();
            let (was, is): (BTreeSet<_>, BTreeSet<_>) = (before.iter().collect(), lines.iter().collect());
            was.difference(&is).for_each(|line| report.push_str(&format!("{name}\n  - {line}\n")));
            is.difference(&was).for_each(|line| report.push_str(&format!("{name}\n  + {line}\n")));
        }
        assert!(self == before, "the network is not as it was before:\n{report}");
    }
}

fn has_nft() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join("nft").exists())
}

/// Those that decide about forwarding and about which packets are accepted.
fn parameters() -> Vec<String> {
    let mut files = vec!["/proc/sys/net/ipv4/ip_forward".to_owned()];
    for family in ["ipv4", "ipv6"] {
        let folder = format!("/proc/sys/net/{family}/conf");
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            for name in ["forwarding", "rp_filter", "src_valid_mark", "accept_ra"] {
                files.push(format!("{}/{name}", entry.path().display()));
            }
        }
    }
    files.sort();
    let read = |file: &String| Some(format!("{file} = {}", fs::read_to_string(file).ok()?.trim()));
    files.iter().filter_map(read).collect()
}
