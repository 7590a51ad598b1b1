//! What kind of link an interface is: a guess from the kernel's type, sysfs, and the name.

use std::fmt;
use std::fs;
use std::path::Path;

use netlink_packet_route::link::LinkLayerType;
use serde::{Deserialize, Serialize};

/// The kind of a link. The user can override the guess; a satellite dish looks like any Ethernet router.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A cable.
    Ethernet,
    /// A wireless network.
    Wifi,
    /// A modem in, or plugged into, this machine.
    Cellular,
    /// A satellite terminal. Never guessed.
    Satellite,
    /// A telephone that shares its connection over USB or Bluetooth.
    Tethered,
    /// None of these, or it does not show.
    #[default]
    Unknown,
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "ethernet",
            Self::Wifi => "wifi",
            Self::Cellular => "cellular",
            Self::Satellite => "satellite",
            Self::Tethered => "tethered",
            Self::Unknown => "unknown",
        })
    }
}

/// What netlink says of an interface's kind.
#[derive(Debug, Default)]
pub(crate) struct KindHints {
    pub(crate) layer: LinkLayerType,
    /// `IFLA_INFO_KIND`: set for software devices.
    pub(crate) driver_kind: Option<String>,
}

/// Devices whose packets leave over another interface, by their `IFLA_INFO_KIND`.
const STACKED: [&str; 22] = [
    "tun",
    "wireguard",
    "bridge",
    "ipip",
    "sit",
    "gre",
    "gretap",
    "ip6gre",
    "ip6gretap",
    "ip6tnl",
    "vti",
    "vti6",
    "vxlan",
    "geneve",
    "dummy",
    "ifb",
    "xfrm",
    "vrf",
    "nlmon",
    "erspan",
    "amt",
    "gtp",
];

pub(crate) fn is_virtual(name: &str, hints: &KindHints) -> bool {
    match hints.driver_kind.as_deref() {
        Some(kind) if STACKED.contains(&kind) => true,
        // Containers' and virtual machines' ends of their cables, not our own uplink.
        Some("veth") => name.starts_with("veth") || name.starts_with("docker"),
        _ => false,
    }
}

pub(crate) fn guess(name: &str, index: u32, hints: &KindHints) -> LinkKind {
    match hints.driver_kind.as_deref() {
        Some("wwan" | "rmnet") => return LinkKind::Cellular,
        Some("veth" | "vlan" | "macvlan" | "bond" | "team") => return LinkKind::Ethernet,
        Some(kind) if STACKED.contains(&kind) => return LinkKind::Unknown,
        _ => {}
    }
    if hints.layer == LinkLayerType::Rawip {
        return LinkKind::Cellular;
    }
    let by_sysfs = from_sysfs(Path::new("/sys/class/net"), name, index);
    by_sysfs.or_else(|| from_name(name)).unwrap_or(match hints.layer {
        LinkLayerType::Ether => LinkKind::Ethernet,
        _ => LinkKind::Unknown,
    })
}

fn from_sysfs(root: &Path, name: &str, index: u32) -> Option<LinkKind> {
    let device = root.join(name);
    // In a network namespace /sys may still show the one outside, where the same name is another device.
    if fs::read_to_string(device.join("ifindex")).ok()?.trim() != index.to_string() {
        return None;
    }
    let event = fs::read_to_string(device.join("uevent")).unwrap_or_default();
    let kind = event.lines().find_map(|line| line.strip_prefix("DEVTYPE="));
    match kind {
        Some("wlan") => return Some(LinkKind::Wifi),
        Some("wwan") => return Some(LinkKind::Cellular),
        Some("bluetooth") => return Some(LinkKind::Tethered),
        _ => {}
    }
    if device.join("wireless").exists() || device.join("phy80211").exists() {
        return Some(LinkKind::Wifi);
    }
    let driver = fs::read_link(device.join("device/driver")).ok()?;
    match driver.file_name()?.to_str()? {
        "rndis_host" | "ipheth" => Some(LinkKind::Tethered),
        "qmi_wwan" | "cdc_mbim" | "huawei_cdc_ncm" | "sierra_net" | "hso" | "iosm" | "mhi_net" => {
            Some(LinkKind::Cellular)
        }
        _ => None,
    }
}

fn from_name(name: &str) -> Option<LinkKind> {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    if starts(&["wlan", "wlp", "wlx", "ath", "ra0"]) {
        Some(LinkKind::Wifi)
    } else if starts(&["wwan", "wwp", "wwx", "rmnet", "cdc-wdm"]) {
        Some(LinkKind::Cellular)
    } else if starts(&["usb", "bnep", "rndis"]) {
        Some(LinkKind::Tethered)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_last_resort() {
        let ether = KindHints { layer: LinkLayerType::Ether, driver_kind: None };
        assert_eq!(guess("wlan9", 0, &ether), LinkKind::Wifi);
        assert_eq!(guess("wwan9", 0, &ether), LinkKind::Cellular);
        assert_eq!(guess("lan9", 0, &ether), LinkKind::Ethernet);
        let tunnel = KindHints { layer: LinkLayerType::None, driver_kind: Some("wireguard".to_owned()) };
        assert_eq!(guess("wlan9", 0, &tunnel), LinkKind::Unknown);
        assert!(is_virtual("wg0", &tunnel));
    }

    #[test]
    fn sysfs_of_another_namespace_is_not_believed() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("net0");
        fs::create_dir(&device).unwrap();
        fs::write(device.join("ifindex"), "7\n").unwrap();
        fs::write(device.join("uevent"), "DEVTYPE=wwan\nINTERFACE=net0\n").unwrap();
        assert_eq!(from_sysfs(root.path(), "net0", 7), Some(LinkKind::Cellular));
        assert_eq!(from_sysfs(root.path(), "net0", 8), None);
    }
}
