//! The rules of the exchange: when it is due, what is answered, what is refused.

use super::*;

#[test]
fn both_sides_come_to_the_secret_of_another_implementation() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    let request = client.start_rekey([8; 32], at(1));
    let response = server.handle_rekey_request(request.epoch, request.public, [9; 32], at(1)).unwrap();
    client.handle_rekey_response(response.epoch, response.public, at(1)).unwrap();
    assert_eq!((request.epoch, response.epoch), (1, 1));
    assert_eq!(hex(&request.public), "31d4ab6aceec961137917037936e60716fac573afe94d9da84a8020448dfc112");
    assert_eq!(hex(&response.public), "57db4b359f23ae5e146e4e2512056704722506348c150c14753d0c933d04d421");
    assert_eq!(
        hex(&client.secret.bytes()),
        "f3263d47dbdefcc18ab2c98b06c48b7549c4c134cda40dfd352572ead3ab663e"
    );
    assert_eq!(server.secret.bytes(), client.secret.bytes());
}

/// docs/protocol.md, KEY-3: after 120 s, if there was traffic.
#[test]
fn keys_grow_old_only_by_use() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    assert!(!client.rekey_due(at(1_000)));
    assert_eq!(client.poll_deadline(), None);
    let packet = seal(&mut server, 0);
    open(&mut client, &packet, at(50)).unwrap();
    assert!(!client.rekey_due(at(119)));
    assert!(client.rekey_due(at(120)));
    let deadline = client.poll_deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (at(120), "rekey"));
    assert!(!server.rekey_due(at(1_000)), "a server never asks");
    assert_eq!(server.poll_deadline(), None);
}

/// docs/protocol.md, KEY-3: after 2^22 packets, in either direction.
#[test]
fn keys_grow_old_by_packets() {
    let (mut client, _) = pair(Cipher::Aes256Gcm);
    client.seal.sealed = REKEY_PACKETS - 1;
    assert!(!client.rekey_due(at(0)));
    seal(&mut client, 0);
    assert!(client.rekey_due(at(0)));

    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    client.open[0].as_mut().unwrap().opened = REKEY_PACKETS - 1;
    assert!(!client.rekey_due(at(0)));
    let packet = seal(&mut server, 0);
    open(&mut client, &packet, at(0)).unwrap();
    assert!(client.rekey_due(at(0)));
}

#[test]
fn a_request_is_repeated_until_answered() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    seal(&mut client, 0);
    let request = client.start_rekey([8; 32], at(120));
    assert!(client.rekey_pending());
    assert!(!client.rekey_due(at(120)));
    assert!(client.rekey_due(at(121)));
    assert_eq!(client.poll_deadline().unwrap().at, at(121));
    assert_eq!(client.start_rekey([10; 32], at(121)), request, "the same again");
    assert!(!client.rekey_due(at(121)));
    let response = server.handle_rekey_request(1, request.public, [9; 32], at(122)).unwrap();
    let again = server.handle_rekey_request(1, request.public, [11; 32], at(122)).unwrap();
    assert_eq!(response, again);
    client.handle_rekey_response(1, response.public, at(122)).unwrap();
    assert!(!client.rekey_pending());
    assert!(!client.rekey_due(at(1_000)), "new keys without traffic");
    let secret = client.secret.bytes();
    client.handle_rekey_response(1, response.public, at(123)).unwrap();
    client.handle_rekey_response(0, [1; 32], at(123)).unwrap();
    assert_eq!(client.secret.bytes(), secret, "late copies change nothing");
}

#[test]
fn what_does_not_follow_is_refused() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    let request = client.start_rekey([8; 32], at(0));
    assert_eq!(client.handle_rekey_response(2, [9; 32], at(0)), Err(RekeyError::Unexpected(2)));
    assert_eq!(client.handle_rekey_request(1, [9; 32], [1; 32], at(0)), Err(RekeyError::WrongRole));
    assert_eq!(server.handle_rekey_response(1, [9; 32], at(0)), Err(RekeyError::WrongRole));
    let mut ask = |epoch, public| server.handle_rekey_request(epoch, public, [9; 32], at(0));
    assert_eq!(ask(2, request.public), Err(RekeyError::Unexpected(2)));
    assert_eq!(ask(0, request.public), Err(RekeyError::Stale));
    assert!(ask(1, request.public).is_ok());
    assert_eq!(ask(1, [7; 32]), Err(RekeyError::Unexpected(1)), "another key for the same epoch");
    assert_eq!(ask(2, [7; 32]), Err(RekeyError::Unexpected(2)), "the one before is not confirmed");
    assert!(!RekeyError::Stale.is_fatal());
    assert!(RekeyError::Unexpected(2).is_fatal() && RekeyError::LowOrder.is_fatal());
    let (mut idle, _) = pair(Cipher::Aes256Gcm);
    assert_eq!(idle.handle_rekey_response(1, [9; 32], at(0)), Err(RekeyError::Unexpected(1)));
}

/// docs/protocol.md, KEY-3: an all-zero shared point closes the session.
#[test]
fn low_order_points_are_refused() {
    let (mut client, mut server) = pair(Cipher::Aes256Gcm);
    client.start_rekey([8; 32], at(0));
    assert_eq!(client.handle_rekey_response(1, [0; 32], at(0)), Err(RekeyError::LowOrder));
    assert_eq!(server.handle_rekey_request(1, [0; 32], [9; 32], at(0)), Err(RekeyError::LowOrder));
    assert_eq!((client.epoch(), server.epoch()), (0, 0));
}
