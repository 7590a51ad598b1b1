//! A real socket, a real daemon's stand-in, real requests.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::*;

struct Fake {
    mode: Mutex<Mode>,
    ended: AtomicBool,
}

impl Fake {
    fn new() -> Arc<Self> {
        Arc::new(Self { mode: Mutex::new(Mode::Speed), ended: AtomicBool::new(false) })
    }
}

fn link() -> LinkStatus {
    LinkStatus {
        name: "wan0".into(),
        kind: "ethernet".into(),
        priority: "always".into(),
        state: "active".into(),
        rtt_ms: Some(20.5),
        jitter_ms: None,
        loss: 0.01,
        spurious: 0.0,
        tx_bps: 1,
        rx_bps: 2,
        capacity_up_bps: 3,
        capacity_down_bps: 4,
        bytes_tx: 5,
        bytes_rx: 6,
        in_flight_bytes: 7,
        mtu: 1500,
        remote: None,
        share: None,
        sockets: None,
    }
}

fn entry() -> LinkEntry {
    LinkEntry {
        status: link(),
        priority_setting: Priority::Automatic,
        limit_up_bps: None,
        limit_down_bps: Some(8_000_000),
    }
}

fn stream() -> StreamEntry {
    StreamEntry {
        client: None,
        protocol: "udp".into(),
        local: "10.99.0.2:50000".into(),
        remote: "203.0.113.5:3478".into(),
        reason: "stun".into(),
        age_ms: 1_000,
        idle_ms: 20,
        link: Some("wan0".into()),
        up: StreamDirection { bps: 64_000, packets: 50, ..StreamDirection::default() },
        down: StreamDirection::default(),
    }
}

impl Control for Fake {
    fn info(&self) -> Info {
        Info { pid: std::process::id(), role: Role::Client, version: "0".into() }
    }

    fn status(&self) -> Status {
        Status {
            role: Role::Client,
            mode: Some(*self.mode.lock().expect("not poisoned")),
            state: "connected".into(),
            reason: None,
            server: Some("192.0.2.1:4433".into()),
            pid: 1,
            version: "0".into(),
            uptime_ms: 1,
            device: None,
            inner_v4: None,
            inner_v6: None,
            mtu: 1400,
            links: vec![link()],
            flows: 3,
            totals: Totals::default(),
        }
    }

    fn clients(&self) -> Result<Clients, Fault> {
        Err(Fault::usage("no clients here", "this is a client", "ask the server"))
    }

    fn streams(&self) -> Streams {
        Streams { mode: Some(Mode::Streaming), streams: vec![stream()] }
    }

    fn sockets(&self) -> Result<Sockets, Fault> {
        let socket = SocketEntry { remote: "203.0.113.5:443".into(), ..SocketEntry::default() };
        Ok(Sockets { mode: Some(Mode::Balance), sockets: vec![socket], left_out: 0 })
    }

    fn set_mode(&self, mode: Mode) -> Result<ModeAnswer, Fault> {
        *self.mode.lock().expect("not poisoned") = mode;
        Ok(ModeAnswer { mode, remark: mode.remark().map(str::to_owned) })
    }

    fn links(&self) -> Result<Links, Fault> {
        Ok(Links { links: vec![entry()] })
    }

    fn set_link(&self, link: &str, set: LinkChange) -> Result<LinkAnswer, Fault> {
        if link != "wan0" {
            return Err(Fault::usage("there is no link", "", ""));
        }
        let mut entry = entry();
        match set {
            LinkChange::Priority(priority) => entry.priority_setting = priority,
            LinkChange::LimitUp(limit) => entry.limit_up_bps = limit,
            LinkChange::LimitDown(limit) => entry.limit_down_bps = limit,
            LinkChange::Default(_) => {}
        }
        Ok(LinkAnswer { link: entry, remark: None })
    }

    fn down(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }
}

#[test]
fn the_names_that_scripts_rely_on() {
    let json = serde_json::to_value(Fake::new().status()).expect("a status is JSON");
    for name in ["mode", "state", "server", "links", "flows", "totals"] {
        assert!(json.get(name).is_some(), "{name}");
    }
    let link = &json["links"][0];
    for name in [
        "name",
        "kind",
        "priority",
        "state",
        "rtt_ms",
        "loss",
        "spurious",
        "tx_bps",
        "rx_bps",
        "capacity_up_bps",
        "capacity_down_bps",
        "bytes_tx",
        "bytes_rx",
        "mtu",
    ] {
        assert!(link.get(name).is_some(), "{name}");
    }
    assert_eq!(json["mode"], "speed");
    let json = serde_json::to_value(entry()).expect("an entry is JSON");
    for (name, value) in [
        ("name", serde_json::json!("wan0")),
        ("priority", "always".into()),
        ("priority_setting", "automatic".into()),
        ("limit_up_bps", serde_json::Value::Null),
        ("limit_down_bps", 8_000_000.into()),
    ] {
        assert_eq!(json[name], value, "{name}");
    }
    let request = LinkRequest { link: "wan0".into(), set: LinkChange::Priority(Priority::Never) };
    let json = serde_json::to_string(&request).expect("a request is JSON");
    assert_eq!(json, r#"{"link":"wan0","set":{"priority":"never"}}"#);
    let json = serde_json::to_value(Fake::new().streams()).expect("streams are JSON");
    for name in ["remote", "reason", "link", "up", "down"] {
        assert!(json["streams"][0].get(name).is_some(), "{name}");
    }
    let json = serde_json::to_value(Fake::new().sockets().expect("sockets")).expect("sockets are JSON");
    assert_eq!(json["mode"], "balance");
    for name in
        ["process", "remote", "protocol", "stage", "link", "bytes_tx", "bytes_rx", "rtt_ms", "retransmits"]
    {
        assert!(json["sockets"][0].get(name).is_some(), "{name}");
    }
    let json = serde_json::to_value(Fake::new().streams()).expect("streams are JSON");
    for name in ["bps", "delay_ms", "jitter_ms", "loss_before", "loss_after", "saved_by_repair"] {
        assert!(json["streams"][0]["up"].get(name).is_some(), "{name}");
    }
}

#[test]
fn requests_and_answers() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("run/control.sock");
    let fake = Fake::new();
    let server = ControlServer::start(&path, fake.clone()).expect("a socket");
    assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    let client = ControlClient::new(&path);
    assert_eq!(client.info().expect("info").pid, std::process::id());
    assert_eq!(client.status().expect("status").links, vec![link()]);
    let answer = client.set_mode(Mode::Streaming).expect("mode");
    assert_eq!(answer.mode, Mode::Streaming);
    assert_eq!(client.streams().expect("streams").streams, vec![stream()]);
    assert_eq!(client.sockets().expect("sockets").sockets[0].remote, "203.0.113.5:443");
    assert_eq!(client.status().expect("status").mode, Some(Mode::Streaming));
    assert_eq!(client.links().expect("links").links, [entry()]);
    let set = |change| client.set_link("wan0", change).expect("a change").link;
    assert_eq!(set(LinkChange::Priority(Priority::Backup)).priority_setting, Priority::Backup);
    assert_eq!(set(LinkChange::LimitUp(Some(5_000_000))).limit_up_bps, Some(5_000_000));
    assert_eq!(set(LinkChange::LimitDown(None)).limit_down_bps, None);
    assert_eq!(set(LinkChange::Default(LinkKey::LimitUp)), entry());
    let fault = client.set_link("wan9", LinkChange::LimitUp(None)).expect_err("unknown");
    assert_eq!(fault.kind, FaultKind::Usage);
    assert_eq!(client.clients().expect_err("a client has none").why, "this is a client");
    client.down().expect("down");
    assert!(fake.ended.load(Ordering::SeqCst));
    assert_eq!(client.daemon(), Some(std::process::id()));
    drop(server);
    assert!(!path.exists());
    assert_eq!(client.daemon(), None);
    let fault = client.status().expect_err("nobody listens");
    assert_eq!(fault.kind, FaultKind::Unreachable);
}

#[test]
fn a_second_instance_is_told_the_pid_of_the_first() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("control.sock");
    let _first = ControlServer::start(&path, Fake::new()).expect("a socket");
    let fault = ControlServer::start(&path, Fake::new()).expect_err("taken");
    assert!(fault.why.contains(&std::process::id().to_string()), "{fault}");
    assert!(ControlClient::new(&path).info().is_ok(), "the first one goes on");
}

#[test]
fn the_socket_of_a_dead_daemon_is_replaced() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("control.sock");
    drop(UnixListener::bind(&path).expect("a socket"));
    std::fs::write(dir.path().join("control.sock.lock"), "4194999\n").expect("a lock file");
    assert!(path.exists());
    let _server = ControlServer::start(&path, Fake::new()).expect("replaced");
    assert!(ControlClient::new(&path).info().is_ok());
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("control.sock");
    std::fs::write(&path, "precious").expect("a file");
    assert!(ControlServer::start(&path, Fake::new()).is_err());
    assert_eq!(std::fs::read_to_string(&path).expect("still there"), "precious");
}

#[test]
fn wrong_requests_get_the_one_form_of_error() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("control.sock");
    let _server = ControlServer::start(&path, Fake::new()).expect("a socket");
    for (request, status) in [
        ("GET /nowhere HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        (
            "PUT /v1/mode HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{\"mode\":\"turbo\"}",
            "422",
        ),
        (
            "PATCH /v1/links HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: 36\r\n\r\n{\"link\":\"wan0\",\"set\":{\"turbo\":true}}",
            "422",
        ),
        ("DELETE /v1/mode HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
    ] {
        let mut stream = std::os::unix::net::UnixStream::connect(&path).expect("connected");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let _: Fault = serde_json::from_str(body).expect("the one form");
    }
}
