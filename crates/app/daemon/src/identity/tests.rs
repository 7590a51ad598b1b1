//! From `init` to `join`, in folders of their own.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use bondwire_api::{ClientState, FaultKind};
use bondwire_crypto::SecretKey;
use bondwire_wire::Invite;

use super::*;
use crate::folders::Folders;
use crate::names::ClientName;

const DAY: Duration = Duration::from_secs(86_400);

fn folders(dir: &Path) -> Folders {
    Folders { config: dir.join("etc"), state: dir.join("var"), socket: dir.join("sock") }
}

fn options(network: &str) -> InitOptions {
    InitOptions {
        endpoint: "vpn.example.org:4433".parse().expect("good"),
        network: network.parse().expect("good"),
        network6: Some("fd99::/64".parse().expect("good")),
    }
}

fn name(text: &str) -> ClientName {
    text.parse().expect("good")
}

#[test]
fn init_invite_join() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(&dir.path().join("server"));
    let report = server_init(&server, &options("10.99.0.0/24")).expect("made");
    assert_eq!(report.inner_v4, "10.99.0.1");
    let text = invite(&server, &name("van"), DAY).expect("invited").invite;
    let parsed = Invite::parse(&text).expect("an invite");
    assert_eq!(parsed.endpoints, ["vpn.example.org:4433"]);
    let client = folders(&dir.path().join("client"));
    let joined = join(&client, &text, false).expect("joined");
    assert!(!joined.expired);
    let (config, identity) = ClientIdentity::load(&client).expect("loaded");
    assert_eq!(config, crate::config::ClientConfig::default());
    assert_eq!(identity.server.to_string(), report.public_key);
    assert_eq!(identity.key.public().to_string(), joined.public_key);
    assert_eq!(identity.invite_id, parsed.id);
    assert_eq!(identity.secret.as_bytes(), &parsed.secret);
    for file in ["server/etc/server.key", "server/etc/clients/van.toml", "client/etc/client.key"] {
        let mode = std::fs::metadata(dir.path().join(file)).expect(file).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    assert!(
        !server.state.exists() && !client.state.exists(),
        "nothing but the configuration folder is touched"
    );
}

#[test]
fn nothing_is_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(dir.path());
    let first = server_init(&server, &options("10.99.0.0/24")).expect("made");
    assert!(server_init(&server, &options("10.98.0.0/24")).is_err());
    let text = invite(&server, &name("a"), DAY).expect("invited").invite;
    join(&server, &text, false).expect("joined");
    let before = std::fs::read_to_string(server.config_file("client.key")).expect("there");
    let fault = join(&server, &text, false).expect_err("joined already");
    assert!(fault.what_to_do.contains("--force"));
    assert_eq!(std::fs::read_to_string(server.config_file("client.key")).expect("there"), before);
    std::fs::write(server.config_file("client.toml"), "mode = \"speed\"\n").expect("preferences");
    join(&server, &text, true).expect("joined again");
    assert_ne!(std::fs::read_to_string(server.config_file("client.key")).expect("there"), before);
    let (config, _) = ClientIdentity::load(&server).expect("loaded");
    assert_eq!(config.mode, bondwire_api::Mode::Speed, "preferences stay");
    // An interrupted `init` may leave the key alone; the next one finishes the work with it.
    std::fs::remove_file(server.config_file("server.toml")).expect("removed");
    assert_eq!(server_init(&server, &options("10.99.0.0/24")).expect("made"), first);
}

#[test]
fn addresses_are_stable_and_distinct() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(dir.path());
    server_init(&server, &options("10.99.0.0/29")).expect("made");
    for client in ["a", "b", "c", "d", "e"] {
        invite(&server, &name(client), DAY).expect("room");
    }
    let fault = invite(&server, &name("f"), DAY).expect_err("five clients fit /29");
    assert!(fault.why.contains("10.99.0.0/29"));
    let before = clients(&server).expect("listed");
    let addresses: Vec<_> = before.clients.iter().filter_map(|client| client.v4.clone()).collect();
    assert_eq!(addresses, ["10.99.0.2", "10.99.0.3", "10.99.0.4", "10.99.0.5", "10.99.0.6"]);
    assert_eq!(before.clients[1].v6.as_deref(), Some("fd99::3"));
    let renewed = invite(&server, &name("c"), DAY).expect("an unused invite may be renewed");
    assert_eq!(renewed.before, Some(ClientState::Invited));
    revoke(&server, &name("b")).expect("revoked");
    let again = invite(&server, &name("b"), DAY).expect("a revoked client may be invited again");
    assert_eq!(again.before, Some(ClientState::Revoked));
    let after = clients(&server).expect("listed");
    assert_eq!(after.clients.iter().filter_map(|client| client.v4.clone()).collect::<Vec<_>>(), addresses);
}

#[test]
fn a_client_s_states() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(dir.path());
    server_init(&server, &options("10.99.0.0/24")).expect("made");
    let state = || clients(&server).expect("listed").clients[0].state;
    invite(&server, &name("a"), Duration::ZERO).expect("invited");
    assert_eq!(state(), ClientState::Expired);
    let text = invite(&server, &name("a"), DAY).expect("invited").invite;
    assert_eq!(state(), ClientState::Invited);
    let id = Invite::parse(&text).expect("an invite").id;
    let key = SecretKey::from_bytes([7; 32]).public();
    update_client(&server, id, key).expect("pinned");
    assert_eq!(state(), ClientState::Joined);
    update_client(&server, id, SecretKey::from_bytes([8; 32]).public()).expect("no error");
    assert_eq!(clients(&server).expect("listed").clients[0].public_key, Some(key.to_string()), "pinned once");
    let fault = invite(&server, &name("a"), DAY).expect_err("it has joined");
    assert!(fault.what_to_do.contains("revoke a"));
    revoke(&server, &name("a")).expect("revoked");
    assert_eq!(state(), ClientState::Revoked);
}

#[test]
fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(dir.path());
    let fault = invite(&server, &name("a"), DAY).expect_err("no server");
    assert!(fault.what_to_do.contains("bondwire server init"), "{fault}");
    assert_eq!(fault.kind, FaultKind::Usage);
    let fault = ClientIdentity::load(&server).expect_err("not joined");
    assert!(fault.what_to_do.contains("bondwire join INVITE"), "{fault}");
    server_init(&server, &options("10.99.0.0/24")).expect("made");
    invite(&server, &name("laptop"), DAY).expect("invited");
    let fault = revoke(&server, &name("latop")).expect_err("unknown");
    assert!(fault.what_to_do.contains("`laptop`"), "{fault}");
    for text in ["", "hello", "bw1-", "bw1-AAAA"] {
        let fault = join(&server, text, false).expect_err("no invite");
        assert_eq!(fault.kind, FaultKind::Usage);
        assert!(!fault.why.is_empty() && !fault.what_to_do.is_empty(), "{fault}");
    }
    assert!(!server.config_file("client.key").exists());
}

/// What a writer leaves that was killed at any moment is a temporary file at most, and that is no client.
#[test]
fn unfinished_files_are_no_clients() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(dir.path());
    server_init(&server, &options("10.99.0.0/24")).expect("made");
    invite(&server, &name("a"), DAY).expect("invited");
    std::fs::write(server.clients().join(".b.toml.new"), "half a cli").expect("written");
    std::fs::write(server.clients().join("README"), "notes").expect("written");
    assert_eq!(clients(&server).expect("listed").clients.len(), 1);
    invite(&server, &name("b"), DAY).expect("invited");
    assert_eq!(clients(&server).expect("listed").clients.len(), 2);
    assert!(!server.clients().join(".b.toml.new").exists());
}

#[test]
fn invites_made_at_the_same_time_get_different_addresses() {
    let dir = tempfile::tempdir().expect("a directory");
    let server = folders(dir.path());
    server_init(&server, &options("10.99.0.0/24")).expect("made");
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for i in 0..5 {
                    invite(server, &name(&format!("c{worker}-{i}")), DAY).expect("invited");
                }
            });
        }
    });
    let clients = clients(&server).expect("listed").clients;
    let addresses: std::collections::BTreeSet<_> = clients.iter().map(|client| client.v4.clone()).collect();
    assert_eq!((clients.len(), addresses.len()), (20, 20));
}
