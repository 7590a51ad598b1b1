use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, Ordering};

use bondwire_netem::NatConfig;
use bondwire_rawlink::disable_offloads;
use bondwire_scenario::{Link, Scenario};

use super::plan::{CLIENT_ADDRESSES, Cable, LinkPlan, NAT_ADDRESSES};
use super::{Host, LabLink, LabOptions, Shared, everything, metric};
use crate::emulator::{Emulator, LineConfig, interface_names};
use crate::error::LabError;
use crate::netlink::{End, Mac, Prefix};
use crate::node::Node;

/// The MTU of all cables; a link that carries more gets more.
const MTU: u32 = 1500;
/// How many hosts may be added.
const MAX_HOSTS: u8 = 200;
const CUSTOMER: &str = "cust0";
const UPLINK: &str = "up0";
const ETHERNET: &str = "eth0";

pub(super) fn build(scenario: &Scenario, options: &LabOptions) -> Result<Shared, LabError> {
    let core = router("core")?;
    let server = end_host("server", options)?;
    let web = end_host("web", options)?;
    let client = end_host("client", options)?;
    connect(&core, "server", &server, ETHERNET, Cable::server())?;
    connect(&core, "web", &web, ETHERNET, Cable::web())?;
    if options.server_forwards {
        forward(&server)?;
    }
    route_inner(&core, options)?;

    let emulator_node = quiet("emulator")?;
    let mut providers = Vec::new();
    let mut links = Vec::new();
    for (position, link) in scenario.links.iter().enumerate() {
        let plan = LinkPlan::new(position, link);
        let provider = router(&format!("provider of {}", link.name))?;
        connect_provider(&core, &provider, position, &plan)?;
        lay_link(&client, &emulator_node, &provider, position, link, &plan)?;
        providers.push(provider);
        links.push(LabLink { link: link.clone(), plan, nat_turn: 0 });
    }
    let lines =
        links.iter().enumerate().map(|(position, link)| line_config(scenario.seed, position, link)).collect();
    let emulator = Emulator::start(&emulator_node, lines, options.realtime)?;
    Ok(Shared {
        emulator,
        emulator_node,
        client,
        providers,
        core,
        server,
        web,
        links: Mutex::new(links),
        hosts: AtomicU8::new(0),
    })
}

pub(super) fn add_host(shared: &Shared, name: &str) -> Result<Host, LabError> {
    let number = shared.hosts.fetch_add(1, Ordering::Relaxed);
    if number >= MAX_HOSTS {
        shared.hosts.store(MAX_HOSTS, Ordering::Relaxed);
        return Err(LabError::Scenario(format!("a lab has at most {MAX_HOSTS} added hosts")));
    }
    let node = end_host(name, &LabOptions::default())?;
    let cable = Cable::host(number);
    connect(&shared.core, &format!("host{number}"), &node, ETHERNET, cable)?;
    settle(&shared.core)?;
    settle(&node)?;
    Ok(Host { node, v4: cable.far_v4(), v6: cable.far_v6() })
}

fn line_config(seed: u64, position: usize, link: &LabLink) -> LineConfig {
    let (up, down) = link.link.pipes();
    let nat =
        link.plan.nat.then(|| NatConfig { public_v4: Some(link.plan.public_v4(0)), ..NatConfig::default() });
    LineConfig {
        name: link.link.name.clone(),
        up,
        down,
        nat,
        mtu: link.link.mtu.into(),
        seed: seed.wrapping_mul(1000).wrapping_add(position as u64),
    }
}

/// A machine whose interfaces say nothing unasked and are usable at once.
fn quiet(name: &str) -> Result<Node, LabError> {
    let node = Node::new(name)?;
    for key in ["accept_dad", "accept_ra", "router_solicitations"] {
        // Without IPv6 in the kernel there is nothing to silence.
        node.try_sysctl(&format!("net.ipv6.conf.all.{key}"), "0");
        node.try_sysctl(&format!("net.ipv6.conf.default.{key}"), "0");
    }
    Ok(node)
}

fn router(name: &str) -> Result<Node, LabError> {
    let node = quiet(name)?;
    set_rp_filter(&node, 0)?;
    forward(&node)?;
    Ok(node)
}

fn end_host(name: &str, options: &LabOptions) -> Result<Node, LabError> {
    let node = quiet(name)?;
    set_rp_filter(&node, options.rp_filter)?;
    let window = options.tcp_window;
    node.try_sysctl("net.ipv4.tcp_rmem", &format!("4096 131072 {window}"));
    node.try_sysctl("net.ipv4.tcp_wmem", &format!("4096 16384 {window}"));
    // One run must not teach the next one; and the same congestion control everywhere, whatever this machine uses.
    node.try_sysctl("net.ipv4.tcp_no_metrics_save", "1");
    node.try_sysctl("net.ipv4.tcp_congestion_control", "cubic");
    // An ordinary user may open ICMP sockets in a namespace of their own.
    node.try_sysctl("net.ipv4.ping_group_range", "0 0");
    Ok(node)
}

fn set_rp_filter(node: &Node, mode: u8) -> Result<(), LabError> {
    node.sysctl("net.ipv4.conf.all.rp_filter", &mode.to_string())?;
    node.sysctl("net.ipv4.conf.default.rp_filter", &mode.to_string())
}

fn forward(node: &Node) -> Result<(), LabError> {
    node.sysctl("net.ipv4.ip_forward", "1")?;
    node.sysctl("net.ipv6.conf.all.forwarding", "1")
}

/// Core and, by their default routes, everybody else reach the inner network at the server.
fn route_inner(core: &Node, options: &LabOptions) -> Result<(), LabError> {
    let (v4, v6) = (options.inner_v4, options.inner_v6);
    core.netlink(move |net| {
        let [server_v4, server_v6] = Cable::server().far();
        net.set_route("server", Prefix::new(v4.0, v4.1), Some(server_v4), None)?;
        net.set_route("server", Prefix::new(v6.0, v6.1), Some(server_v6), None)
    })
}

/// A cable from the core to a machine, which gets its default routes over it.
fn connect(core: &Node, core_name: &str, far: &Node, far_name: &str, cable: Cable) -> Result<(), LabError> {
    let core_end = End { name: core_name.to_owned(), mac: cable.core_mac(), mtu: MTU };
    let far_end = End { name: far_name.to_owned(), mac: cable.far_mac(), mtu: MTU };
    plug(core, core_end.clone(), far, far_end.clone())?;
    let (near, distant) = (cable.core(), cable.far());
    configure(core, &core_end.name, addresses(near), distant.to_vec(), cable.far_mac())?;
    configure(far, &far_end.name, addresses(distant), near.to_vec(), cable.core_mac())?;
    far.netlink(move |net| {
        near.into_iter().try_for_each(|via| net.set_route(&far_end.name, everything(via), Some(via), None))
    })
}

fn addresses([v4, v6]: [IpAddr; 2]) -> Vec<Prefix> {
    vec![Prefix::new(v4, 24), Prefix::new(v6, 64)]
}

fn connect_provider(core: &Node, provider: &Node, position: usize, plan: &LinkPlan) -> Result<(), LabError> {
    let name = format!("isp{position}");
    connect(core, &name, provider, UPLINK, plan.uplink())?;
    let customers = plan.customers();
    let [via_v4, via_v6] = plan.uplink().far();
    core.netlink(move |net| {
        customers.into_iter().try_for_each(|to| {
            let via = if to.address.is_ipv4() { via_v4 } else { via_v6 };
            net.set_route(&name, to, Some(via), None)
        })
    })
}

/// The two halves of a link, and the emulator's ends of them.
fn lay_link(
    client: &Node,
    emulator: &Node,
    provider: &Node,
    position: usize,
    link: &Link,
    plan: &LinkPlan,
) -> Result<(), LabError> {
    let mtu = MTU.max(link.mtu.into());
    let (near, far) = interface_names(position);
    let emulator_mac = |end: u8| [2, 0, 0, 3, position as u8, end];
    let client_end = End { name: link.name.clone(), mac: plan.client_mac(), mtu };
    let provider_end = End { name: CUSTOMER.to_owned(), mac: plan.provider_mac(), mtu };
    plug(emulator, End { name: near.clone(), mac: emulator_mac(1), mtu }, client, client_end)?;
    plug(emulator, End { name: far.clone(), mac: emulator_mac(2), mtu }, provider, provider_end)?;
    for (node, interface) in
        [(client, link.name.as_str()), (provider, CUSTOMER), (emulator, &near), (emulator, &far)]
    {
        plain_frames(node, interface)?;
    }
    emulator.netlink(move |net| {
        net.set_up(&near, true)?;
        net.set_up(&far, true)
    })?;
    let gateways: Vec<_> = plan.gateway().iter().map(|gateway| gateway.address).collect();
    configure(client, &link.name, plan.client(), gateways.clone(), plan.provider_mac())?;
    configure(provider, CUSTOMER, plan.gateway(), customer_addresses(plan), plan.client_mac())?;
    let (name, nat) = (link.name.clone(), plan.nat);
    client.netlink(move |net| {
        gateways
            .into_iter()
            .try_for_each(|via| net.set_route(&name, everything(via), Some(via), Some(metric(position))))
    })?;
    if nat {
        let public = Prefix::new(plan.public_v4(0), 31);
        provider.netlink(move |net| net.set_route(CUSTOMER, public, None, None))?;
    }
    Ok(())
}

/// Every address that the client's end of a link may ever have, as its provider sees it.
fn customer_addresses(plan: &LinkPlan) -> Vec<IpAddr> {
    let mut turned = plan.clone();
    let mut all = Vec::new();
    for turn in 0..CLIENT_ADDRESSES {
        turned.client_turn = turn;
        all.extend(turned.client().iter().map(|prefix| prefix.address));
    }
    if plan.nat {
        all.extend((0..NAT_ADDRESSES).map(|turn| IpAddr::from(plan.public_v4(turn))));
    }
    all
}

fn plug(here: &Node, here_end: End, there: &Node, there_end: End) -> Result<(), LabError> {
    let namespace: OwnedFd = there
        .netns()
        .try_clone_to_owned()
        .map_err(|source| LabError::Netlink { what: "name a namespace".to_owned(), source })?;
    here.netlink(move |net| net.add_veth(&here_end, &there_end, namespace.as_fd()))
}

/// Waits until all that a machine's interfaces need is done.
fn settle(node: &Node) -> Result<(), LabError> {
    node.netlink(|net| net.wait_ready())
}

/// Addresses, up, and neighbours that are known beforehand.
fn configure(
    node: &Node,
    interface: &str,
    own: Vec<Prefix>,
    neighbours: Vec<IpAddr>,
    neighbour_mac: Mac,
) -> Result<(), LabError> {
    let interface = interface.to_owned();
    node.netlink(move |net| {
        net.set_up(&interface, true)?;
        own.into_iter().try_for_each(|prefix| net.add_address(&interface, prefix))?;
        neighbours.into_iter().try_for_each(|address| net.set_neighbour(&interface, address, neighbour_mac))
    })
}

/// The interface sends frames as they would be on a wire.
fn plain_frames(node: &Node, interface: &str) -> Result<(), LabError> {
    let name = interface.to_owned();
    node.run(move || disable_offloads(&name)).map_err(|source| LabError::Netlink {
        what: format!("switch off the offloads of {interface}"),
        source,
    })
}
