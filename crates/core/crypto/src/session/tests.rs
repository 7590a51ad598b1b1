use core::time::Duration;

use bondwire_units::{PathId, Timestamp};

use super::secret::Direction;
use super::*;

mod exchange;
mod rekeying;

const CIPHERS: [Cipher; 2] = [Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305];
const HEADER: &[u8] = b"header....";
const PATH: PathId = PathId(7);

fn secret() -> TransportSecret {
    TransportSecret::from_split(&[1; 32], &[2; 32])
}

fn pair(cipher: Cipher) -> (SessionKeys, SessionKeys) {
    let keys = |role| SessionKeys::new(role, secret(), cipher, Timestamp::ZERO);
    (keys(Role::Client), keys(Role::Server))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_millis(1_000 * seconds)
}

/// A sealed packet on its way.
#[derive(Clone, Debug, PartialEq)]
struct Packet {
    phase: u8,
    path: PathId,
    number: u64,
    header: Vec<u8>,
    sealed: Vec<u8>,
}

fn seal_on(keys: &mut SessionKeys, path: PathId, number: u64, text: &[u8]) -> Packet {
    let phase = keys.phase();
    let mut sealed = text.to_vec();
    let tag = keys.seal_in_place(path, number, HEADER, &mut sealed);
    sealed.extend_from_slice(&tag);
    Packet { phase, path, number, header: HEADER.to_vec(), sealed }
}

fn seal(keys: &mut SessionKeys, number: u64) -> Packet {
    seal_on(keys, PATH, number, b"plaintext")
}

fn open(keys: &mut SessionKeys, packet: &Packet, now: Timestamp) -> Result<Vec<u8>, OpenError> {
    let mut sealed = packet.sealed.clone();
    let len =
        keys.open_in_place(packet.phase, packet.path, packet.number, &packet.header, &mut sealed, now)?;
    sealed.truncate(len);
    Ok(sealed)
}

/// The values come from a second implementation of KEY-1 to KEY-3, written in Python on hashlib and OpenSSL.
#[test]
fn the_key_schedule_agrees_with_another_implementation() {
    let secret = secret();
    assert_eq!(hex(&secret.bytes()), "ffb195ee7048e82cc1d398adc48ac188beaed6ffd0f857c3cfaa4c2796789d50");
    assert_eq!(
        hex(secret.key(Direction::ClientToServer).as_ref()),
        "a9d3b9dc4f54b3099f3ec32e329703cace108c4acd98f83a0e718ea27e209ff2"
    );
    assert_eq!(
        hex(secret.key(Direction::ServerToClient).as_ref()),
        "fef3877259a77d4fd36c807df2cb5e608bc975d82c0a416e18df0e7cff55d3fd"
    );
    assert_eq!(
        hex(&secret.next(&[3; 32]).bytes()),
        "7e4d82afb2e911a20aa3d2d309243ce7bc5c6ed97204214fb11fcb8fde32e98b"
    );
    for (cipher, expected) in CIPHERS.into_iter().zip([
        "5b4e975046b7a60e26fe3cf9bdf7e50c5ae23d37f4bda65a19",
        "cc9812faba709cae2ae74da6c891e78eb310c3a3a8fb634e56",
    ]) {
        let packet = seal(&mut pair(cipher).0, 0x01_0203_0405);
        assert_eq!(hex(&packet.sealed), expected, "{cipher:?}");
    }
}

/// docs/protocol.md, HS-8.
#[test]
fn ciphers_have_their_numbers() {
    for cipher in CIPHERS {
        assert_eq!(Cipher::from_wire(cipher.to_wire()), Some(cipher));
    }
    assert_eq!(Cipher::Aes256Gcm.to_wire(), 1);
    assert_eq!(Cipher::ChaCha20Poly1305.to_wire(), 2);
    assert!((3..=255).chain([0]).all(|number| Cipher::from_wire(number).is_none()));
}

#[test]
fn what_one_side_seals_the_other_opens() {
    for cipher in CIPHERS {
        let (mut client, mut server) = pair(cipher);
        for (number, path) in [(0, PathId(0)), (1, PathId(0)), (0, PathId(255)), (1 << 40, PathId(0))] {
            let up = seal_on(&mut client, path, number, b"up");
            let down = seal_on(&mut server, path, number, b"");
            assert_eq!(open(&mut server, &up, at(0)).unwrap(), b"up");
            assert_eq!(open(&mut client, &down, at(0)).unwrap(), b"");
            // A packet that is sent back to where it came from is no packet.
            assert_eq!(open(&mut client, &up, at(0)), Err(OpenError::Forged));
        }
    }
}

/// docs/protocol.md, WIRE-4, KEY-2.
#[test]
fn an_altered_packet_does_not_open() {
    for cipher in CIPHERS {
        let (mut client, mut server) = pair(cipher);
        let packet = seal(&mut client, 5);
        let mut forgeries = vec![
            Packet { path: PathId(8), ..packet.clone() },
            Packet { number: 6, ..packet.clone() },
            Packet { number: 5 | 1 << 32, ..packet.clone() },
            Packet { header: packet.header[1..].to_vec(), ..packet.clone() },
            Packet { sealed: packet.sealed[..24].to_vec(), ..packet.clone() },
        ];
        for at in 0..packet.sealed.len() {
            let mut forged = packet.clone();
            forged.sealed[at] ^= 0x10;
            forgeries.push(forged);
        }
        for at in 0..packet.header.len() {
            let mut forged = packet.clone();
            forged.header[at] ^= 0x10;
            forgeries.push(forged);
        }
        for forged in &forgeries {
            assert_eq!(open(&mut server, forged, at(0)), Err(OpenError::Forged), "{forged:?}");
        }
        for phase in 1..4 {
            let forged = Packet { phase, ..packet.clone() };
            assert_eq!(open(&mut server, &forged, at(0)), Err(OpenError::NoKey));
        }
        let short = Packet { sealed: vec![0; TAG_LEN - 1], ..packet.clone() };
        assert_eq!(open(&mut server, &short, at(0)), Err(OpenError::TooShort));
        assert_eq!(open(&mut server, &packet, at(0)).unwrap(), b"plaintext");
    }
}

fn assert_not_sealed(keys: &mut SessionKeys, number: u64) {
    let packet = seal(keys, number);
    assert!(packet.sealed.iter().all(|byte| *byte == 0), "{packet:?}");
    assert!(keys.worn_out());
}

/// docs/protocol.md, KEY-2: no nonce twice.
#[test]
fn a_number_that_does_not_rise_is_not_sealed() {
    for number in [0, 4, 5] {
        let (mut client, _) = pair(Cipher::Aes256Gcm);
        seal(&mut client, 5);
        assert!(!client.worn_out());
        assert_not_sealed(&mut client, number);
    }
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    seal(&mut client, 5);
    let elsewhere = seal_on(&mut client, PathId(8), 5, b"plaintext");
    assert!(open(&mut server, &elsewhere, at(0)).is_ok(), "every path has numbers of its own");
}

/// docs/protocol.md, KEY-2.
#[test]
fn keys_wear_out() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    client.seal.sealed = SEAL_LIMIT - 1_025;
    seal(&mut client, 0);
    assert!(client.worn_out(), "with enough left to close in good order");
    client.seal.sealed = SEAL_LIMIT - 1;
    let last = seal(&mut client, 1);
    assert!(open(&mut server, &last, at(0)).is_ok());
    assert_not_sealed(&mut client, 2);

    let (mut client, mut server) = pair(Cipher::ChaCha20Poly1305);
    client.seal.sealed = SEAL_LIMIT;
    let more = seal(&mut client, 0);
    assert!(!client.worn_out());
    assert!(open(&mut server, &more, at(0)).is_ok());
    let last = seal(&mut client, PACKET_NUMBER_LIMIT - 1);
    assert!(client.worn_out());
    assert!(open(&mut server, &last, at(0)).is_ok());
    assert_not_sealed(&mut client, PACKET_NUMBER_LIMIT);
}

#[test]
fn keys_are_not_printed() {
    let text = format!("{:?}", pair(Cipher::Aes256Gcm).0);
    assert!(text.starts_with("SessionKeys { role: Client, cipher: Aes256Gcm, epoch: 0"), "{text}");
    assert!(text.len() < 150, "{text}");
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
