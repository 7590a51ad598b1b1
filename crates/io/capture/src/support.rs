//! What this machine allows.

use std::fs;

use crate::{cgroup, socket};

/// How sockets of this machine are led to links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Programs of the cgroup see each socket as it connects or sends. The socket then has its link's own address, and nothing looks at its packets.
    Ebpf,
    /// nftables rules see each flow's first packet, and translate its address.
    Nftables,
}

/// Whether each way is possible, as far as can be told without trying. If not, the text says why.
#[derive(Clone, Debug)]
pub struct Support {
    /// By eBPF.
    pub ebpf: Result<(), String>,
    /// By nftables.
    pub nftables: Result<(), String>,
}

impl Support {
    /// Looks.
    pub(crate) fn probe() -> Self {
        let nftables = match has_capabilities(&[CAP_NET_ADMIN]) {
            false => Err("this process lacks CAP_NET_ADMIN".to_owned()),
            true => bondwire_netctl::probe_nft().map_err(|error| error.to_string()),
        };
        Self { ebpf: probe_ebpf(), nftables }
    }

    /// The better way that is possible.
    pub fn way(&self) -> Option<Way> {
        match (&self.ebpf, &self.nftables) {
            (Ok(()), Ok(())) => Some(Way::Ebpf),
            (Err(_), Ok(())) => Some(Way::Nftables),
            // Masquerading needs nftables too.
            (_, Err(_)) => None,
        }
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_BPF: u32 = 39;

fn probe_ebpf() -> Result<(), String> {
    if cfg!(target_endian = "big") {
        return Err("the programs are built for little-endian machines".to_owned());
    }
    if in_user_namespace() {
        return Err("this process is in a user namespace, as in an unprivileged container".to_owned());
    }
    if !has_capabilities(&[CAP_SYS_ADMIN]) && !has_capabilities(&[CAP_BPF, CAP_NET_ADMIN]) {
        return Err("this process lacks CAP_BPF with CAP_NET_ADMIN".to_owned());
    }
    cgroup::root().map_err(|error| error.to_string())?;
    let any = std::net::UdpSocket::bind("127.0.0.1:0").map_err(|error| format!("no UDP socket: {error}"))?;
    socket::namespace_cookie(&any).map(|_| ()).map_err(|_| "the kernel is older than 5.14".to_owned())
}

/// A process of the first user namespace sees all users as they are.
fn in_user_namespace() -> bool {
    let Ok(map) = fs::read_to_string("/proc/self/uid_map") else { return false };
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

fn has_capabilities(wanted: &[u32]) -> bool {
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return false };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    wanted.iter().all(|bit| bits >> bit & 1 == 1)
}
