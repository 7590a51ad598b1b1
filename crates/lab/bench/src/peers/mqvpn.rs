//! mqvpn: packets in the datagrams of one Multipath QUIC connection; TCP ends at its client, and goes on as a QUIC stream
//! (its "hybrid" mode), which is what lets one TCP flow use several links.

use std::process::Command;

use super::call;
use super::tunnel::Tunnel;
use crate::{BenchError, Stand, Way};

const CLIENT: &str = "mqc0";
const SERVER: &str = "mqs0";
const PORT: &str = "4500";
/// The part of the lab's inner network that the server gives addresses from.
const SUBNET: &str = "10.99.0.192/28";

/// Starts both ends, with a path for each link. All else is as it comes, but for the TCP lane.
pub(super) fn start(stand: &Stand) -> Result<Way, BenchError> {
    let mut tunnel = Tunnel::new(stand);
    let (client, server, to) = (tunnel.client(), tunnel.server(), tunnel.endpoint());
    let secret = call(server, &["mqvpn", "--genkey"])?;
    let (cert, key) = (tunnel.file("mqvpn.crt"), tunnel.file("mqvpn.key"));
    let make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let what = ["-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", &key, "-out", &cert];
    call(server, &[&make[..], &what].concat())?;

    let common = format!("LogLevel = info\n[Auth]\nKey = {secret}\n[Hybrid]\nEnabled = true\n");
    let config = tunnel.write(
        "mqvpn-server.conf",
        &format!(
            "[TLS]\nCert = {cert}\nKey = {key}\n\
             [Interface]\nListen = {to}:{PORT}\nSubnet = {SUBNET}\nTunName = {SERVER}\n{common}"
        ),
    )?;
    tunnel.start(server, daemon(&config), |log| log.contains("server ready"))?;

    let paths = tunnel.paths()?;
    let links: String = paths.iter().map(|path| format!("Path = {}\n", path.interface)).collect();
    let config = tunnel.write(
        "mqvpn-client.conf",
        &format!(
            "[Server]\nAddress = {to}:{PORT}\nInsecure = true\n\
             [Interface]\nTunName = {CLIENT}\nManageRoutes = false\n{common}[Multipath]\n{links}"
        ),
    )?;
    let all = paths.len();
    tunnel.start(client, daemon(&config), |log| {
        log.contains("manage_routes=off") && log.matches("-> active").count() >= all
    })?;
    tunnel.open(CLIENT)?;
    Ok(tunnel.into_way(CLIENT))
}

fn daemon(config: &str) -> Command {
    let mut command = Command::new("mqvpn");
    command.args(["--config", config]);
    command
}
