//! wireguard-go: a tunnel over one link, which is what a bond has to beat.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;

use super::call;
use crate::fixture::{Process, seconds};
use crate::{BenchError, Cleanup, Stand, Way};

const CLIENT: &str = "wgc0";
const SERVER: &str = "wgs0";
const PORT: &str = "51820";
/// Inside the lab's inner network, which the core routes to the server; far from the addresses that a bond's client gets.
const CLIENT_ADDRESS: &str = "10.99.0.201";
const SERVER_ADDRESS: &str = "10.99.0.200";
const READY: Duration = seconds(5);

/// Starts both ends, over the best link in `direction`.
pub(super) fn start(stand: &Stand, direction: Direction) -> Result<Way, BenchError> {
    let lab = stand.lab();
    let (client, server) = (lab.client(), lab.server());
    let folder = &stand.settings().folder;
    let (client_key, server_key) =
        (Key::make(client, folder, "client")?, Key::make(server, folder, "server")?);
    let best = lab.link(&stand.best(direction).name)?;
    let gateway =
        best.gateway_v4.ok_or_else(|| BenchError::Scenario("no IPv4 on the best link".to_owned()))?;
    let endpoint = lab.server_addr_v4().to_string();
    let processes = vec![daemon(client, CLIENT)?, daemon(server, SERVER)?];

    call(
        server,
        &[
            "wg",
            "set",
            SERVER,
            "listen-port",
            PORT,
            "private-key",
            &server_key.file,
            "peer",
            &client_key.public,
            "allowed-ips",
            &format!("{CLIENT_ADDRESS}/32"),
        ],
    )?;
    let to = format!("{endpoint}:{PORT}");
    call(
        client,
        &[
            "wg",
            "set",
            CLIENT,
            "private-key",
            &client_key.file,
            "peer",
            &server_key.public,
            "allowed-ips",
            "0.0.0.0/0",
            "endpoint",
            &to,
        ],
    )?;
    for (node, device, own, other) in
        [(client, CLIENT, CLIENT_ADDRESS, SERVER_ADDRESS), (server, SERVER, SERVER_ADDRESS, CLIENT_ADDRESS)]
    {
        call(node, &["ip", "address", "replace", &format!("{own}/32"), "dev", device])?;
        call(node, &["ip", "link", "set", device, "mtu", "1420", "up"])?;
        call(node, &["ip", "route", "replace", &format!("{other}/32"), "dev", device])?;
    }
    // Flows are bound to the device, and take its default route; all others keep theirs.
    call(client, &["ip", "route", "replace", "default", "dev", CLIENT, "metric", "9000"])?;
    let outside = format!("{endpoint}/32");
    call(
        client,
        &["ip", "route", "replace", &outside, "via", &gateway.to_string(), "dev", &best.name, "metric", "1"],
    )?;
    let undo = ["ip", "route", "del", &outside, "metric", "1"].map(str::to_owned).into();
    let cleanup = Cleanup { processes, commands: vec![(client.clone(), undo)] };
    Ok(Way { interface: Some(CLIENT.to_owned()), multipath: None, cleanup })
}

/// A key pair, the private half in a file.
struct Key {
    file: String,
    public: String,
}

impl Key {
    fn make(node: &Node, folder: &Path, name: &str) -> Result<Self, BenchError> {
        let path = folder.join(format!("wireguard-{name}.key"));
        let fail = |source| BenchError::File { what: format!("write {}", path.display()), source };
        fs::write(&path, call(node, &["wg", "genkey"])?).map_err(fail)?;
        let file = path.display().to_string();
        let public = call(node, &["sh", "-c", "wg pubkey < \"$0\"", &file])?;
        Ok(Self { file, public })
    }
}

/// Starts the program in the foreground, and waits for its device.
fn daemon(node: &Node, device: &'static str) -> Result<Process, BenchError> {
    let mut command = Command::new("wireguard-go");
    command
        .args(["-f", device])
        .env("LOG_LEVEL", "error")
        .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1");
    let mut process = Process::start(node, command);
    let start = Instant::now();
    while call(node, &["wg", "show", device]).is_err() {
        if start.elapsed() > READY || !process.is_running() {
            return Err(BenchError::Tool {
                command: format!("wireguard-go -f {device}"),
                why: process.log(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(process)
}
