//! MLVPN: takes its links in turn, weighted by bandwidths that are typed in, and puts packets in order at the other end.

use std::fmt::Write;
use std::process::Command;
use std::thread;
use std::time::Duration;

use bondwire_netns::traffic::Direction;

use super::tunnel::{Path, Tunnel};
use crate::fixture::seconds;
use crate::{BenchError, Stand, Way};

const CLIENT: &str = "mlc0";
const SERVER: &str = "mls0";
/// The first link's port; each has its own.
const PORT: usize = 5080;
/// What fits into 1,500 bytes with IP, UDP, its header of 28 bytes and the cipher's 16.
const MTU: &str = "1428";

/// It takes a round trip of 1 s for granted until it has measured one, leaves the link out because of that, and looks
/// again once a second.
const SETTLED: Duration = seconds(3);

/// What holds for both ends. The manual's figures: 64 packets of reordering, links are left out that lose half of the
/// packets or have a round trip of 250 ms. A dead link is noticed as soon as it allows.
const GENERAL: &str = "\
tuntap = \"tun\"
password = \"a benchmark between namespaces\"
cleartext_data = 0
timeout = 2
reorder_buffer_size = 64
loss_tolerence = 50
latency_tolerence = 250
";

/// Starts both ends, with a tunnel for each link.
pub(super) fn start(stand: &Stand) -> Result<Way, BenchError> {
    let mut tunnel = Tunnel::new(stand);
    let (client, server, to) = (tunnel.client(), tunnel.server(), tunnel.endpoint());
    let paths = tunnel.paths()?;
    let mut configs = [("server", SERVER), ("client", CLIENT)].map(|(mode, device)| {
        format!("[general]\nmode = \"{mode}\"\ninterface_name = \"{device}\"\n{GENERAL}")
    });
    for (number, path) in paths.iter().enumerate() {
        let port = PORT + number;
        let far = format!("bindhost = \"{to}\"\nbindport = {port}\n");
        let near = format!("bindhost = \"{}\"\nremotehost = \"{to}\"\nremoteport = {port}\n", path.address);
        section(&mut configs[0], number, &far, path, Direction::Down);
        section(&mut configs[1], number, &near, path, Direction::Up);
    }
    tunnel.route_by_source()?;
    let [server_config, client_config] =
        [tunnel.write("mlvpn-server.conf", &configs[0])?, tunnel.write("mlvpn-client.conf", &configs[1])?];
    tunnel.start(server, daemon(&server_config), |log| log.contains("created interface"))?;
    let all = paths.len();
    tunnel.start(client, daemon(&client_config), |log| log.matches(" authenticated").count() >= all)?;
    tunnel.address(CLIENT, SERVER, Some(MTU))?;
    thread::sleep(SETTLED);
    Ok(tunnel.into_way(CLIENT))
}

/// One link, as one end is told of it: where it is, and what this end may send on it.
fn section(config: &mut String, number: usize, place: &str, path: &Path, sends: Direction) {
    let rate = path.bytes_per_second(sends);
    // A string takes whatever is written to it.
    let _ = write!(config, "\n[link{number}]\n{place}bandwidth_upload = {rate}\n");
}

/// The program in the foreground, with its log on stderr. It insists on a user for the part without privileges.
fn daemon(config: &str) -> Command {
    let mut command = Command::new("mlvpn");
    command.args(["--debug", "--natural-title", "--user", "root", "--config", config]);
    command
}
