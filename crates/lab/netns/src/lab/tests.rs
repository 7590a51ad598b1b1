use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bondwire_scenario::Scenario;

use super::{Lab, LabOptions};
use crate::isolate::isolated_test;
use crate::netlink::Prefix;
use crate::traffic::{Probe, ProbeOptions};

#[test]
fn the_inner_network_lies_behind_the_server() {
    isolated_test("lab::tests::the_inner_network_lies_behind_the_server", || {
        let scenario = Scenario::builtin("twin").unwrap();
        let lab = Lab::build(&scenario, LabOptions::default()).unwrap();
        let inner: [IpAddr; 2] =
            [Ipv4Addr::new(10, 99, 0, 7).into(), Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 7).into()];
        for address in inner {
            let len = if address.is_ipv4() { 32 } else { 128 };
            let prefix = Prefix::new(address, len);
            lab.server()
                .netlink(move |net| net.add_address("lo", prefix).and_then(|()| net.wait_ready()))
                .unwrap();
            let options = ProbeOptions { duration: Duration::from_millis(50), ..ProbeOptions::default() };
            let probe = Probe::start(lab.web(), lab.server(), SocketAddr::new(address, 0), options).unwrap();
            let report = probe.finish().unwrap();
            assert_eq!(report.lost(), 0, "{address}: {report:?}");
        }
    });
}

#[test]
fn windows_may_grow_where_permitted() {
    isolated_test("lab::tests::windows_may_grow_where_permitted", || {
        let scenario = Scenario::builtin("twin").unwrap();
        let lab = Lab::build(&scenario, LabOptions::default()).unwrap();
        for node in [lab.client(), lab.server(), lab.web()] {
            let read = node.run(|| std::fs::read_to_string("/proc/sys/net/ipv4/tcp_rmem")).unwrap();
            assert!(read.trim().ends_with("33554432"), "{}: {read}", node.name());
        }
    });
}
