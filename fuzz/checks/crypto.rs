//! What must hold for any datagram of the handshake. Each function panics if it does not.

use std::net::{Ipv4Addr, SocketAddr};

use bondwire_crypto::{
    ClientHandshake, INITIATION_LEN, Psk, SecretKey, ServerHandshake, Verdict, parse_version_negotiation,
};
use bondwire_units::{SessionId, Timestamp};

/// A datagram that reaches a server, and a client that waits for an answer.
pub(crate) fn handshake(datagram: &[u8]) {
    let now = Timestamp::from_millis(1);
    let source = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
    let identity = SecretKey::from_bytes([1; 32]);
    let mut server = ServerHandshake::new(identity, [2; 32], now);
    for under_load in [false, true] {
        // Nobody here has the keys to make an Initiation of it, but some of the corpus come from someone who had.
        if let Verdict::Reply(reply) = server.check(datagram, source, under_load, now) {
            assert!(reply.len() < datagram.len(), "an answer is shorter than what it answers");
        }
    }
    if let Ok(initiation) = server.open(datagram) {
        let reply = initiation.reject(&[], [3; 32]).expect("an empty reason fits");
        assert!(reply.len() <= INITIATION_LEN);
    }

    let local = SecretKey::from_bytes([4; 32]);
    let mut client = ClientHandshake::start(
        &local,
        server.public(),
        &Psk::from_bytes([5; 32]),
        SessionId(0x0102_0304),
        b"",
        [6; 32],
    )
    .expect("the arguments are good");
    let before = client.datagram().to_vec();
    assert!(client.handle_response(datagram).is_err() && client.handle_reject(datagram).is_err());
    if client.handle_cookie_reply(datagram).is_err() {
        assert_eq!(client.datagram(), before, "a bad cookie changes nothing");
    }
    let _ = parse_version_negotiation(datagram);
}
