//! Questions to resolvers that go to a forwarder of our own, unseen.

use std::net::{SocketAddr, UdpSocket};
use std::thread;

use super::lab::{HOST, HOST6, PATIENCE, address, config, plan, udp_socket, unjournaled, with_ebpf};
use crate::{Capture, Config, DnsRedirect, Way};

#[test]
fn questions_reach_the_forwarder_and_seem_answered_by_the_resolver() {
    with_ebpf("tests::dns::questions_reach_the_forwarder_and_seem_answered_by_the_resolver", |_| {
        let forwarders = ["127.0.0.1:0", "[::1]:0"].map(|local| UdpSocket::bind(local).unwrap());
        let places = forwarders.each_ref().map(|socket| socket.local_addr().unwrap());
        for socket in forwarders {
            thread::spawn(move || {
                let mut buffer = [0; 64];
                while let Ok((_, from)) = socket.recv_from(&mut buffer) {
                    let _ = socket.send_to(b"forwarder", from);
                }
            });
        }
        let [SocketAddr::V4(v4), SocketAddr::V6(v6)] = places else { unreachable!("one of each was bound") };
        let dns = Some(DnsRedirect { v4: Some(v4), v6: Some(v6) });
        let config = Config { dns, ..config(Way::Ebpf) };
        let mut capture = Capture::attach(config, unjournaled()).unwrap();
        capture.apply(&plan([500, 500])).unwrap();
        for resolver in [HOST, HOST6, "10.1.0.1"] {
            let mut buffer = [0; 64];
            let loose = udp_socket(resolver);
            loose.send_to(b"name?", address(resolver, 53)).unwrap();
            let (length, from) = loose.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"forwarder"[..], address(resolver, 53)));

            let connected = udp_socket(resolver);
            connected.connect(address(resolver, 53)).unwrap();
            connected.send(b"name?").unwrap();
            let (length, from) = connected.recv_from(&mut buffer).unwrap();
            assert_eq!((&buffer[..length], from), (&b"forwarder"[..], address(resolver, 53)));
            assert_eq!(connected.peer_addr().unwrap(), address(resolver, 53));
        }
        // An IPv6 socket that asks an IPv4 resolver.
        let both = UdpSocket::bind("[::]:0").unwrap();
        both.set_read_timeout(Some(PATIENCE)).unwrap();
        both.send_to(b"name?", address("::ffff:203.0.113.1", 53)).unwrap();
        let mut buffer = [0; 64];
        let (length, from) = both.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"forwarder"[..], address("::ffff:203.0.113.1", 53)));
    });
}
