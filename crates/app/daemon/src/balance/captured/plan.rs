//! The policy's plan in the kernel's terms.
//!
//! The kernel's side is bounded more tightly, and counts ports one by one. What does not fit is left out from the end.

use std::collections::BTreeMap;
use std::time::Duration;

use bondwire_balance::{KernelAction, KernelPlan, KernelRule, LinkState, Ports, Transport};
use bondwire_capture::{Action, ClassPort, LinkPlan, Plan, Protocol, Rule, limits};
use bondwire_netctl::{Family, Prefix};
use bondwire_units::LinkId;

use super::slots::Slots;

/// The first repetition of a SYN: not before, since an answer may be on its way; and not later than the kernel itself.
const SYN_TIMEOUT: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(1));

/// What the translation needs besides the plan.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) slots: &'a Slots,
    /// How long a connect over each link may take before it is tried elsewhere.
    pub(super) patience: &'a BTreeMap<LinkId, Duration>,
    /// Families that would leave by a link that is never to be used.
    pub(super) refuse: Vec<Family>,
}

/// The plan for the kernel.
pub(super) fn plan_for(plan: &KernelPlan, context: &Context<'_>) -> Plan {
    let slots = context.slots;
    let weight = |class: &[(LinkId, u16)], link: LinkId| {
        class.iter().find(|(known, _)| *known == link).map_or(0, |(_, weight)| *weight)
    };
    let links = plan.links.iter().filter_map(|link| {
        let slot = slots.of(link.link)?;
        let (bulk, interactive) = (weight(&plan.bulk, link.link), weight(&plan.interactive, link.link));
        let works = link.state != LinkState::Failed;
        let patience = context.patience.get(&link.link).copied().unwrap_or(SYN_TIMEOUT.0);
        Some(LinkPlan {
            slot,
            bulk,
            interactive,
            open: works || bulk + interactive > 0,
            keeps_sites: link.keeps_sites,
            alive: works,
            fallback: link.fallback.and_then(|fallback| slots.of(fallback)),
            syn_timeout: Some(patience.clamp(SYN_TIMEOUT.0, SYN_TIMEOUT.1)),
        })
    });
    Plan {
        links: links.collect(),
        interactive: class_ports(&plan.interactive_ports),
        sticky_ports: sticky_ports(&plan.sticky_ports),
        sticky_for: plan.sticky_time,
        rules: rules(plan, context),
        refuse: context.refuse.clone(),
        ..Plan::default()
    }
}

fn rules(plan: &KernelPlan, context: &Context<'_>) -> Vec<Rule> {
    let (mut prefixes, mut others) = (0, 0);
    let mut rules = Vec::new();
    for rule in &plan.rules {
        let Some(action) = action_of(rule, context) else { continue };
        let rule = Rule {
            to: rule.prefix.map(|prefix| {
                let most = if prefix.address.is_ipv4() { 32 } else { 128 };
                Prefix::new(prefix.address, prefix.length.min(most))
            }),
            ports: rule.ports.clone(),
            protocol: rule.transport.map(protocol_of),
            uid: rule.uid,
            command: rule.process.clone(),
            action,
        };
        let more = (&rule.ports, rule.protocol, rule.uid, &rule.command);
        let is_prefix = rule.to.is_some() && more == (&None, None, None, &None);
        let (count, most) =
            if is_prefix { (&mut prefixes, limits::PREFIXES) } else { (&mut others, limits::RULES) };
        if *count < most {
            *count += 1;
            rules.push(rule);
        }
    }
    rules
}

fn action_of(rule: &KernelRule, context: &Context<'_>) -> Option<Action> {
    match rule.then {
        KernelAction::Link(link) => context.slots.of(link).map(Action::Use),
        KernelAction::Avoid(link) => context.slots.of(link).map(Action::Avoid),
        KernelAction::Choose => Some(Action::Choose),
        KernelAction::Bypass => Some(Action::Bypass),
        KernelAction::Refuse => Some(Action::Refuse),
    }
}

fn protocol_of(transport: Transport) -> Protocol {
    match transport {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    }
}

/// Ports one by one, short ranges first, as many as fit.
fn class_ports(ports: &[Ports]) -> Vec<ClassPort> {
    let mut ranges: Vec<&Ports> = ports.iter().collect();
    ranges.sort_by_key(|range| range.ports.len());
    let mut single: Vec<ClassPort> = Vec::new();
    for range in ranges {
        let protocol = protocol_of(range.transport);
        for port in range.ports.clone() {
            if let Some(known) = single.iter_mut().find(|known| known.port == port) {
                if known.protocol.is_some_and(|known| known != protocol) {
                    known.protocol = None;
                }
            } else if single.len() < limits::CLASS_PORTS {
                single.push(ClassPort { port, protocol: Some(protocol) });
            }
        }
    }
    single
}

/// Ports one by one, of either transport, as many as fit.
fn sticky_ports(ports: &[Ports]) -> Vec<u16> {
    let mut single: Vec<u16> = ports.iter().flat_map(|range| range.ports.clone()).collect();
    single.sort_unstable();
    single.dedup();
    single.truncate(limits::STICKY_PORTS);
    single
}

#[cfg(test)]
mod tests {
    use bondwire_balance::{PlanLink, Priority, interactive_ports};

    use super::*;

    fn slots() -> Slots {
        let mut slots = Slots::default();
        slots.take(LinkId(5), "wan0");
        slots.take(LinkId(6), "wan1");
        slots
    }

    fn link(id: u32, state: LinkState, fallback: Option<u32>) -> PlanLink {
        PlanLink {
            link: LinkId(id),
            state,
            priority: Priority::Always,
            keeps_sites: state == LinkState::Stable,
            fallback: fallback.map(LinkId),
        }
    }

    fn translated(plan: &KernelPlan) -> Plan {
        let patience = BTreeMap::from([(LinkId(5), Duration::from_millis(450))]);
        plan_for(plan, &Context { slots: &slots(), patience: &patience, refuse: vec![Family::V6] })
    }

    #[test]
    fn weights_and_health_are_told_by_slot() {
        let plan = KernelPlan {
            bulk: vec![(LinkId(5), 1000)],
            interactive: vec![(LinkId(5), 1000)],
            links: vec![
                link(5, LinkState::Stable, None),
                link(6, LinkState::Failed, Some(5)),
                link(7, LinkState::Stable, None),
            ],
            ..KernelPlan::default()
        };
        let plan = translated(&plan);
        assert_eq!(plan.refuse, [Family::V6]);
        assert_eq!(plan.links.len(), 2, "a link without a slot is not named");
        assert_eq!((plan.links[0].bulk, plan.links[0].open, plan.links[0].alive), (1000, true, true));
        assert_eq!(plan.links[0].syn_timeout, Some(Duration::from_millis(450)));
        assert_eq!(
            (plan.links[1].open, plan.links[1].alive, plan.links[1].fallback),
            (false, false, Some(0))
        );
    }

    #[test]
    fn rules_that_the_kernel_knows_are_told() {
        let rule = |then| KernelRule {
            prefix: None,
            ports: Some(22..=22),
            transport: None,
            process: None,
            uid: None,
            then,
        };
        let by_process = KernelRule { process: Some("ssh".into()), ..rule(KernelAction::Bypass) };
        let plan = KernelPlan {
            rules: vec![
                by_process,
                rule(KernelAction::Link(LinkId(6))),
                rule(KernelAction::Avoid(LinkId(5))),
                rule(KernelAction::Choose),
                rule(KernelAction::Refuse),
                rule(KernelAction::Link(LinkId(99))),
            ],
            ..KernelPlan::default()
        };
        let plan = translated(&plan);
        assert_eq!(plan.rules[0].command.as_deref(), Some("ssh"));
        let actions: Vec<Action> = plan.rules.iter().map(|rule| rule.action).collect();
        assert_eq!(
            actions,
            [Action::Bypass, Action::Use(1), Action::Avoid(0), Action::Choose, Action::Refuse]
        );
    }

    #[test]
    fn ports_fit_into_the_kernels_bounds() {
        let ports = class_ports(&interactive_ports());
        assert!(ports.len() <= limits::CLASS_PORTS);
        for port in [22, 53, 123, 3478] {
            assert!(ports.iter().any(|known| known.port == port), "{port}");
        }
        assert_eq!(ports.iter().find(|known| known.port == 53).expect("DNS").protocol, None, "both");
        let many = Ports { transport: Transport::Tcp, ports: 1..=1000 };
        assert_eq!(sticky_ports(&[many.clone(), many]).len(), limits::STICKY_PORTS);
    }
}
