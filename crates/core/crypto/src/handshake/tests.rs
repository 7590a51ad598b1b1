use core::net::SocketAddr;
use core::time::Duration;

use bondwire_units::{SessionId, Timestamp};

use super::layout::{HEAD, MAC1, MAC2, Mac1Key, REJECT_HEAD};
use super::*;
use crate::hash::blake2s_256;
use crate::key::{Psk, PublicKey, SecretKey};

const CLIENT: SessionId = SessionId(0x1122_3344);
const SERVER: SessionId = SessionId(0x5566_7788);
const NOW: Timestamp = Timestamp::from_millis(1_000);

fn identity() -> SecretKey {
    SecretKey::from_bytes([2; 32])
}

fn client_key() -> SecretKey {
    SecretKey::from_bytes([1; 32])
}

fn psk() -> Psk {
    Psk::from_bytes([3; 32])
}

fn server() -> ServerHandshake {
    ServerHandshake::new(identity(), [6; 32], NOW)
}

fn start(hello: &[u8], seed: [u8; 32]) -> Result<ClientHandshake, HandshakeError> {
    ClientHandshake::start(&client_key(), identity().public(), &psk(), CLIENT, hello, seed)
}

fn client() -> ClientHandshake {
    start(b"client hello", [4; 32]).unwrap()
}

fn source() -> SocketAddr {
    "192.0.2.1:4000".parse().unwrap()
}

fn response_to(datagram: &[u8]) -> (Vec<u8>, [u8; 32]) {
    let initiation = server().open(datagram).unwrap();
    let (response, secret) = initiation.accept(&psk(), SERVER, b"server hello", [5; 32]).unwrap();
    (response, secret.bytes())
}

fn reject_to(datagram: &[u8]) -> Vec<u8> {
    server().open(datagram).unwrap().reject(b"stale", [5; 32]).unwrap()
}

/// The datagram with its MAC1 made anew, as anyone can who knows the server's public key.
fn with_mac1(mut datagram: Vec<u8>) -> Vec<u8> {
    let array: &mut [u8; INITIATION_LEN] = datagram.as_mut_slice().try_into().unwrap();
    Mac1Key::new(&identity().public()).write(array);
    datagram
}

fn mutations(datagram: &[u8]) -> impl Iterator<Item = (usize, Vec<u8>)> {
    (0..datagram.len()).map(|at| {
        let mut mutated = datagram.to_vec();
        mutated[at] ^= 1 << (at % 8);
        (at, mutated)
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// docs/protocol.md, HS-3, KEY-1.
#[test]
fn both_sides_get_the_same_secret() {
    let (mut server, mut client) = (server(), client());
    assert_eq!(client.datagram().len(), INITIATION_LEN);
    assert_eq!(server.check(client.datagram(), source(), false, NOW), Verdict::Open);
    let initiation = server.open(client.datagram()).unwrap();
    assert_eq!(initiation.client, client_key().public());
    assert_eq!(initiation.session, CLIENT);
    assert_eq!(initiation.payload.len(), MAX_CLIENT_HELLO);
    assert!(initiation.payload.starts_with(b"client hello\0\0"));
    let (response, secret) = initiation.accept(&psk(), SERVER, b"server hello", [5; 32]).unwrap();
    let accepted = client.handle_response(&response).unwrap();
    assert_eq!(accepted.peer, SERVER);
    assert_eq!(accepted.payload, b"server hello");
    assert_eq!(accepted.secret.bytes(), secret.bytes());
    assert_eq!(client.handle_response(&response).unwrap_err(), HandshakeError::Finished);
    assert_eq!(client.handle_reject(&response).unwrap_err(), HandshakeError::Finished);
}

/// Bytes on the wire and the secret for fixed seeds: whoever changes them has changed the protocol.
#[test]
fn the_handshake_is_stable() {
    let client = client();
    let (response, secret) = response_to(client.datagram());
    assert_eq!(
        hex(&blake2s_256(&[client.datagram()])),
        "f1bf60cf2c8159f55b5b3e0dcc13b80ca6da013b61fd8ab88c851cb28f46defd"
    );
    assert_eq!(
        hex(&blake2s_256(&[&response])),
        "6051e8ab400feb5fd17e484c2a515d6762e454f94c37f13a358a57d7b68afc9c"
    );
    assert_eq!(hex(&secret), "8ed8cb86733027d2fd71a94d323db1a72ba44ebbc3552b13bd6e4cae5a2051b4");
}

#[test]
fn seeds_decide_everything() {
    assert_eq!(client().datagram(), client().datagram());
    assert_ne!(client().datagram(), start(b"client hello", [7; 32]).unwrap().datagram());
}

#[test]
fn another_psk_does_not_open_the_response() {
    let mut client = client();
    let open = |server: ServerHandshake| server.open(client.datagram()).unwrap();
    let wrong = open(server()).accept(&Psk::from_bytes([9; 32]), SERVER, b"", [5; 32]).unwrap().0;
    assert_eq!(client.handle_response(&wrong).unwrap_err(), HandshakeError::Forged);
    let (right, secret) = response_to(client.datagram());
    assert_eq!(client.handle_response(&right).unwrap().secret.bytes(), secret);
}

/// docs/protocol.md, HS-1.
#[test]
fn an_initiation_for_another_server_is_dropped() {
    let mut other = ServerHandshake::new(SecretKey::from_bytes([8; 32]), [6; 32], NOW);
    let datagram = client().datagram().to_vec();
    assert_eq!(other.check(&datagram, source(), false, NOW), Verdict::Drop(DropReason::Mac));
    assert_eq!(other.open(&datagram).unwrap_err(), HandshakeError::Forged);
    let mut forged = datagram;
    let array: &mut [u8; INITIATION_LEN] = forged.as_mut_slice().try_into().unwrap();
    Mac1Key::new(&other.public()).write(array);
    assert_eq!(other.check(&forged, source(), false, NOW), Verdict::Open);
    assert_eq!(other.open(&forged).unwrap_err(), HandshakeError::Forged);
}

#[test]
fn misuse_is_refused() {
    let public = identity().public();
    let start = |psk: &Psk, session, hello: &[u8]| {
        ClientHandshake::start(&client_key(), public, psk, session, hello, [4; 32]).map(drop)
    };
    assert_eq!(start(&Psk::NULL, CLIENT, b""), Err(HandshakeError::NullPsk));
    assert_eq!(start(&psk(), SessionId(0), b""), Err(HandshakeError::ZeroSession));
    let (len, max) = (MAX_CLIENT_HELLO + 1, MAX_CLIENT_HELLO);
    assert_eq!(start(&psk(), CLIENT, &vec![1; len]), Err(HandshakeError::TooLong { len, max }));
    let client = client();
    let server = server();
    let accept = |psk: &Psk, ours, payload: &[u8]| {
        server.open(client.datagram()).unwrap().accept(psk, ours, payload, [5; 32]).map(drop)
    };
    assert_eq!(accept(&Psk::NULL, SERVER, b""), Err(HandshakeError::NullPsk));
    assert_eq!(accept(&psk(), SessionId(0), b""), Err(HandshakeError::ZeroSession));
    let (len, max) = (MAX_SERVER_HELLO + 1, MAX_SERVER_HELLO);
    assert_eq!(accept(&psk(), SERVER, &vec![1; len]), Err(HandshakeError::TooLong { len, max }));
    let (len, max) = (MAX_REJECT + 1, MAX_REJECT);
    let reject = server.open(client.datagram()).unwrap().reject(&vec![1; len], [5; 32]);
    assert_eq!(reject, Err(HandshakeError::TooLong { len, max }));
}

/// docs/protocol.md, HS-4: no answer is longer than its question.
#[test]
fn the_longest_payloads_fit_1200_bytes() {
    assert_eq!((MAX_CLIENT_HELLO, MAX_SERVER_HELLO, MAX_REJECT), (1_062, 1_138, 1_146));
    let mut client = start(&[7; MAX_CLIENT_HELLO], [4; 32]).unwrap();
    let open = |client: &ClientHandshake| server().open(client.datagram()).unwrap();
    assert_eq!(open(&client).payload, [7; MAX_CLIENT_HELLO]);
    let reject = open(&client).reject(&[8; MAX_REJECT], [5; 32]).unwrap();
    assert_eq!(reject.len(), INITIATION_LEN);
    assert_eq!(client.handle_reject(&reject).unwrap(), [8; MAX_REJECT]);
    let response = open(&client).accept(&psk(), SERVER, &[9; MAX_SERVER_HELLO], [5; 32]).unwrap().0;
    assert_eq!(response.len(), INITIATION_LEN);
    assert_eq!(client.handle_response(&response).unwrap().payload, [9; MAX_SERVER_HELLO]);
}

/// docs/protocol.md, HS-1, HS-2.
#[test]
fn a_mutated_initiation_is_dropped() {
    let mut server = server();
    let client = client();
    for (at, mutated) in mutations(client.datagram()) {
        let verdict = server.check(&mutated, source(), false, NOW);
        match at {
            0 => assert_eq!(verdict, Verdict::Drop(DropReason::Type)),
            // MAC2 is looked at under load only.
            MAC2.. => assert_eq!(verdict, Verdict::Open),
            _ => assert_eq!(verdict, Verdict::Drop(DropReason::Mac), "byte {at}"),
        }
        if at < MAC2 {
            assert!(server.open(&mutated).is_err(), "byte {at}");
        }
    }
    for len in [0, 1, HEAD, MAC1, INITIATION_LEN - 1, INITIATION_LEN + 1] {
        let mut other = client.datagram().to_vec();
        other.resize(len, 0);
        assert_eq!(server.check(&other, source(), false, NOW), Verdict::Drop(DropReason::Size));
        assert_eq!(server.open(&other).unwrap_err(), HandshakeError::Malformed);
    }
    assert!(server.open(client.datagram()).is_ok());
}

/// Whoever knows the server's public key can make a MAC1; the seal of Noise still holds.
#[test]
fn a_mutated_initiation_with_a_true_mac1_does_not_open() {
    let server = server();
    for (at, mutated) in mutations(client().datagram()).skip(HEAD).take(MAC1 - HEAD) {
        assert_eq!(server.open(&with_mac1(mutated)).unwrap_err(), HandshakeError::Forged, "byte {at}");
    }
}

#[test]
fn impossible_ids_are_dropped() {
    let mut server = server();
    for (at, bytes) in [(1, [0, 0, 0, 1]), (6, [0; 4])] {
        let mut datagram = client().datagram().to_vec();
        datagram[at..at + 4].copy_from_slice(&bytes);
        let datagram = with_mac1(datagram);
        assert_eq!(server.check(&datagram, source(), false, NOW), Verdict::Drop(DropReason::Ids));
        assert_eq!(server.open(&datagram).unwrap_err(), HandshakeError::OtherSession);
    }
}

#[test]
fn a_mutated_response_changes_nothing() {
    let mut client = client();
    let (response, secret) = response_to(client.datagram());
    for (at, mutated) in mutations(&response) {
        assert!(client.handle_response(&mutated).is_err(), "byte {at}");
    }
    for len in 0..response.len() {
        assert!(client.handle_response(&response[..len]).is_err(), "cut to {len}");
    }
    assert!(client.handle_response(&[&response[..], &[0]].concat()).is_err());
    assert_eq!(client.handle_response(&response).unwrap().secret.bytes(), secret);
}

/// docs/protocol.md, HS-4.
#[test]
fn a_mutated_reject_changes_nothing() {
    let mut client = client();
    let reject = reject_to(client.datagram());
    for (at, mutated) in mutations(&reject) {
        assert!(client.handle_reject(&mutated).is_err(), "byte {at}");
    }
    for len in 0..reject.len() {
        assert!(client.handle_reject(&reject[..len]).is_err(), "cut to {len}");
    }
    let (response, secret) = response_to(client.datagram());
    assert_eq!(client.handle_reject(&reject).unwrap(), b"stale");
    assert_eq!(client.handle_reject(&reject).unwrap(), b"stale");
    assert_eq!(client.handle_response(&response).unwrap().secret.bytes(), secret);
}

/// docs/protocol.md, HS-4: a refusal yields no keys, whatever type is written on it.
#[test]
fn a_reject_is_no_response_and_the_other_way_round() {
    let mut client = client();
    let (response, secret) = response_to(client.datagram());
    let reject = reject_to(client.datagram());
    let as_response = [&response[..HEAD], &reject[REJECT_HEAD..]].concat();
    assert_eq!(client.handle_response(&as_response).unwrap_err(), HandshakeError::Forged);
    let as_reject = [&reject[..REJECT_HEAD], &response[HEAD..]].concat();
    assert_eq!(client.handle_reject(&as_reject).unwrap_err(), HandshakeError::Forged);
    assert_eq!(client.handle_response(&reject).unwrap_err(), HandshakeError::Malformed);
    assert_eq!(client.handle_reject(&response).unwrap_err(), HandshakeError::Malformed);
    assert_eq!(client.handle_response(&response).unwrap().secret.bytes(), secret);
}

#[test]
fn answers_to_another_initiation_are_refused() {
    let mut client = client();
    let other = start(b"client hello", [7; 32]).unwrap();
    let response = response_to(other.datagram()).0;
    assert_eq!(client.handle_response(&response).unwrap_err(), HandshakeError::Forged);
    assert_eq!(client.handle_reject(&reject_to(other.datagram())).unwrap_err(), HandshakeError::Forged);
    assert!(client.handle_response(&response_to(client.datagram()).0).is_ok());
}

/// docs/protocol.md, HS-5: the caller can tell a copy, and its answer can be given again.
#[test]
fn copies_open_to_the_same() {
    let server = server();
    let client = client();
    let first = server.open(client.datagram()).unwrap();
    let mut with_cookie = client.datagram().to_vec();
    with_cookie[MAC2..].fill(7);
    let copy = server.open(&with_cookie).unwrap();
    assert_eq!((first.client, first.session), (copy.client, copy.session));
    assert_eq!((&first.payload, first.fingerprint), (&copy.payload, copy.fingerprint));
    let other = server.open(start(b"client hello", [7; 32]).unwrap().datagram()).unwrap();
    assert_ne!(first.fingerprint, other.fingerprint);
    let answer = |initiation: Initiation| initiation.accept(&psk(), SERVER, b"hello", [5; 32]).unwrap().0;
    assert_eq!(answer(first), answer(copy));
}

fn ask_cookie(
    server: &mut ServerHandshake,
    client: &ClientHandshake,
    source: SocketAddr,
    now: Timestamp,
) -> Vec<u8> {
    match server.check(client.datagram(), source, true, now) {
        Verdict::Reply(reply) => reply,
        other => panic!("a cookie was expected, not {other:?}"),
    }
}

/// docs/protocol.md, HS-2.
#[test]
fn under_load_a_cookie_is_asked_for() {
    let (mut server, mut client) = (server(), client());
    let before = client.datagram().to_vec();
    let reply = ask_cookie(&mut server, &client, source(), NOW);
    assert_eq!(reply.len(), 61);
    assert_ne!(reply, ask_cookie(&mut server, &client, source(), NOW), "nonces do not repeat");
    client.handle_cookie_reply(&reply).unwrap();
    assert_eq!(client.datagram()[..MAC2], before[..MAC2]);
    assert_eq!(server.check(client.datagram(), source(), true, NOW), Verdict::Open);
    assert_eq!(server.check(client.datagram(), source(), false, NOW), Verdict::Open);
    for elsewhere in ["192.0.2.1:4001", "192.0.2.2:4000", "[2001:db8::1]:4000"] {
        ask_cookie(&mut server, &client, elsewhere.parse().unwrap(), NOW);
    }
    let mapped = "[::ffff:192.0.2.1]:4000".parse().unwrap();
    assert_eq!(server.check(client.datagram(), mapped, true, NOW), Verdict::Open);
    for (at, mutated) in mutations(client.datagram()).skip(MAC2) {
        let verdict = server.check(&mutated, source(), true, NOW);
        assert!(matches!(verdict, Verdict::Reply(_)), "byte {at}");
    }
    let (response, secret) = response_to(client.datagram());
    assert_eq!(client.handle_response(&response).unwrap().secret.bytes(), secret);
}

/// docs/protocol.md, HS-2: the secret changes every 120 s, the one before stays valid.
#[test]
fn cookies_live_for_two_periods_at_most() {
    let (mut server, mut client) = (server(), client());
    let at = |seconds| NOW + Duration::from_secs(seconds);
    let reply = ask_cookie(&mut server, &client, source(), at(119));
    client.handle_cookie_reply(&reply).unwrap();
    assert_eq!(server.check(client.datagram(), source(), true, at(120)), Verdict::Open);
    assert_eq!(server.check(client.datagram(), source(), true, at(239)), Verdict::Open);
    let reply = ask_cookie(&mut server, &client, source(), at(240));
    client.handle_cookie_reply(&reply).unwrap();
    assert_eq!(server.check(client.datagram(), source(), true, at(240)), Verdict::Open);
}

#[test]
fn a_mutated_cookie_reply_changes_nothing() {
    let (mut server, mut client) = (server(), client());
    let before = client.datagram().to_vec();
    let reply = ask_cookie(&mut server, &client, source(), NOW);
    for (at, mutated) in mutations(&reply) {
        assert!(client.handle_cookie_reply(&mutated).is_err(), "byte {at}");
    }
    assert_eq!(client.handle_cookie_reply(&reply[..60]), Err(HandshakeError::Malformed));
    let other = start(b"client hello", [7; 32]).unwrap();
    let for_other = ask_cookie(&mut server, &other, source(), NOW);
    assert_eq!(client.handle_cookie_reply(&for_other), Err(HandshakeError::Forged));
    assert_eq!(client.datagram(), before);
    client.handle_cookie_reply(&reply).unwrap();
    assert_eq!(server.check(client.datagram(), source(), true, NOW), Verdict::Open);
}

/// docs/protocol.md, WIRE-3.
#[test]
fn an_unknown_version_is_answered_by_the_known_ones() {
    let mut server = server();
    let mut datagram = client().datagram().to_vec();
    datagram[5] = 2;
    assert_eq!(server.check(&datagram, source(), false, NOW), Verdict::Drop(DropReason::Mac));
    let datagram = with_mac1(datagram);
    assert_eq!(server.open(&datagram).unwrap_err(), HandshakeError::Version(2));
    let Verdict::Reply(reply) = server.check(&datagram, source(), false, NOW) else {
        panic!("a version negotiation was expected");
    };
    assert_eq!(parse_version_negotiation(&reply), Ok((CLIENT, vec![VERSION])));
    for len in 0..reply.len() {
        assert!(parse_version_negotiation(&reply[..len]).is_err());
    }
    assert!(parse_version_negotiation(&[&reply[..], &[1]].concat()).is_err());
    assert!(parse_version_negotiation(&[5, 0, 0, 0, 0, 1, 1]).is_err());
    assert!(parse_version_negotiation(&[5, 0, 0, 0, 1, 0]).is_err());
}

/// The points of order 1, 2, 4 and 8 on the curve and its twist, and their forms above the prime.
fn low_order_points() -> [[u8; 32]; 7] {
    let point =
        |text: &str| core::array::from_fn(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).unwrap());
    [
        [0; 32],
        core::array::from_fn(|i| u8::from(i == 0)),
        point("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
        point("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
        point("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        point("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
        point("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    ]
}

#[test]
fn low_order_points_are_refused() {
    for point in low_order_points() {
        let server_key = PublicKey::from_bytes(point);
        let started = ClientHandshake::start(&client_key(), server_key, &psk(), CLIENT, b"", [4; 32]);
        assert_eq!(started.unwrap_err(), HandshakeError::LowOrder);

        let mut client = client();
        let mut initiation = client.datagram().to_vec();
        initiation[HEAD..HEAD + 32].copy_from_slice(&point);
        assert_eq!(server().open(&with_mac1(initiation)).unwrap_err(), HandshakeError::LowOrder);

        let (response, secret) = response_to(client.datagram());
        let mut forged = response.clone();
        forged[HEAD..HEAD + 32].copy_from_slice(&point);
        assert_eq!(client.handle_response(&forged).unwrap_err(), HandshakeError::LowOrder);
        let mut forged = reject_to(client.datagram());
        forged[REJECT_HEAD..REJECT_HEAD + 32].copy_from_slice(&point);
        assert_eq!(client.handle_reject(&forged).unwrap_err(), HandshakeError::LowOrder);
        assert_eq!(client.handle_response(&response).unwrap().secret.bytes(), secret);
    }
}

#[test]
fn nothing_secret_is_printed() {
    let client = client();
    let secret = server().open(client.datagram()).unwrap().accept(&psk(), SERVER, b"", [5; 32]).unwrap().1;
    assert_eq!(format!("{secret:?}"), "TransportSecret(..)");
    let text = format!("{client:?} {:?} {:?}", server(), server().open(client.datagram()));
    for bytes in ["1, 1", "2, 2", "3, 3", "4, 4", "6, 6"] {
        assert!(!text.contains(bytes), "{text}");
    }
}

/// The engine moves sessions between threads.
#[test]
fn handshakes_and_keys_can_be_sent() {
    fn assert_send<T: Send>() {}
    assert_send::<ClientHandshake>();
    assert_send::<ServerHandshake>();
    assert_send::<Initiation>();
    assert_send::<crate::SessionKeys>();
}
