//! Whole data planes over real sockets and devices, in network namespaces: this program runs again inside one for the client, and that starts another for the server.

mod lab;

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bondwire_bond::{Client, ClientConfig, ClientEvent, ClientState, Parameters, Rules};
use bondwire_crypto::{Cipher, Psk, SecretKey};
use bondwire_netctl::{Changes, Prefix};
use bondwire_tun::{Device, DeviceConfig, DeviceKind};
use bondwire_units::{ByteCount, LinkId};
use bondwire_wire::Mode;

use crate::{
    ClientCommand, ClientHandle, ClientSetup, Clock, EngineError, EngineEvent, LinkSetup, Persist,
    spawn_client,
};
use lab::{INVITE, PSK, SERVER_KEY, ServerProcess, in_namespace};

const PATIENCE: Duration = Duration::from_secs(20);

fn client_config(identity: u8) -> ClientConfig {
    ClientConfig {
        identity: SecretKey::from_bytes([identity; 32]),
        server: SecretKey::from_bytes(SERVER_KEY).public(),
        psk: Psk::from_bytes(PSK),
        invite_id: INVITE,
        endpoints: vec![SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), lab::PORT)],
        mode: Mode::Speed,
        ciphers: vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305],
        mtu: 1_400,
        last_timestamp: 0,
        max_redundant: 2,
        software: "test".to_owned(),
        seed: [identity; 32],
        memory: ByteCount::new(32 << 20),
        rules: Rules::default(),
    }
}

fn link(number: u8) -> LinkSetup {
    LinkSetup {
        id: LinkId(10 + u32::from(number)),
        name: format!("wan{number}"),
        mtu: 1_500,
        v4: Some(Ipv4Addr::new(10, 1, number, 2)),
        v6: None,
        segmentation: Default::default(),
    }
}

fn client(changes: &mut Changes, links: Vec<LinkSetup>, persist: Persist) -> ClientHandle {
    for link in &links {
        changes.route_link(&link.name).unwrap();
    }
    let config = DeviceConfig { name: Some("bwe0".to_owned()), kind: DeviceKind::Packet, mtu: 1_400 };
    let device = Device::open(&config, changes).unwrap();
    let client = Client::new(client_config(3), crate::unix_micros(), Clock.now());
    spawn_client(ClientSetup { device, client, links, persist_timestamp: persist }).unwrap()
}

/// Waits for an event that `wanted` makes something of.
fn wait_for<T>(
    events: &Receiver<EngineEvent<ClientEvent>>,
    wanted: impl Fn(&EngineEvent<ClientEvent>) -> Option<T>,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let event = events.recv_timeout(left).expect("the event did not come");
        if let Some(found) = wanted(&event) {
            return found;
        }
    }
}

fn established(event: &EngineEvent<ClientEvent>) -> Option<Parameters> {
    match event {
        EngineEvent::Bond(ClientEvent::Established(parameters)) => Some(parameters.clone()),
        _ => None,
    }
}

fn configure(changes: &mut Changes, parameters: &Parameters) {
    let (address, length) = parameters.v4.unwrap();
    changes.netlink().add_address("bwe0", Prefix::new(IpAddr::V4(address), length)).unwrap();
}

/// Sends so many bytes to the server's counter and gives what it counted. Calls `midway` after half of them.
fn upload(bytes: usize, midway: impl FnOnce()) -> u64 {
    let mut stream = TcpStream::connect_timeout(&"10.99.0.1:7000".parse().unwrap(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let half = vec![7; bytes / 2];
    stream.write_all(&half).unwrap();
    midway();
    stream.write_all(&half).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).unwrap();
    u64::from_be_bytes(answer)
}

#[test]
fn a_stream_passes_and_outlives_a_link() {
    in_namespace("tests::a_stream_passes_and_outlives_a_link", || {
        let server = ServerProcess::start();
        let mut changes = Changes::unjournaled().unwrap();
        let stored = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(&stored);
        let persist: Persist = Box::new(move |timestamp| {
            store.lock().unwrap().push(timestamp);
            Ok(())
        });
        let mut handle = client(&mut changes, vec![link(0), link(1)], persist);
        let events = handle.take_events().unwrap();
        let parameters = wait_for(&events, established);
        assert_eq!(parameters.name, "alice");
        assert!(!stored.lock().unwrap().is_empty(), "no timestamp was stored before the handshake");
        configure(&mut changes, &parameters);
        assert_eq!(
            upload(4_000_000, || assert!(handle.send(ClientCommand::LinkDown(LinkId(10))))),
            4_000_000
        );
        assert!(handle.send(ClientCommand::LinkUp(link(0))));
        assert_eq!(
            upload(4_000_000, || assert!(handle.send(ClientCommand::LinkDown(LinkId(11))))),
            4_000_000
        );
        let status = lab::until(PATIENCE, || {
            let status = handle.status();
            (status.io.packets_in > 5_000).then_some(status)
        });
        assert_eq!(status.bond.state, ClientState::Connected);
        assert!(status.io.datagrams_in > 0 && status.io.datagrams_out > 5_000, "{:?}", status.io);
        let begin = Instant::now();
        handle.stop().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(1));
        server.stop();
    });
}

#[test]
fn a_missing_link_is_told_and_the_others_work() {
    in_namespace("tests::a_missing_link_is_told_and_the_others_work", || {
        let server = ServerProcess::start();
        let mut changes = Changes::unjournaled().unwrap();
        let mut handle = client(&mut changes, vec![link(1)], Box::new(|_| Ok(())));
        handle.send(ClientCommand::LinkUp(link(7)));
        let events = handle.take_events().unwrap();
        let (mut failed, mut stands) = (false, false);
        while !(failed && stands) {
            match events.recv_timeout(PATIENCE).unwrap() {
                EngineEvent::LinkFailed { name, error, .. } => {
                    assert_eq!(name, "wan7");
                    assert!(error.to_string().contains("wan7"), "{error}");
                    failed = true;
                }
                event => stands |= established(&event).is_some(),
            }
        }
        handle.stop().unwrap();
        server.stop();
    });
}

#[test]
fn a_revoked_client_is_refused() {
    in_namespace("tests::a_revoked_client_is_refused", || {
        let mut server = ServerProcess::start();
        let mut changes = Changes::unjournaled().unwrap();
        let mut handle = client(&mut changes, vec![link(0)], Box::new(|_| Ok(())));
        let events = handle.take_events().unwrap();
        wait_for(&events, established);
        server.revoke();
        wait_for(&events, |event| match event {
            EngineEvent::Bond(ClientEvent::Refused { .. } | ClientEvent::Lost { .. }) => Some(()),
            _ => None,
        });
        handle.stop().unwrap();
        server.stop();
    });
}

#[test]
fn a_timestamp_that_cannot_be_stored_stops_everything() {
    in_namespace("tests::a_timestamp_that_cannot_be_stored_stops_everything", || {
        let server = ServerProcess::start();
        let mut changes = Changes::unjournaled().unwrap();
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let mut handle = client(&mut changes, vec![link(0)], Box::new(move |_| Err(full())));
        let events = handle.take_events().unwrap();
        lab::until(PATIENCE, || {
            matches!(events.recv_timeout(PATIENCE), Err(std::sync::mpsc::RecvTimeoutError::Disconnected))
                .then_some(())
        });
        assert_eq!(handle.status().io.datagrams_out, 0, "something was sent");
        assert!(matches!(handle.stop(), Err(EngineError::Persist(_))));
        server.stop();
    });
}

#[test]
fn a_panic_is_told() {
    in_namespace("tests::a_panic_is_told", || {
        lab::build_links_to_nowhere();
        let mut changes = Changes::unjournaled().unwrap();
        let mut handle = client(&mut changes, vec![link(0)], Box::new(|_| panic!("as the test wants it")));
        let events = handle.take_events().unwrap();
        while events.recv_timeout(PATIENCE).is_ok() {}
        assert!(!handle.send(ClientCommand::SetMode(Mode::Redundant)));
        let error = handle.stop().unwrap_err();
        assert!(error.to_string().contains("as the test wants it"), "{error}");
    });
}
