//! Heads of HTTP messages: what passes, what does not, and nothing in between.

use proptest::prelude::*;

use super::chunked::Chunked;
use super::head::{Asked, BadHead, Body, Forward, request, response};
use crate::connect::{Host, Target};

fn forward(text: &str) -> Forward {
    match request(text.as_bytes()).unwrap().unwrap().asked {
        Asked::Forward(forward) => forward,
        Asked::Connect(_) => panic!("a tunnel"),
    }
}

fn target(host: &str, port: u16) -> Target {
    Target { host: Host::parse(host.as_bytes()).unwrap(), port }
}

#[test]
fn targets_are_read() {
    for (text, host, port) in [
        ("http://a.b/", "a.b", 80),
        ("HTTP://A.b:81", "a.b", 81),
        ("http://a:/x", "a", 80),
        ("http://[::1]:8080/x", "::1", 8080),
        ("http://u:p@192.0.2.1?q", "192.0.2.1", 80),
    ] {
        assert_eq!(forward(&format!("GET {text} HTTP/1.1\r\n\r\n")).target, target(host, port), "{text}");
    }
    let asked = request(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\n\r\n").unwrap().unwrap().asked;
    assert_eq!(asked, Asked::Connect(target("2001:db8::1", 443)));
    for bad in ["a", "a:", "::1:443", "a:b", "a:65536", "a:+1", "[a]:1", ":1", "a:1/"] {
        let asked = request(format!("CONNECT {bad} HTTP/1.1\r\n\r\n").as_bytes());
        assert_eq!(asked.map(|_| ()), Err(BadHead::Malformed), "{bad}");
    }
}

#[test]
fn an_old_client_keeps_its_connection_only_if_it_says_so() {
    let plain = forward("GET http://a/ HTTP/1.0\r\n\r\n");
    assert!(!plain.keep_alive);
    assert_eq!(plain.head, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(forward("GET http://a/ HTTP/1.0\r\nProxy-Connection: Keep-Alive\r\n\r\n").keep_alive);
    assert!(forward("GET http://a/ HTTP/1.1\r\n\r\n").keep_alive);
    assert!(!forward("GET http://a/ HTTP/1.1\r\nConnection: x, Close\r\n\r\n").keep_alive);
}

#[test]
fn framing_cannot_be_named_away() {
    let text = "POST http://a/ HTTP/1.1\r\nConnection: content-length\r\nContent-Length: 3\r\n\r\n";
    let forward = forward(text);
    assert_eq!(forward.body, Body::Length(3));
    assert!(String::from_utf8(forward.head).unwrap().contains("Content-Length: 3\r\n"));
}

#[test]
fn responses_without_a_body_have_none() {
    let of = |text: &str, to_head| response(text.as_bytes(), to_head, false).unwrap().unwrap();
    let long = "Content-Length: 5\r\n\r\n";
    assert_eq!(of(&format!("HTTP/1.1 200 OK\r\n{long}"), false).body, Body::Length(5));
    assert_eq!(of(&format!("HTTP/1.1 200 OK\r\n{long}"), true).body, Body::None);
    assert_eq!(of(&format!("HTTP/1.1 304 Not Modified\r\n{long}"), false).body, Body::None);
    assert_eq!(of("HTTP/1.1 204 No Content\r\n\r\n", false).body, Body::None);
    let old = of("HTTP/1.0 200 OK\r\nX: y\r\n\r\n", false);
    assert_eq!(old.head, b"HTTP/1.1 200 OK\r\nX: y\r\n", "the version is the proxy's own");
    let open = of("HTTP/1.1 200 OK\r\n\r\n", false);
    assert_eq!((open.body, open.keep_alive), (Body::UntilClose, false));
}

/// Pieces from which requests are made that are nearly right.
fn piece() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "GET ",
        "POST ",
        "CONNECT ",
        "http://",
        "a.b",
        ":80",
        "[::1]",
        "/",
        " HTTP/1.1",
        " HTTP/1.0",
        "\r\n",
        "\n",
        "Host: x",
        "Content-Length: ",
        "5",
        "5, 5",
        "-1",
        "Transfer-Encoding: ",
        "chunked",
        ", ",
        "gzip",
        "Connection: ",
        "close",
        "\r\n\r\n",
        " ",
        "\t",
        "\0",
        "x: y\r\n",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 100\r\n",
    ])
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>(), cut in any::<usize>()) {
        let _ = request(&bytes);
        let _ = response(&bytes, false, false);
        let mut chunked = Chunked::new();
        let cut = cut % (bytes.len() + 1);
        let mut again = Chunked::new();
        // Where a body ends does not depend on how it comes.
        let whole = chunked.feed(&bytes);
        let parts = again.feed(&bytes[..cut]).and_then(|one| again.feed(&bytes[one..]).map(|two| one + two));
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn what_is_passed_on_reads_the_same_behind_the_proxy(pieces in prop::collection::vec(piece(), 0..24)) {
        let text: String = pieces.concat();
        if let Ok(Some(head)) = request(text.as_bytes())
            && let Asked::Forward(forward) = head.asked
        {
            let mut fields = [httparse::EMPTY_HEADER; 130];
            let mut seen = httparse::Request::new(&mut fields);
            let complete = seen.parse(&forward.head).unwrap();
            prop_assert_eq!(complete, httparse::Status::Complete(forward.head.len()));
            let count = |name: &str| seen.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
            prop_assert_eq!(count("host"), 1);
            prop_assert!(count("content-length") == 0 || count("transfer-encoding") == 0);
            prop_assert_eq!(forward.body == Body::Chunked, count("transfer-encoding") > 0);
            prop_assert_eq!(matches!(forward.body, Body::Length(_)), count("content-length") > 0);
        }
        let _ = response(text.as_bytes(), false, true);
    }
}
