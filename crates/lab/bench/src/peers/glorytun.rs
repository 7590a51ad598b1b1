//! glorytun: spreads packets at random over its paths, in proportion to rates that are typed in, and paces itself to
//! their sum. It does not put packets in order.

use std::process::Command;

use bondwire_netns::Node;
use bondwire_netns::traffic::Direction;

use super::call;
use super::tunnel::Tunnel;
use crate::{BenchError, Stand, Way};

const CLIENT: &str = "gtc0";
const SERVER: &str = "gts0";
const PORT: &str = "5000";
/// Where it keeps its control sockets when it is root's and there is no session of a user.
const SOCKETS: [&str; 2] = ["/run/user/0/glorytun", "/run/glorytun.0"];
/// Its rates are of UDP payload: 28 bytes of each full packet of 1,500 are IP's and UDP's. What is typed in is true then,
/// and does not fill the queues by itself.
const PAYLOAD: (u64, u64) = (1472, 1500);

/// Starts both ends, with a path for each link and fixed rates. The client's word on them counts for the server too.
pub(super) fn start(stand: &Stand) -> Result<Way, BenchError> {
    let mut tunnel = Tunnel::new(stand);
    let (client, server, to) = (tunnel.client(), tunnel.server(), tunnel.endpoint());
    let key = tunnel.write("glorytun.key", &call(client, &["glorytun", "keygen"])?)?;
    for folder in SOCKETS {
        // It succeeds when they are empty, which is when nobody else's are in it.
        tunnel.undo(client, &["rmdir", folder]);
    }
    tunnel.route_by_source()?;
    let is_running = |log: &str| log.contains("running on device");
    let from = ["from", "addr", &to, "port", PORT];
    tunnel.start(server, bind(SERVER, &key, &from), is_running)?;
    let onto = ["from", "addr", "0.0.0.0", "port", "0", "to", "addr", &to, "port", PORT];
    tunnel.start(client, bind(CLIENT, &key, &onto), is_running)?;
    // It reads nothing while its device is down.
    tunnel.address(CLIENT, SERVER, None)?;
    let paths = tunnel.paths()?;
    for path in &paths {
        let address = path.address.to_string();
        let [up, down] = [Direction::Up, Direction::Down]
            .map(|direction| (path.bytes_per_second(direction) * PAYLOAD.0 / PAYLOAD.1).to_string());
        let which = ["glorytun", "path", "dev", CLIENT, "addr", &address, "to", "addr", &to, "port", PORT];
        call(client, &[&which[..], &["set", "up", "rate", "fixed", "tx", &up, "rx", &down]].concat())?;
    }
    tunnel.wait("all paths run", || {
        running(client, CLIENT) == paths.len() && running(server, SERVER) == paths.len()
    })?;
    Ok(tunnel.into_way(CLIENT))
}

fn bind(device: &str, key: &str, ends: &[&str]) -> Command {
    let mut command = Command::new("glorytun");
    command.args(["bind", "dev", device, "keyfile", key]).args(ends);
    command
}

/// How many paths carry data.
fn running(node: &Node, device: &str) -> usize {
    let shown = call(node, &["glorytun", "path", "dev", device]).unwrap_or_default();
    shown.lines().filter(|line| line.split_whitespace().any(|word| word == "running")).count()
}
