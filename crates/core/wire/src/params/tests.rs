use super::*;
use crate::error::{Malformed, Violation};
use crate::header::HELLO_LEN;
use proptest::prelude::*;

fn client() -> ClientHello {
    ClientHello {
        timestamp: 1_700_000_000_000_000,
        ciphers: vec![CIPHER_AES_256_GCM, CIPHER_CHACHA20_POLY1305],
        mode: Mode::Speed,
        invite_id: Some([9; 8]),
        max_inner_mtu: Some(1420),
        software: "bondwire 0.1.0".into(),
        max_paths: 16,
    }
}

fn server() -> ServerHello {
    ServerHello {
        cipher: CIPHER_AES_256_GCM,
        client_v4: Some(([10, 99, 0, 2].into(), 24)),
        server_v4: Some([10, 99, 0, 1].into()),
        client_v6: Some(("fd00::2".parse().unwrap(), 64)),
        server_v6: Some("fd00::1".parse().unwrap()),
        inner_mtu: 1400,
        software: "bondwire 0.1.0".into(),
        max_paths: 8,
        client_name: "van".into(),
    }
}

#[test]
fn messages_survive() {
    assert_eq!(ClientHello::decode(&client().encode()), Ok(client()));
    let least = ClientHello { invite_id: None, max_inner_mtu: None, software: String::new(), ..client() };
    assert_eq!(ClientHello::decode(&least.encode()), Ok(least));
    assert_eq!(ServerHello::decode(&server().encode()), Ok(server()));
    let least = ServerHello { client_v6: None, server_v6: None, server_v4: None, ..server() };
    assert_eq!(ServerHello::decode(&least.encode()), Ok(least));
    let stale = Reject {
        reason: RejectReason::Stale,
        largest_timestamp: Some(u64::MAX),
        text: "look at the clock".into(),
    };
    assert_eq!(Reject::decode(&stale.encode()), Ok(stale));
}

#[test]
fn the_greatest_messages_have_the_stated_sizes() {
    let long = "x".repeat(300);
    let client = ClientHello { software: long.clone(), ciphers: vec![1; 20], ..client() };
    assert_eq!(client.encode().len(), 107);
    let server = ServerHello { software: long.clone(), client_name: long.clone(), ..server() };
    assert_eq!(server.encode().len(), 194);
    assert_eq!(ServerHello::decode(&server.encode()).unwrap().client_name.len(), MAX_NAME);
    let reject = Reject { largest_timestamp: Some(1), ..Reject::new(RejectReason::Revoked, long) };
    assert_eq!(reject.encode().len(), 216);
}

#[test]
fn zeros_behind_the_list_are_padding() {
    let mut list = client().encode();
    list.resize(HELLO_LEN, 0);
    assert_eq!(ClientHello::decode(&list), Ok(client()));
    list[HELLO_LEN - 1] = 1;
    assert_eq!(ClientHello::decode(&list), Err(Malformed::Padding.into()));
    list.push(0);
    assert_eq!(ClientHello::decode(&list), Err(Malformed::Length("the parameters").into()));
}

#[test]
fn unknown_parameters_are_ignored_and_repeated_ones_refused() {
    let mut list = client().encode();
    list.extend_from_slice(&[0x40, 0xff, 3, 1, 2, 3]);
    assert_eq!(ClientHello::decode(&list), Ok(client()));
    list.extend_from_slice(&[0x40, 0xff, 0]);
    assert_eq!(ClientHello::decode(&list), Err(Violation::Repeated(0xff).into()));
    let many: Vec<u8> = (1..=40u8).flat_map(|kind| [kind + 9, 0]).collect();
    assert_eq!(Reject::decode(&many), Err(Violation::OutOfBounds("the number of parameters").into()));
}

#[test]
fn what_is_required_is_missed() {
    assert_eq!(ClientHello::decode(&[]), Err(Violation::Missing("timestamp").into()));
    assert_eq!(ServerHello::decode(&[]), Err(Violation::Missing("cipher").into()));
    assert_eq!(Reject::decode(&[]), Err(Violation::Missing("reason").into()));
    let homeless = ServerHello { client_v4: None, client_v6: None, ..server() };
    assert_eq!(ServerHello::decode(&homeless.encode()), Err(Violation::Missing("client's address").into()));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    for bad in [
        ServerHello { client_v4: Some(([10, 0, 0, 1].into(), 33)), ..server() },
        ServerHello { inner_mtu: 575, ..server() },
        ServerHello { max_paths: 17, ..server() },
        ServerHello { max_paths: 0, ..server() },
    ] {
        assert!(matches!(
            ServerHello::decode(&bad.encode()),
            Err(crate::WireError::Violation(Violation::OutOfBounds(_)))
        ));
    }
    let none = ClientHello { ciphers: vec![], ..client() };
    assert_eq!(ClientHello::decode(&none.encode()), Err(Malformed::Length("the ciphers").into()));
}

/// A peer's text reaches logs and terminals.
#[test]
fn control_characters_are_neither_written_nor_read() {
    let colourful = Reject::new(RejectReason::ServerFull, "no\u{1b}[31m");
    assert_eq!(Reject::decode(&colourful.encode()).unwrap().text, "no");
    assert_eq!(
        Reject::decode(&[1, 1, 7, 3, 2, b'a', 0x1b]),
        Err(Malformed::Text("the text of a Reject").into())
    );
}

#[test]
fn modes_have_names() {
    for mode in Mode::ALL {
        assert_eq!(mode.to_string().parse(), Ok(mode));
        assert_eq!(Mode::from_byte(mode.to_byte()), Some(mode));
    }
    let error = "turbo".parse::<Mode>().unwrap_err().to_string();
    assert!(error.contains("turbo") && error.contains("streaming"), "{error}");
}

proptest! {
    #[test]
    fn rubbish_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = ClientHello::decode(&bytes);
        let _ = ServerHello::decode(&bytes);
        let _ = Reject::decode(&bytes);
    }

    #[test]
    fn codes_are_their_numbers(number: u64, byte: u8) {
        prop_assert_eq!(CloseCode::from_number(number % 9).number(), number % 9);
        prop_assert_eq!(CloseCode::from_number(number).number(), number);
        prop_assert_eq!(RejectReason::from_byte(byte).to_byte(), byte);
    }
}
