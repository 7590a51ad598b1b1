//! The HTTP proxy as a client and a server see it.
#![allow(clippy::unwrap_used, reason = "a failed test says where")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;

use bondwire_proxy::Login;
use common::*;

/// The head of a message, with its last empty line.
fn head(stream: &mut impl BufRead) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).unwrap() == 0 {
            break;
        }
    }
    head
}

/// A server that answers each request on a connection with what this makes of its head and body.
fn web(answer: impl Fn(&str, &[u8]) -> Vec<u8> + Send + Sync + 'static) -> SocketAddr {
    server("127.0.0.1:0", move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let head = head(&mut reader);
            if head.is_empty() {
                return;
            }
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("Content-Length: "))
                .map_or(0, |n| n.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            if stream.write_all(&answer(&head, &body)).is_err() {
                return;
            }
        }
    })
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut all = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    all.extend(body);
    all
}

fn body(stream: &mut impl BufRead, head: &str) -> Vec<u8> {
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    body
}

fn all(mut client: TcpStream, request: &str) -> String {
    client.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn connect_opens_a_tunnel() {
    let proxy = start(Double::new(&[2]));
    let target = who();
    let text = all(proxy.client(), &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with(&format!("\r\n\r\n{}", source(2))), "{text}");
}

#[test]
fn plain_requests_share_connections() {
    let proxy = start(Double::new(&[0]));
    let target = web(|head, _| with_length(head.as_bytes()));
    let mut client = proxy.client();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for path in ["/a", "/b?c=d"] {
        let request = format!(
            "GET http://user:secret@{target}{path} HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n\
             Connection: X-Secret, keep-alive\r\nX-Secret: 1\r\nTE: trailers\r\nProxy-Authorization: Basic eA==\r\n\
             Accept: */*\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        let head = head(&mut reader);
        let seen = String::from_utf8(body(&mut reader, &head)).unwrap();
        assert_eq!(seen, format!("GET {path} HTTP/1.1\r\nHost: {target}\r\nAccept: */*\r\n\r\n"));
    }
    let opened = proxy.director.told().iter().filter(|told| matches!(told, Told::Open(..))).count();
    assert_eq!(opened, 1, "the second request took the first one's connection");
}

#[test]
fn requests_to_other_hosts_get_their_own_connections() {
    let proxy = start(Double::new(&[0]));
    let (one, two) = (web(|_, _| with_length(b"one")), web(|_, _| with_length(b"two")));
    let mut client = proxy.client();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    // Both at once: a client need not wait.
    let request = format!("GET http://{one}/ HTTP/1.1\r\n\r\nGET http://{two} HTTP/1.1\r\n\r\n");
    client.write_all(request.as_bytes()).unwrap();
    for expected in ["one", "two"] {
        let head = head(&mut reader);
        assert_eq!(body(&mut reader, &head), expected.as_bytes());
    }
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    let proxy = start(Double::new(&[0]));
    let target = web(|_, body| with_length(body));
    let data = pattern(3 << 20, 5);
    let mut client = proxy.client();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for _ in 0..2 {
        let request = format!("POST http://{target}/ HTTP/1.1\r\nContent-Length: {}\r\n\r\n", data.len());
        client.write_all(request.as_bytes()).unwrap();
        client.write_all(&data).unwrap();
        let head = head(&mut reader);
        assert!(body(&mut reader, &head) == data);
    }
}

#[test]
fn chunked_bodies_pass_as_they_are() {
    let proxy = start(Double::new(&[0]));
    let chunks = "5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n";
    let (tell, told) = mpsc::channel();
    let target = server("127.0.0.1:0", move |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader);
        let mut body = vec![0; chunks.len()];
        reader.read_exact(&mut body).unwrap();
        tell.send((head, body)).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
        stream.write_all(answer.as_bytes()).unwrap();
        // The connection stays open: the end of the body is what ends the response.
        let _ = reader.read(&mut [0]);
    });
    let mut client = proxy.client();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let request = format!("POST http://{target}/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    client.write_all(request.as_bytes()).unwrap();
    let (seen, body) = told.recv_timeout(LONG).unwrap();
    assert!(seen.contains("Transfer-Encoding: chunked"), "{seen}");
    assert_eq!(body, chunks.as_bytes());
    let head = head(&mut reader);
    assert!(head.contains("Transfer-Encoding: chunked") && !head.contains("Connection: close"), "{head}");
    let mut body = vec![0; chunks.len()];
    reader.read_exact(&mut body).unwrap();
    assert_eq!(body, chunks.as_bytes());
}

#[test]
fn a_body_that_ends_with_the_connection_ends_the_clients_too() {
    let proxy = start(Double::new(&[0]));
    let target = server("127.0.0.1:0", |mut stream| {
        head(&mut BufReader::new(stream.try_clone().unwrap()));
        stream.write_all(b"HTTP/1.0 200 OK\r\nX: y\r\n\r\nto the end").unwrap();
    });
    let text = all(proxy.client(), &format!("GET http://{target}/ HTTP/1.1\r\n\r\n"));
    assert!(text.contains("Connection: close\r\n") && text.ends_with("\r\n\r\nto the end"), "{text}");
}

#[test]
fn an_answer_before_the_body_is_taken_arrives() {
    let proxy = start(Double::new(&[0]));
    let target = server("127.0.0.1:0", |mut stream| {
        head(&mut BufReader::new(stream.try_clone().unwrap()));
        stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let _ = std::io::copy(&mut stream, &mut std::io::sink());
    });
    let mut client = proxy.client();
    write!(client, "POST http://{target}/ HTTP/1.1\r\nContent-Length: 1000000\r\n\r\npart").unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 413 ") && text.ends_with("no"), "{text}");
}

#[test]
fn interim_answers_pass() {
    let proxy = start(Double::new(&[0]));
    let target = server("127.0.0.1:0", |mut stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader);
        assert!(head.contains("Expect: 100-continue"));
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        let mut body = [0; 4];
        reader.read_exact(&mut body).unwrap();
        stream.write_all(&with_length(&body)).unwrap();
    });
    let mut client = proxy.client();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    write!(client, "PUT http://{target}/ HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        .unwrap();
    assert!(head(&mut reader).starts_with("HTTP/1.1 100 "));
    client.write_all(b"body").unwrap();
    let head = head(&mut reader);
    assert_eq!(body(&mut reader, &head), b"body");
}

#[test]
fn a_kept_connection_that_turns_out_closed_is_replaced() {
    let proxy = start(Double::new(&[0]));
    // Each connection serves one request, and says otherwise.
    let target = server("127.0.0.1:0", |mut stream| {
        head(&mut BufReader::new(stream.try_clone().unwrap()));
        stream.write_all(&with_length(b"x")).unwrap();
    });
    let mut client = proxy.client();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    for _ in 0..3 {
        write!(client, "GET http://{target}/ HTTP/1.1\r\n\r\n").unwrap();
        let head = head(&mut reader);
        assert_eq!(body(&mut reader, &head), b"x");
    }
}

#[test]
fn every_refusal_has_its_status_and_a_reason() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let bad = server("127.0.0.1:0", |mut stream| {
        head(&mut BufReader::new(stream.try_clone().unwrap()));
        let _ = stream.write_all(b"SSH-2.0-x\r\n");
    });
    let mute = server("127.0.0.1:0", |stream| {
        head(&mut BufReader::new(stream));
    });
    let nowhere = dns::resolver(|query| {
        let mut answer = dns::answer(query, &[], 0);
        answer[3] |= 3;
        vec![answer]
    });
    let proxy = start(Double::new(&[0]).resolver(0, nowhere.address));
    for (request, status, reason) in [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 400, "whole address"),
        ("GET https://a/ HTTP/1.1\r\n\r\n".into(), 400, "CONNECT"),
        ("GET http://a:0/ HTTP/1.1\r\n\r\n".into(), 400, "no valid"),
        (
            "GET http://a/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".into(),
            400,
            "length",
        ),
        ("GET http://a/ HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(), 400, "length"),
        ("GET http://a/ HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n".into(), 400, "length"),
        ("CONNECT nothing HTTP/1.1\r\n\r\n".into(), 400, "no valid"),
        ("NONSENSE\r\n\r\n".into(), 400, "no valid"),
        (format!("CONNECT {closed} HTTP/1.1\r\n\r\n"), 502, "refused"),
        (format!("GET http://{closed}/ HTTP/1.1\r\n\r\n"), 502, "refused"),
        (format!("GET http://{bad}/ HTTP/1.1\r\n\r\n"), 502, "no valid HTTP"),
        (format!("GET http://{mute}/ HTTP/1.1\r\n\r\n"), 502, "without an answer"),
        ("GET http://no.such.name/ HTTP/1.1\r\n\r\n".into(), 502, "does not exist"),
        (format!("GET http://a/{} HTTP/1.1\r\n\r\n", "x".repeat(40_000)), 431, "head"),
    ] {
        let text = all(proxy.client(), &request);
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        let body = text.split("\r\n\r\n").nth(1).unwrap();
        assert!(body.contains(reason), "{reason}: {text}");
    }
}

#[test]
fn without_a_link_the_client_hears_503() {
    let proxy = start(Double::new(&[]));
    let text = all(proxy.client(), "CONNECT 127.0.0.1:9 HTTP/1.1\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 503 ") && text.contains("no link"), "{text}");
}

#[test]
fn the_login_is_asked_for() {
    let login = Login { user: "me".into(), password: "a:b".into() };
    let proxy = start_with(Double::new(&[0]), |config| config.login = Some(login));
    let target = who();
    for (field, status) in [
        ("", 407),
        ("Proxy-Authorization: Basic bWU6YTpj\r\n", 407),
        ("Proxy-Authorization: Bearer bWU6YTpi\r\n", 407),
        ("Proxy-Authorization: Basic !!\r\n", 407),
        ("Proxy-Authorization: basic bWU6YTpi\r\n", 200),
    ] {
        let text = all(proxy.client(), &format!("CONNECT {target} HTTP/1.1\r\n{field}\r\n"));
        assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
        assert_eq!(text.contains("Proxy-Authenticate: Basic"), status == 407);
    }
}

#[test]
fn a_response_that_breaks_off_is_a_reset() {
    let proxy = start(Double::new(&[0]));
    let target = server("127.0.0.1:0", |mut stream| {
        head(&mut BufReader::new(stream.try_clone().unwrap()));
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf").unwrap();
    });
    let mut client = proxy.client();
    write!(client, "GET http://{target}/ HTTP/1.1\r\n\r\n").unwrap();
    let mut text = Vec::new();
    assert!(client.read_to_end(&mut text).is_err(), "a part must not look like the whole");
}
