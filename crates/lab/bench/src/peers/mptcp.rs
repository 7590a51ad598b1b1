//! The kernel's Multipath TCP: plain sockets of the client and the web host, each link's address an endpoint.

use std::net::SocketAddr;

use bondwire_netns::traffic::{BulkServer, Direction};

use super::call;
use crate::{BenchError, Cleanup, Stand, Way};

/// Subflows beside the first one; as many as the kernel's own bound.
const SUBFLOWS: &str = "8";

/// Tells both machines to use it, and has the web host answer it at a port of its own.
pub(super) fn start(stand: &Stand, direction: Direction) -> Result<Way, BenchError> {
    let (client, web) = (stand.lab().client(), stand.lab().web());
    for node in [client, web] {
        node.sysctl("net.mptcp.enabled", "1")?;
        call(node, &["ip", "mptcp", "limits", "set", "subflow", SUBFLOWS, "add_addr_accepted", SUBFLOWS])?;
    }
    call(client, &["ip", "mptcp", "endpoint", "flush"])?;
    for link in stand.lab().links() {
        let Some(address) = link.client_v4 else { continue };
        // Bound to its interface, a subflow takes that link's default route.
        let address = address.to_string();
        call(client, &["ip", "mptcp", "endpoint", "add", &address, "dev", &link.name, "subflow"])?;
    }
    let address = SocketAddr::new(stand.lab().web_addr_v4().into(), 0);
    let server = BulkServer::start_multipath(web, address)?;
    let undo = ["ip", "mptcp", "endpoint", "flush"].map(str::to_owned).into();
    let cleanup = Cleanup { processes: Vec::new(), commands: vec![(client.clone(), undo)] };
    Ok(Way { interface: Some(stand.best(direction).name), multipath: Some(server), cleanup })
}
