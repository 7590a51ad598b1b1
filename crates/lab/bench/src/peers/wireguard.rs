//! wireguard-go: a tunnel over one link, which is what a bond has to beat.

use std::process::Command;

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;

use super::call;
use super::tunnel::Tunnel;
use crate::{BenchError, Stand, Way};

const CLIENT: &str = "wgc0";
const SERVER: &str = "wgs0";
const PORT: &str = "51820";

/// Starts both ends, over the best link in `direction`.
pub(super) fn start(stand: &Stand, direction: Direction) -> Result<Way, BenchError> {
    let mut tunnel = Tunnel::new(stand);
    let (client, server) = (tunnel.client(), tunnel.server());
    let (client_key, server_key) =
        (Key::make(&tunnel, client, "client")?, Key::make(&tunnel, server, "server")?);
    for (node, device) in [(client, CLIENT), (server, SERVER)] {
        tunnel.start(node, daemon(device), |_| call(node, &["wg", "show", device]).is_ok())?;
    }
    let peer = ["peer", &client_key.public, "allowed-ips", "10.99.0.0/24"];
    let own = ["wg", "set", SERVER, "listen-port", PORT, "private-key", &server_key.file];
    call(server, &[&own[..], &peer].concat())?;
    let to = format!("{}:{PORT}", tunnel.endpoint());
    let peer = ["peer", &server_key.public, "allowed-ips", "0.0.0.0/0", "endpoint", &to];
    call(client, &[&["wg", "set", CLIENT, "private-key", &client_key.file][..], &peer].concat())?;
    tunnel.address(CLIENT, SERVER, Some("1420"))?;
    let best = tunnel.best(direction)?;
    tunnel.route_by(&best)?;
    Ok(tunnel.into_way(CLIENT))
}

/// A key pair, the private half in a file.
struct Key {
    file: String,
    public: String,
}

impl Key {
    fn make(tunnel: &Tunnel<'_>, node: &Node, name: &str) -> Result<Self, BenchError> {
        let file = tunnel.write(&format!("wireguard-{name}.key"), &call(node, &["wg", "genkey"])?)?;
        let public = call(node, &["sh", "-c", "wg pubkey < \"$0\"", &file])?;
        Ok(Self { file, public })
    }
}

/// The program in the foreground.
fn daemon(device: &str) -> Command {
    let mut command = Command::new("wireguard-go");
    command
        .args(["-f", device])
        .env("LOG_LEVEL", "error")
        .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1");
    command
}
