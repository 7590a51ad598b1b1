use std::net::{TcpListener, UdpSocket};
use std::time::Instant;

use bondwire_balance::Target;
use bondwire_engine::Clock;
use bondwire_netctl::{LinkAddress, LinkKind};
use rustix::io::Errno;

use super::*;

fn loopback() -> Link {
    Link {
        index: 1,
        name: "lo".into(),
        mtu: 65536,
        kind: LinkKind::Unknown,
        is_virtual: true,
        is_loopback: true,
        is_up: true,
        has_carrier: true,
        hardware: Vec::new(),
        addresses: vec![LinkAddress {
            prefix: "127.0.0.1/8".parse().expect("good"),
            is_global: true,
            is_tentative: false,
        }],
        gateway4: None,
        gateway6: None,
    }
}

fn probe(id: u64, method: ProbeMethod, address: SocketAddr) -> Probe {
    Probe {
        id: ProbeId(id),
        link: bondwire_units::LinkId(1),
        target: Target { address, method },
        timeout: Duration::from_secs(5),
    }
}

/// Waits for the outcome of what was asked.
fn outcome(prober: &mut Prober) -> Outcome {
    let start = Instant::now();
    loop {
        if let Some(outcome) = prober.poll(Clock.now()).pop() {
            return outcome;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "no answer came");
        crate::wake::wait(&[prober.as_fd()], Duration::from_millis(100)).expect("waited");
    }
}

#[test]
fn a_connect_is_answered_by_yes_and_by_no() {
    let mut prober = Prober::new().expect("made");
    let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = listener.local_addr().expect("an address");
    for (id, open) in [(1, true), (2, false)] {
        let listener = open.then(|| listener.try_clone().expect("cloned"));
        let address = if open { address } else { SocketAddr::from(([127, 0, 0, 1], 1)) };
        match prober.start(&probe(id, ProbeMethod::Connect, address), &loopback(), Clock.now()) {
            None => assert!(
                matches!(outcome(&mut prober), Outcome::Answered(ProbeId(answered), _) if answered == id)
            ),
            Some(other) => panic!("{other:?}"),
        }
        drop(listener);
    }
    assert!(prober.under_way.is_empty());
}

#[test]
fn a_dns_query_is_answered_by_its_own_number() {
    let mut prober = Prober::new().expect("made");
    let resolver = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let target = probe(0x1_0203, ProbeMethod::Dns, resolver.local_addr().expect("an address"));
    assert_eq!(prober.start(&target, &loopback(), Clock.now()), None);
    let mut query = [0; 64];
    let (length, client) = resolver.recv_from(&mut query).expect("asked");
    assert_eq!(&query[..length], &super::query(0x203));
    query[2] |= 0x80;
    query[0] ^= 1;
    resolver.send_to(&query[..length], client).expect("sent");
    query[0] ^= 1;
    resolver.send_to(&query[..length], client).expect("sent");
    assert!(matches!(outcome(&mut prober), Outcome::Answered(ProbeId(0x1_0203), _)));
}

#[test]
fn an_echo_comes_back_where_echoes_are_allowed() {
    let mut prober = Prober::new().expect("made");
    let target = probe(7, ProbeMethod::Ping, "127.0.0.1:0".parse().expect("good"));
    let first = prober.start(&target, &loopback(), Clock.now());
    if first == Some(Outcome::Failed(ProbeId(7), ConnectFailure::NotSent)) {
        return eprintln!("this user may not send echoes");
    }
    assert!(matches!(outcome(&mut prober), Outcome::Answered(ProbeId(7), _)));
}

#[test]
fn a_link_without_the_family_says_nothing() {
    let mut prober = Prober::new().expect("made");
    let target = probe(1, ProbeMethod::Connect, "[2001:db8::1]:80".parse().expect("good"));
    let outcome = prober.start(&target, &loopback(), Clock.now());
    assert_eq!(outcome, Some(Outcome::Failed(ProbeId(1), ConnectFailure::NoAddress)));
    assert!(prober.under_way.is_empty());
    let six = Link {
        addresses: vec![LinkAddress {
            prefix: "2001:db8::2/64".parse().expect("good"),
            is_global: true,
            is_tentative: false,
        }],
        ..loopback()
    };
    let twin = reachable("9.9.9.9:443".parse().expect("good"), &six).expect("it has one");
    assert_eq!(twin, "[2620:fe::fe]:443".parse().expect("good"));
    assert_eq!(reachable("192.0.2.1:443".parse().expect("good"), &six), None);
}

/// A proxy with many clients in the same process may take all files. No link is dead by that.
#[test]
fn what_this_process_lacks_is_no_links_fault() {
    let judged = |errno: Errno| judge(&errno.into(), ProbeId(1), Duration::ZERO);
    for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::PERM, Errno::ACCESS] {
        assert_eq!(judged(errno), Outcome::Failed(ProbeId(1), ConnectFailure::NotSent), "{errno:?}");
    }
    for errno in [Errno::NODEV, Errno::NXIO, Errno::NETDOWN, Errno::ADDRNOTAVAIL] {
        assert_eq!(judged(errno), Outcome::Failed(ProbeId(1), ConnectFailure::Local), "{errno:?}");
    }
    assert_eq!(judged(Errno::HOSTUNREACH), Outcome::Failed(ProbeId(1), ConnectFailure::Unreachable));
}

#[test]
fn too_many_probes_are_not_sent_and_say_so() {
    let mut prober = Prober::new().expect("made");
    let silent = UdpSocket::bind("127.0.0.1:0").expect("bound");
    let address = silent.local_addr().expect("an address");
    for id in 0..MAX_UNDER_WAY as u64 {
        assert_eq!(prober.start(&probe(id, ProbeMethod::Dns, address), &loopback(), Clock.now()), None);
    }
    let more = prober.start(&probe(999, ProbeMethod::Dns, address), &loopback(), Clock.now());
    assert_eq!(more, Some(Outcome::Failed(ProbeId(999), ConnectFailure::NotSent)));
}

#[test]
fn a_link_that_is_gone_is_a_fault_of_this_machine() {
    let mut prober = Prober::new().expect("made");
    let target = probe(1, ProbeMethod::Connect, "127.0.0.1:80".parse().expect("good"));
    let gone = Link { name: "gone0".into(), ..loopback() };
    let outcome = prober.start(&target, &gone, Clock.now());
    assert_eq!(outcome, Some(Outcome::Failed(ProbeId(1), ConnectFailure::Local)));
}
