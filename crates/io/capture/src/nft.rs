//! The nftables table: what goes with a mark, and in the nftables way who gets one.
//!
//! A flow's connection mark is the link by which its first packet really left. Its later packets follow it, wherever the socket's own
//! mark leads by then, so a flow that moved stays moved. Flows are masqueraded where their source is not the link's own address.
//!
//! Segments of a TCP connection that would leave by another link than their connection are dropped, without the sender being told: the other end would answer them with a
//! reset. Datagrams are not, since their sender would be told: the few that leave before their entry is forgotten get lost by themselves.
//!
//! Structure and elements are apart: a new weight changes the elements of a map in one transaction, so that turns go on where
//! they were and sites keep their links; new rules or links replace the table in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use bondwire_netctl::Family;

use crate::capture::Known;
use crate::compile::turns;
use crate::plan::{Action, ClassPort, LinkPlan, MARK_BASE, MARK_MASK, Plan, Protocol, Rule, Slot, mark_of};

/// The table's name.
pub(crate) const TABLE: &str = "bondwire_balance";

/// How many turns a round has: shares are exact to a 128th.
const ROUND: usize = 128;

/// Flows of which the table chooses the links by itself.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chosen<'a> {
    /// Interfaces of the LAN.
    pub(crate) lan: &'a [String],
    /// The sockets of this machine.
    pub(crate) local: bool,
}

impl Chosen<'_> {
    const fn any(&self) -> bool {
        self.local || !self.lan.is_empty()
    }
}

/// A family's words: its name in maps, its addresses, and its bit.
const FAMILIES: [(Family, &str, &str); 2] = [(Family::V4, "ip", "4"), (Family::V6, "ip6", "6")];

/// A class' share of a link.
type Weight = fn(&LinkPlan) -> u16;

/// Classes with their maps' names.
const CLASSES: [(&str, Weight); 2] = [("bulk", |link| link.bulk), ("interactive", |link| link.interactive)];

/// `meta mark & mask == base`, of packets or of their connection.
fn ours(what: &str) -> String {
    format!("{what} mark & {MARK_MASK:#010x} == {MARK_BASE:#010x}")
}

/// The table without the elements that change with each plan.
pub(crate) fn structure(plan: &Plan, links: &BTreeMap<Slot, Known>, chosen: Chosen<'_>) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let out = &mut body;
    if chosen.any() {
        sets(out);
        for (_, l3, suffix) in FAMILIES {
            choose(out, plan, links, [l3, suffix], chosen.local);
        }
    }
    let packet = ours("meta");
    let connection = ours("ct");
    let _ = write!(
        out,
        "  chain prerouting {{\n    type filter hook prerouting priority mangle; policy accept;\n    meta mark 0 {connection} meta mark set ct mark\n"
    );
    for lan in chosen.lan {
        let _ = writeln!(out, "    iifname \"{lan}\" meta mark 0 ct state new jump choose");
    }
    let _ = write!(
        out,
        "  }}\n  chain output {{\n    type route hook output priority mangle; policy accept;\n    {packet} {connection} meta mark set ct mark\n"
    );
    if chosen.local {
        let _ = write!(
            out,
            "    meta mark 0 {connection} ct direction original meta mark set ct mark\n    meta mark 0 oifname != \"lo\" ct state new ct direction original jump choose\n"
        );
    }
    let _ = write!(
        out,
        "  }}\n  chain postrouting {{\n    type filter hook postrouting priority mangle; policy accept;\n    {} return\n",
        packet.replace("==", "!=")
    );
    for (slot, known) in links {
        let (name, mark) = (&known.name, mark_of(*slot));
        let _ = write!(
            out,
            "    oifname \"{name}\" meta l4proto tcp {connection} ct mark != {mark:#010x} drop\n    oifname \"{name}\" ct state new tcp flags & syn == 0 fib saddr type local fib saddr . oif type != local drop\n    oifname \"{name}\" ct mark 0 ct mark set {mark:#010x}\n"
        );
    }
    out.push_str(
        "  }\n  chain masquerade_links {\n    type nat hook postrouting priority srcnat; policy accept;\n",
    );
    for known in links.values() {
        let _ =
            writeln!(out, "    oifname \"{}\" {packet} fib saddr . oif type != local masquerade", known.name);
    }
    out.push_str("  }\n");
    if !chosen.lan.is_empty() {
        let _ = write!(
            out,
            "  chain forward {{\n    type filter hook forward priority mangle; policy accept;\n    {packet} tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu\n  }}\n"
        );
    }
    body
}

/// Sets and maps, empty, with the chain that tells families apart.
fn sets(out: &mut String) {
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

fn choose(
    out: &mut String,
    plan: &Plan,
    links: &BTreeMap<Slot, Known>,
    [l3, suffix]: [&str; 2],
    local: bool,
) {
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
    out.push_str(match suffix {
        "4" => "    ip daddr { 0.0.0.0/8, 127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/3 } return\n",
        _ => "    ip6 daddr { ::/127, fe80::/10, ff00::/8 } return\n",
    });
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
    stick(&mut before, plan, l3, suffix);
    for (away, slot) in detours {
        match away {
            true => avoid(&mut before, links, slot, suffix),
            false => prefer(&mut before, slot, suffix),
        }
    }
    // A chain is named only after it stands.
    let at = out.find(&format!("  chain choose{suffix} {{")).unwrap_or(0);
    out.insert_str(at, &before);
}

/// The site's link, or the next turn's.
fn stick(out: &mut String, plan: &Plan, l3: &str, suffix: &str) {
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
    out.push_str("  }\n");
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
fn avoid(out: &mut String, links: &BTreeMap<Slot, Known>, slot: Slot, suffix: &str) {
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
    out.push_str("  }\n");
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

/// Commands that give maps and sets the elements of a plan, in one transaction.
pub(crate) fn elements(plan: &Plan, links: &BTreeMap<Slot, Known>) -> String {
    let mut out = String::new();
    for (family, _, suffix) in FAMILIES {
        let able = |link: &&LinkPlan| links.get(&link.slot).is_some_and(|known| known.has(family));
        let open: Vec<&LinkPlan> = plan.links.iter().filter(able).filter(|link| link.open).collect();
        for (class, weight) in CLASSES {
            let mut weights: Vec<(Slot, u16)> = open.iter().map(|link| (link.slot, weight(link))).collect();
            if weights.iter().all(|(_, weight)| *weight == 0) {
                weights.iter_mut().for_each(|(_, weight)| *weight = 1);
            }
            let turns = turns(&weights, ROUND);
            let list: Vec<String> = turns
                .iter()
                .enumerate()
                .map(|(turn, slot)| format!("{turn} : {:#010x}", mark_of(*slot)))
                .collect();
            fill(&mut out, "map", &format!("{class}{suffix}"), &list);
        }
        let stays = plan.links.iter().filter(able).filter(|link| link.keeps_sites);
        fill(&mut out, "set", &format!("stays{suffix}"), &marks(stays));
        fill(&mut out, "set", &format!("open{suffix}"), &marks(open.iter().copied()));
    }
    out
}

fn marks<'a>(links: impl Iterator<Item = &'a LinkPlan>) -> Vec<String> {
    links.map(|link| format!("{:#010x}", mark_of(link.slot))).collect()
}

fn fill(out: &mut String, kind: &str, name: &str, elements: &[String]) {
    let _ = writeln!(out, "flush {kind} inet {TABLE} {name}");
    if !elements.is_empty() {
        let _ = writeln!(out, "add element inet {TABLE} {name} {{ {} }}", elements.join(", "));
    }
}
