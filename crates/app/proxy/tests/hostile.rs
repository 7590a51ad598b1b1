//! Clients that say anything at all.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;

use common::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// What a client sends: nonsense, or the beginning of something valid and then nonsense.
fn sent() -> impl Strategy<Value = Vec<u8>> {
    let beginnings = vec![
        &b""[..],
        b"\x05",
        b"\x05\x01\x00",
        b"\x05\x02\x00\x02\x05\x01\x00",
        b"\x05\x01\x00\x05\x03\x00",
        b"\x05\x01\x00\x05\x01\x00\x03",
        b"\x04\x01",
        b"GET http://127.0.0.1:1/",
        b"GET http://127.0.0.1:1/ HTTP/1.1\r\n",
        b"POST http://127.0.0.1:1/ HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
        b"CONNECT 127.0.0.1:",
        b"\x16\x03\x01",
    ];
    (prop::sample::select(beginnings), prop::collection::vec(any::<u8>(), 0..80))
        .prop_map(|(beginning, rest)| [beginning, &rest].concat())
}

#[test]
fn every_client_comes_to_an_end_and_the_next_one_is_served() {
    // Whatever address comes out of the nonsense, the sockets stay on the loopback interface.
    let proxy = start_with(Double::new(&[0]), |config| {
        config.timeouts.connect = std::time::Duration::from_millis(20);
    });
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    runner
        .run(&sent(), |bytes| {
            let mut client = proxy.client();
            // It may be closed before all is written.
            let _ = client.write_all(&bytes);
            let _ = client.shutdown(Shutdown::Write);
            let ended = client.read_to_end(&mut Vec::new());
            let late = ended.is_err_and(|error| {
                matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
            });
            prop_assert!(!late, "still open after {LONG:?}");
            Ok(())
        })
        .unwrap();
    let mut text = String::new();
    proxy.socks(who()).read_to_string(&mut text).unwrap();
    assert_eq!(text, source(0).to_string());
}
