//! From a plan to what the programs read.

use std::collections::BTreeMap;

use crate::compile::{compile, turns};
use crate::{Action, CaptureError, LinkPlan, Plan, Protocol, Rule, limits, mark_of, slot_of};

fn prefix(text: &str) -> bondwire_netctl::Prefix {
    text.parse().unwrap()
}

#[test]
fn marks_and_slots_belong_together() {
    for slot in 0..16 {
        assert_eq!(slot_of(mark_of(slot)), Some(slot));
    }
    for mark in [0, 1, mark_of(0) - 1, mark_of(16)] {
        assert_eq!(slot_of(mark), None, "{mark:#x}");
    }
}

#[test]
fn turns_are_as_near_to_the_weights_as_whole_sockets_can_be() {
    for weights in [[500, 300, 200], [999, 1, 0], [1, 1, 1], [700, 300, 0]] {
        let links: Vec<(u8, u16)> = (0..).zip(weights).collect();
        let total: u32 = weights.iter().map(|weight| u32::from(*weight)).sum();
        let sequence = turns(&links, 128);
        for length in 1..=sequence.len() {
            for (slot, weight) in &links {
                let got = sequence[..length].iter().filter(|turn| *turn == slot).count() as f64;
                let due = length as f64 * f64::from(*weight) / f64::from(total);
                assert!((got - due).abs() <= 1.0, "{weights:?}: {got} of {length} for {slot}, due {due}");
            }
        }
    }
    assert!(turns(&[], 128).is_empty());
}

#[test]
fn a_prefix_that_an_earlier_one_covers_says_nothing() {
    let rules = vec![
        Rule::to(prefix("10.1.0.0/16"), Action::Bypass),
        Rule::to(prefix("10.0.0.0/8"), Action::Avoid(0)),
        Rule::to(prefix("10.1.2.0/24"), Action::Only(1)),
        Rule::to(prefix("2001:db8::/32"), Action::Use(1)),
        Rule { protocol: Some(Protocol::Udp), ..Rule::to(prefix("10.0.0.0/8"), Action::Bypass) },
    ];
    let compiled = compile(&Plan { rules, ..Plan::default() }, &BTreeMap::new());
    let orders: Vec<(u32, u32)> =
        compiled.prefixes.iter().map(|((length, _), rule)| (*length, rule.order)).collect();
    assert_eq!(orders, [(32, 3), (104, 1), (112, 0)]);
    assert_eq!((compiled.plan.rule_count, compiled.plan.rules[0].order), (1, 4));
    assert_eq!(compiled.plan.rules[0].mask[12..], [255, 0, 0, 0]);
}

#[test]
fn commands_are_cut_as_the_kernel_cuts_them() {
    let any =
        Rule { to: None, ports: None, protocol: None, uid: None, command: None, action: Action::Bypass };
    let rules = vec![Rule { command: Some("a-very-long-program".to_owned()), ..any.clone() }, any];
    let compiled = compile(&Plan { rules, ..Plan::default() }, &BTreeMap::new());
    assert_eq!(&compiled.plan.rules[0].comm, b"a-very-long-pro\0");
    assert_eq!(compiled.plan.rules[0].comm_mask, u32::MAX);
    assert_eq!((compiled.plan.rules[1].comm, compiled.plan.rules[1].comm_mask), ([0; 16], 0));
}

#[test]
fn plans_beyond_the_bounds_are_refused() {
    let rule = Rule {
        to: None,
        ports: Some(1..=2),
        protocol: None,
        uid: None,
        command: None,
        action: Action::Bypass,
    };
    let full = Plan { rules: vec![rule.clone(); limits::RULES], ..Plan::default() };
    full.check().unwrap();
    let over = Plan { rules: vec![rule; limits::RULES + 1], ..Plan::default() };
    assert!(matches!(over.check(), Err(CaptureError::TooMany { .. })));
    let heavy = Plan { links: vec![LinkPlan::healthy(0, 600), LinkPlan::healthy(1, 600)], ..Plan::default() };
    assert!(matches!(heavy.check(), Err(CaptureError::TooMany { .. })));
    let strange = Plan { links: vec![LinkPlan::healthy(16, 600)], ..Plan::default() };
    assert!(matches!(strange.check(), Err(CaptureError::NoSuchSlot { slot: 16 })));
}
