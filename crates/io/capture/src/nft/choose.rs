//! Who gets which link, in the language of `nft`: rules, then what the site has, then whose turn it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bondwire_netctl::{Family, Prefix};

use super::{CLASSES, FAMILIES, ROUND};
use crate::links::Known;
use crate::plan::{Action, ClassPort, Plan, Protocol, Rule, Slot, mark_of};

/// Sets and maps, empty.
pub(super) fn sets(out: &mut String) {
    for (_, _, suffix) in FAMILIES {
        for (class, _) in CLASSES {
            let _ = writeln!(
                out,
                "  map {class}{suffix} {{ typeof numgen inc mod {ROUND} : meta mark; size {ROUND}; }}"
            );
        }
        let kind = if suffix == "4" { "ipv4_addr" } else { "ipv6_addr" };
        let _ = writeln!(
            out,
            "  map site{suffix} {{ type {kind} : mark; flags dynamic, timeout; size 16384; }}\n  set stays{suffix} {{ type mark; size 16; }}\n  set open{suffix} {{ type mark; size 16; }}"
        );
    }
    out.push_str("  chain choose {\n    fib daddr type { local, broadcast, multicast, anycast, unspec } return\n    meta nfproto ipv4 goto choose4\n    meta nfproto ipv6 goto choose6\n  }\n");
}

/// What no link takes, unless a route of its own leads it somewhere.
fn refuse(out: &mut String, near: &[Prefix], l3: &str, suffix: &str) {
    let _ = writeln!(out, "  chain refuse{suffix} {{");
    for prefix in near.iter().filter(|prefix| prefix.address.is_ipv4() == (l3 == "ip")) {
        let _ = writeln!(out, "    {l3} daddr {prefix} return");
    }
    out.push_str("    reject with icmpx type no-route\n  }\n");
}

/// Destinations that never leave by a link.
fn nowhere(suffix: &str) -> &'static str {
    match suffix {
        "4" => "{ 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 }",
        _ => "{ ::/127, fe80::/10, ff00::/8 }",
    }
}

/// The chains of a family, from the rules to a turn.
pub(super) fn chains(
    out: &mut String,
    plan: &Plan,
    links: &BTreeMap<Slot, Known>,
    [l3, suffix]: [&str; 2],
    local: bool,
    near: &[Prefix],
) {
    let refused = plan.refuse.iter().any(|family| (*family == Family::V4) == (l3 == "ip"));
    let end = if refused { format!("    meta mark 0 goto refuse{suffix}\n") } else { String::new() };
    let _ = writeln!(out, "  chain turn{suffix} {{");
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let named = |port: &&ClassPort| port.protocol.is_none_or(|only| only == protocol);
        let ports: BTreeSet<u16> = plan.interactive.iter().filter(named).map(|port| port.port).collect();
        if !ports.is_empty() {
            let _ = writeln!(
                out,
                "    {} dport {{ {} }} meta mark set numgen inc mod {ROUND} map @interactive{suffix} return",
                name(protocol),
                list(&ports)
            );
        }
    }
    let _ = write!(
        out,
        "    meta mark set numgen inc mod {ROUND} map @bulk{suffix}\n  }}\n  chain choose{suffix} {{\n"
    );
    let _ = writeln!(out, "    {l3} daddr {} return", nowhere(suffix));
    let mut detours = BTreeSet::new();
    for rule in &plan.rules {
        let Some(text) = matches(rule, l3, local) else { continue };
        match rule.action {
            Action::Bypass => {
                let _ = writeln!(out, "    {text}return");
            }
            Action::Refuse => {
                let _ = writeln!(out, "    {text}drop");
            }
            Action::Choose => {
                let _ = writeln!(out, "    {text}goto stick{suffix}");
            }
            Action::Only(slot) => {
                let _ = writeln!(out, "    {text}meta mark set {:#010x} return", mark_of(slot));
            }
            Action::Use(slot) => {
                detours.insert((false, slot));
                let _ = writeln!(out, "    {text}goto use{slot}_{suffix}");
            }
            Action::Avoid(slot) => {
                detours.insert((true, slot));
                let _ = writeln!(out, "    {text}goto avoid{slot}_{suffix}");
            }
        }
    }
    let _ = writeln!(out, "    goto stick{suffix}\n  }}");
    let mut before = String::new();
    if refused {
        refuse(&mut before, near, l3, suffix);
    }
    stick(&mut before, plan, [l3, suffix], &end);
    for (away, slot) in detours {
        match away {
            true => avoid(&mut before, links, slot, [suffix, &end]),
            false => prefer(&mut before, slot, suffix),
        }
    }
    // A chain is named only after it stands.
    let at = out.find(&format!("  chain choose{suffix} {{")).unwrap_or(0);
    out.insert_str(at, &before);
}

/// The site's link, or the next turn's.
fn stick(out: &mut String, plan: &Plan, [l3, suffix]: [&str; 2], end: &str) {
    let _ = writeln!(out, "  chain stick{suffix} {{");
    let ports: BTreeSet<u16> = plan.sticky_ports.iter().copied().collect();
    if ports.is_empty() {
        let _ = writeln!(out, "    jump turn{suffix}");
    } else {
        let ports = list(&ports);
        let seconds = plan.sticky_for.as_secs().max(1);
        let _ = write!(
            out,
            "    meta l4proto {{ tcp, udp }} th dport {{ {ports} }} meta mark set {l3} daddr map @site{suffix}\n    meta mark != 0 meta mark != @stays{suffix} meta mark set 0\n    meta mark 0 jump turn{suffix}\n    meta mark != 0 meta l4proto {{ tcp, udp }} th dport {{ {ports} }} update @site{suffix} {{ {l3} daddr timeout {seconds}s : meta mark }}\n"
        );
    }
    let _ = writeln!(out, "{end}  }}");
}

/// A link if it takes sockets, any other if not. A set is looked into by what the packet carries: the mark is tried on, and taken off again.
fn prefer(out: &mut String, slot: Slot, suffix: &str) {
    let mark = mark_of(slot);
    let _ = writeln!(
        out,
        "  chain use{slot}_{suffix} {{\n    meta mark set {mark:#010x}\n    meta mark @open{suffix} return\n    meta mark set 0\n    goto stick{suffix}\n  }}"
    );
}

fn list(ports: &BTreeSet<u16>) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    ports.join(", ")
}

/// Takes turns until it is not the avoided link's; after three in vain the others are tried on, one after the other.
fn avoid(out: &mut String, links: &BTreeMap<Slot, Known>, slot: Slot, [suffix, end]: [&str; 2]) {
    let mark = mark_of(slot);
    let _ = writeln!(out, "  chain avoid{slot}_{suffix} {{\n    jump turn{suffix}");
    for _ in 0..2 {
        let _ = writeln!(out, "    meta mark {mark:#010x} jump turn{suffix}");
    }
    for other in links.keys().filter(|other| **other != slot).map(|other| mark_of(*other)) {
        let _ = writeln!(
            out,
            "    meta mark {mark:#010x} meta mark set {other:#010x}\n    meta mark {other:#010x} meta mark != @open{suffix} meta mark set {mark:#010x}"
        );
    }
    let _ = writeln!(out, "{end}  }}");
}

const fn name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// A rule's conditions; none if it never fits packets of that family.
fn matches(rule: &Rule, l3: &str, local: bool) -> Option<String> {
    let mut text = String::new();
    if rule.command.is_some() {
        return None;
    }
    if let Some(to) = rule.to {
        if (to.family() == Family::V4) != (l3 == "ip") {
            return None;
        }
        let _ = write!(text, "{l3} daddr {} ", to.network());
    }
    if let Some(ports) = &rule.ports {
        let protocols = rule.protocol.map_or("{ tcp, udp }", name);
        let _ = write!(text, "meta l4proto {protocols} th dport {}-{} ", ports.start(), ports.end());
    } else if let Some(protocol) = rule.protocol {
        let _ = write!(text, "meta l4proto {} ", name(protocol));
    }
    if let Some(uid) = rule.uid {
        if !local {
            return None;
        }
        let _ = write!(text, "meta skuid {uid} ");
    }
    Some(text)
}
