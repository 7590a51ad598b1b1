use std::net::{TcpListener, TcpStream, UdpSocket};

use super::lab::{assert_same, in_namespace, picture, run, two_links};
use crate::{Changes, FlowStage, TrackedFlow, forget_marked, tracked_flows};

#[test]
fn a_mark_leads_to_its_link_and_moves_and_comes_back() {
    in_namespace("tests::marks::a_mark_leads_to_its_link_and_moves_and_comes_back", || {
        let _router = two_links();
        run("ip route add 203.0.113.9/32 via 10.1.0.1 dev wan0");
        let before = picture();
        let mut changes = Changes::unjournaled().unwrap();
        let tables = ["wan0", "wan1"].map(|name| changes.route_link(name).unwrap());
        for (mark, table) in [7, 8].into_iter().zip(tables) {
            changes.mark_link(mark, table).unwrap();
        }
        let way = |mark: u32, to: &str| run(&format!("ip route get {to} mark {mark}"));
        assert!(way(7, "198.51.100.7").contains("dev wan0"));
        assert!(way(8, "198.51.100.7").contains("dev wan1"));
        assert!(way(8, "2001:db8:f::1").contains("dev wan1"));
        assert!(way(8, "203.0.113.9").contains("dev wan0"), "a route of its own");
        changes.move_mark(8, Some(tables[0])).unwrap();
        assert!(way(8, "198.51.100.7").contains("dev wan0"));
        assert!(way(8, "2001:db8:f::1").contains("dev wan0"));
        changes.move_mark(8, Some(tables[1])).unwrap();
        assert!(way(8, "198.51.100.7").contains("dev wan1"));
        changes.move_mark(8, None).unwrap();
        assert!(way(8, "198.51.100.7").contains("dev wan1"));
        // Nothing was tracked here, so there is nothing to forget.
        forget_marked(8).unwrap();
        changes.unmark_link(7).unwrap();
        assert!(way(7, "198.51.100.7").contains("dev wan0"), "main's own choice");
        drop(changes);
        assert_same(&before, &picture());
    });
}

#[test]
fn flows_are_listed_by_their_mark() {
    in_namespace("tests::marks::flows_are_listed_by_their_mark", || {
        run("ip link set lo up");
        assert_eq!(tracked_flows(0x70, 0xf0).unwrap(), (Vec::new(), 0), "nothing was tracked yet");
        run("nft add table inet marks");
        run("nft add chain inet marks out { type filter hook output priority -150 ; }");
        let rule =
            |what: &str, mark: u32| run(&format!("nft add rule inet marks out {what} ct mark set {mark:#x}"));
        rule("ct state new udp dport 7001", 0x71);
        rule("ct state new udp dport 7002", 0x81);
        rule("ct state new tcp dport 7003", 0x72);
        // Where the namespace may not count bytes, they are told as unknown.
        let counts = std::fs::write("/proc/sys/net/netfilter/nf_conntrack_acct", "1").is_ok();
        let receivers =
            ["127.0.0.1:7001", "[::1]:7001", "127.0.0.1:7002"].map(|at| UdpSocket::bind(at).unwrap());
        let senders = ["127.0.0.1:0", "[::1]:0", "127.0.0.1:0"].map(|at| UdpSocket::bind(at).unwrap());
        for (sender, receiver) in senders.iter().zip(&receivers) {
            let to = receiver.local_addr().unwrap();
            sender.send_to(&[0; 100], to).unwrap();
            let (_, from) = receiver.recv_from(&mut [0; 100]).unwrap();
            receiver.send_to(&[0; 10], from).unwrap();
            sender.recv_from(&mut [0; 100]).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:7003").unwrap();
        let stream = TcpStream::connect("127.0.0.1:7003").unwrap();
        let find = |flows: &[TrackedFlow], source| flows.iter().find(|flow| flow.source == source).cloned();
        let (flows, beyond) = tracked_flows(0x70, 0xf0).unwrap();
        assert_eq!((flows.len(), beyond), (3, 0), "{flows:?}");
        for (sender, receiver) in senders.iter().zip(&receivers).take(2) {
            let flow = find(&flows, sender.local_addr().unwrap()).unwrap();
            assert_eq!((flow.destination, flow.mark), (receiver.local_addr().unwrap(), 0x71));
            assert_eq!((flow.is_tcp, flow.stage), (false, FlowStage::Open));
            assert!(flow.left.as_secs() > 0);
            let heads = if flow.source.is_ipv4() { 28 } else { 48 };
            assert_eq!(flow.bytes, counts.then_some((100 + heads, 10 + heads)));
        }
        let tcp = find(&flows, stream.local_addr().unwrap()).unwrap();
        assert_eq!((tcp.is_tcp, tcp.stage, tcp.mark), (true, FlowStage::Open, 0x72));
        stream.shutdown(std::net::Shutdown::Both).unwrap();
        let (flows, _) = tracked_flows(0x72, u32::MAX).unwrap();
        assert_eq!(flows.len(), 1);
        assert_eq!(flows[0].stage, FlowStage::Closing);
        drop(listener);
        forget_marked(0x71).unwrap();
        assert_eq!(tracked_flows(0x70, 0xf0).unwrap().0.len(), 1);
        run("nft delete table inet marks");
    });
}
