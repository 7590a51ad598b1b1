//! A server that forwards its clients' traffic.

use std::fmt::Write;

use crate::change::Change;
use crate::changes::Changes;
use crate::error::NetError;
use crate::model::{Family, Prefix};
use crate::sysctl;

const FORWARDING_GROUP: &str = "forwarding";
const NAT_GROUP: &str = "nat";
const NFT_TABLE: &str = "bondwire";

/// How a server forwards.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// The tunnel device.
    pub tunnel: String,
    /// The inner networks, at most one of each family in use today.
    pub networks: Vec<Prefix>,
    /// Whether the clients leave with the server's address. Without it somebody else has to route the inner networks here.
    pub nat: bool,
}

impl Changes {
    /// Lets the machine forward between the tunnel and the world, and hides the inner networks behind its addresses if asked to. Also fits the
    /// segment size of TCP connections to the tunnel, since many networks drop the messages that would do it.
    ///
    /// # Errors
    /// No permission, or NAT is asked for and `nft` is missing or refuses.
    pub fn forwarding_and_nat(&mut self, forwarding: &Forwarding) -> Result<(), NetError> {
        let mut wanted = Vec::new();
        let has = |family| forwarding.networks.iter().any(|network| network.family() == family);
        if has(Family::V4) {
            self.want_setting(FORWARDING_GROUP, "net/ipv4/ip_forward", "1", &mut wanted)?;
        }
        if has(Family::V6) {
            // A router ignores router advertisements unless told otherwise, and would lose its own default route.
            for interface in sysctl::ipv6_interfaces() {
                let key = format!("net/ipv6/conf/{interface}/accept_ra");
                if sysctl::read(&key).is_ok_and(|value| value == "1") || self.has_sysctl(&key) {
                    self.want_setting(FORWARDING_GROUP, &key, "2", &mut wanted)?;
                }
            }
            self.want_setting(FORWARDING_GROUP, "net/ipv6/conf/all/forwarding", "1", &mut wanted)?;
        }
        self.sync(FORWARDING_GROUP, &wanted)?;
        match forwarding.nat {
            true => {
                let table = Change::NftTable { name: NFT_TABLE.to_owned(), body: nat_table(forwarding) };
                self.sync(NAT_GROUP, &[table])
            }
            false => self.remove(NAT_GROUP),
        }
    }

    fn has_sysctl(&self, wanted: &str) -> bool {
        self.group(FORWARDING_GROUP)
            .any(|change| matches!(change, Change::Sysctl { key, .. } if key == wanted))
    }
}

fn nat_table(forwarding: &Forwarding) -> String {
    let tunnel = &forwarding.tunnel;
    let mut body = String::from(
        "  chain postrouting {\n    type nat hook postrouting priority srcnat; policy accept;\n",
    );
    for network in &forwarding.networks {
        let family = if network.family() == Family::V4 { "ip" } else { "ip6" };
        // Writing to a string cannot fail.
        let _ = writeln!(body, "    {family} saddr {} oifname != \"{tunnel}\" masquerade", network.network());
    }
    body.push_str("  }\n  chain forward {\n    type filter hook forward priority mangle; policy accept;\n");
    for direction in ["iifname", "oifname"] {
        let _ = writeln!(
            body,
            "    {direction} \"{tunnel}\" tcp flags syn / syn,rst tcp option maxseg size set rt mtu"
        );
    }
    body.push_str("  }\n");
    body
}
