use super::*;
use proptest::prelude::*;

fn sample() -> Invite {
    Invite {
        server: core::array::from_fn(|i| i as u8),
        id: [7; 8],
        secret: [0xee; 32],
        expires: 1_800_000_000,
        endpoints: vec!["vpn.example.org:4789".into(), "[2001:db8::1]:443".into()],
    }
}

#[test]
fn an_invite_survives_and_is_one_line() {
    let text = sample().encode().unwrap();
    assert!(text.starts_with(PREFIX) && !text.contains(char::is_whitespace));
    assert_eq!(Invite::parse(&text), Ok(sample()));
    let wrapped = format!("  {}\r\n {}\n", &text[..50], &text[50..]);
    assert_eq!(Invite::parse(&wrapped), Ok(sample()));
}

/// docs/protocol.md, INV-1.
#[test]
fn each_kind_of_damage_has_its_message() {
    let text = sample().encode().unwrap();
    for end in PREFIX.len()..text.len() {
        let error = Invite::parse(&text[..end]).unwrap_err();
        assert!(matches!(error, InviteError::Truncated | InviteError::Checksum), "{end}: {error:?}");
    }
    let swapped = text.replacen("AAEC", "AAEB", 1);
    assert_ne!(swapped, text);
    assert_eq!(Invite::parse(&swapped), Err(InviteError::Checksum));
    assert!(matches!(Invite::parse(&format!("{text}AAAA")), Err(InviteError::Trailing)));
    assert_eq!(Invite::parse(&format!("{text}.")), Err(InviteError::Character('.')));
    assert_eq!(Invite::parse("bw2-AAAA"), Err(InviteError::Unsupported("bw2-".into())));
    for other in ["", "hello", "bw1", "https://example.org/bw1-AAAA", "bwx-AAAA"] {
        assert_eq!(Invite::parse(other), Err(InviteError::NotAnInvite), "{other}");
    }
}

#[test]
fn messages_do_not_control_a_terminal() {
    for bad in ["bw1-AA\u{1b}[31m", "bw1-AA\u{9b}31m", "bw1-AA\u{202e}"] {
        let error = Invite::parse(bad).unwrap_err().to_string();
        assert!(error.is_ascii() && !error.contains('\u{1b}'), "{error:?}");
    }
    let invite = Invite { endpoints: vec!["\u{1b}[31m\u{202e}:1".into()], ..sample() };
    assert_eq!(invite.encode(), Err(InviteError::Endpoint("?[31m?:1".into())));
}

#[test]
fn endpoints_are_checked_on_both_sides() {
    let with = |endpoints: &[&str]| Invite {
        endpoints: endpoints.iter().map(|e| (*e).to_owned()).collect(),
        ..sample()
    };
    assert_eq!(with(&[]).encode(), Err(InviteError::EndpointCount(0)));
    assert_eq!(with(&["a:1"; 9]).encode(), Err(InviteError::EndpointCount(9)));
    for bad in ["a", "a:", ":1", "a:0", "a:65536", "a:+1", "a b:1", "2001:db8::1:1", "[a]:1", "a/b:1"] {
        assert_eq!(with(&[bad]).encode(), Err(InviteError::Endpoint(bad.into())));
    }
    assert!(with(&["a:1", "192.0.2.1:65535", "[::1]:1"]).encode().is_ok());
}

#[test]
fn the_secret_is_not_shown() {
    let shown = format!("{:?}", sample());
    assert!(!shown.contains("238") && !shown.contains("7u7u"), "{shown}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_but_the_invite_itself_is_read_as_it(at in 0usize..200, replacement in "[A-Za-z0-9_-]") {
        let text = sample().encode().unwrap();
        let at = PREFIX.len() + at % (text.len() - PREFIX.len());
        let mut changed = text.clone();
        changed.replace_range(at..=at, &replacement);
        prop_assert_eq!(Invite::parse(&changed).is_ok(), changed == text);
    }

    #[test]
    fn rubbish_does_not_panic(text in "(bw1-)?\\PC{0,300}") {
        let _ = Invite::parse(&text);
    }

    #[test]
    fn any_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Invite::parse(&format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes)));
    }
}
