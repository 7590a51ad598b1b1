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

mod choose;

use std::collections::BTreeMap;
use std::fmt::Write;

use bondwire_netctl::{Family, Prefix};

use crate::compile::turns;
use crate::links::Known;
use crate::plan::{LinkPlan, MARK_BASE, MARK_MASK, Plan, Slot, mark_of};

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
pub(crate) fn structure(
    plan: &Plan,
    links: &BTreeMap<Slot, Known>,
    chosen: Chosen<'_>,
    near: &[Prefix],
) -> String {
    let mut body = String::new();
    // Writing to a string cannot fail.
    let out = &mut body;
    if chosen.any() {
        choose::sets(out);
        for (_, l3, suffix) in FAMILIES {
            choose::chains(out, plan, links, [l3, suffix], chosen.local, near);
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
    out.push_str("  }\n");
    for slot in links.keys() {
        leave(out, *slot, &connection);
    }
    let foreign = packet.replace("==", "!=");
    let _ = write!(
        out,
        "  chain postrouting {{\n    type filter hook postrouting priority mangle; policy accept;\n    {foreign} return\n"
    );
    for (slot, known) in links {
        let _ = writeln!(out, "    oifname \"{}\" goto leave{slot}", known.name);
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

/// A marked packet leaves by a link. Most belong to flows that are known to do so, and are done with the first rule.
fn leave(out: &mut String, slot: Slot, connection: &str) {
    let mark = mark_of(slot);
    let _ = write!(
        out,
        "  chain leave{slot} {{\n    ct mark {mark:#010x} return\n    meta l4proto tcp {connection} drop\n    ct state new tcp flags & syn == 0 fib saddr type local fib saddr . oif type != local drop\n    ct mark 0 ct mark set {mark:#010x}\n  }}\n"
    );
}

/// A weight that changed by less, of 1,000, is not worth a run of `nft`, which takes milliseconds.
const NEAR: u16 = 25;

/// Whether two plans differ in their weights alone, and by little: not in what is open, nor in what has a family.
pub(crate) fn is_near(standing: &[LinkPlan], wanted: &[LinkPlan], before: &str, after: &str) -> bool {
    let sets =
        |text: &str| text.lines().filter(|line| !line.contains(" : ")).map(str::to_owned).collect::<Vec<_>>();
    let near = |a: u16, b: u16| a.abs_diff(b) < NEAR && (a == 0) == (b == 0);
    standing.len() == wanted.len()
        && standing
            .iter()
            .zip(wanted)
            .all(|(a, b)| a.slot == b.slot && near(a.bulk, b.bulk) && near(a.interactive, b.interactive))
        && sets(before) == sets(after)
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
