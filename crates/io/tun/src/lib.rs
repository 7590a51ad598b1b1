//! The tunnel device: inner packets out of and into the kernel, in batches.
//!
//! A [`Device`] is one of two kinds. [`DeviceKind::Tun`] is a TUN interface, gone with the process. [`DeviceKind::Packet`] is for places where
//! `/dev/net/tun` cannot be opened, such as an ordinary user's namespace on a machine that reserves it for root: a pair of virtual Ethernet devices,
//! of which the kernel routes into one, and a packet socket reads and writes the other. Both look the same from here and from the routing table.
//!
//! Reading and writing never block. What the kernel does not take is dropped and counted: a tunnel is a link, and links lose packets.
//! Segments of a TCP flow pass a TUN interface in trains (`vnet_hdr`; [`bondwire_packet::segments`]); above it there are single packets only:
//! [`Offload`](bondwire_packet::Offload) notes are plain on reading, and packets that stand for several are refused on writing.
//!
//! Life-cycle: [`Device::open`] makes it, sets its MTU and queue, and switches it on; addresses and routes come by `bondwire-netctl`.
//! Bounds: one packet of 65,535 bytes of spare room in the caller's batch; 32 slots of the MTU for the packet device.

mod error;
mod packet;
mod sys;
mod tun;

#[cfg(test)]
mod tests;

pub use error::TunError;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use bondwire_netctl::{Change, Changes, NetError, Netlink};
use bondwire_packet::PacketBatch;

/// The interface's own queue, in packets, of which a TCP packet may be 64 KiB. It is read whenever the thread runs, so its length is what may
/// arrive while the thread is away: some 10 ms of 1 Gbit/s in single packets. The kernel's 500 lose bursts; many more would be seconds of large ones.
const QUEUE_LENGTH: u32 = 1_000;
/// The longest interface name that the kernel takes.
const LONGEST_NAME: usize = 15;
const PEER_SUFFIX: &str = "-peer";

/// Which kind of device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceKind {
    /// A TUN interface. Needs `/dev/net/tun` and `CAP_NET_ADMIN`.
    #[default]
    Tun,
    /// A virtual Ethernet pair and a packet socket. Needs `CAP_NET_ADMIN` and `CAP_NET_RAW` in the network namespace.
    Packet,
}

/// How a device is made.
#[derive(Clone, Debug)]
pub struct DeviceConfig {
    /// Its name; without one, the first free of `bw0`, `bw1`, …
    pub name: Option<String>,
    /// Its kind.
    pub kind: DeviceKind,
    /// The greatest inner packet, in bytes. IPv6 needs at least 1,280.
    pub mtu: u16,
}

/// What became of a batch that was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Packets that the kernel took.
    pub packets: usize,
    /// Packets that it did not: malformed, too long, or while the device was down or its queue full.
    pub dropped: usize,
}

/// The tunnel device.
#[derive(Debug)]
pub struct Device {
    name: String,
    index: u32,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tun(tun::Tun),
    Packet(packet::Packet),
}

impl Device {
    /// Makes a device and switches it on. A pair of virtual devices outlives a process that is killed, so it is made through `changes`.
    ///
    /// # Errors
    /// `/dev/net/tun` is missing or closed to this user, a capability is missing, or the name is taken or too long.
    pub fn open(config: &DeviceConfig, changes: &mut Changes) -> Result<Self, TunError> {
        if let Some(name) = &config.name {
            check_name(name, config.kind)?;
        }
        let (name, kind) = match config.kind {
            DeviceKind::Tun => {
                let tun = tun::Tun::open(config.name.as_deref().unwrap_or("bw%d"))?;
                (tun.name().to_owned(), Kind::Tun(tun))
            }
            DeviceKind::Packet => {
                let name = match &config.name {
                    Some(name) => name.clone(),
                    None => free_name(changes.netlink())?,
                };
                make_pair(&name, changes)?;
                let (index, peer) =
                    (changes.netlink().link(&name)?, changes.netlink().index_of(&peer_of(&name))?);
                let packet = packet::Packet::open(&name, peer, &index.hardware, config.mtu)?;
                (name, Kind::Packet(packet))
            }
        };
        let netlink = changes.netlink();
        let mut device = Self { index: netlink.index_of(&name)?, name, kind };
        device.set_mtu(config.mtu, netlink)?;
        netlink.set_queue_length(&device.name, QUEUE_LENGTH)?;
        if let Kind::Packet(_) = device.kind {
            netlink.set_no_arp(&device.name, true)?;
            netlink.set_up(&peer_of(&device.name), true)?;
        }
        netlink.set_up(&device.name, true)?;
        Ok(device)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its interface index.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Its kind.
    pub fn kind(&self) -> DeviceKind {
        match self.kind {
            Kind::Tun(_) => DeviceKind::Tun,
            Kind::Packet(_) => DeviceKind::Packet,
        }
    }

    /// Changes the greatest inner packet, in bytes.
    ///
    /// # Errors
    /// No permission, or an MTU that the device cannot have.
    pub fn set_mtu(&mut self, mtu: u16, netlink: &mut Netlink) -> Result<(), NetError> {
        if let Kind::Packet(packet) = &mut self.kind {
            netlink.set_mtu(&peer_of(&self.name), mtu)?;
            packet.set_mtu(mtu);
        }
        netlink.set_mtu(&self.name, mtu)
    }

    /// Appends the packets that wait, and gives their number. Zero if none waits. Stops at `max`, which only the segments of one large TCP packet may exceed.
    ///
    /// # Errors
    /// The device was removed, or the kernel failed in another way that more calls will not cure.
    pub fn recv_batch(&mut self, out: &mut PacketBatch, max: usize) -> io::Result<usize> {
        match &mut self.kind {
            Kind::Tun(tun) => tun.recv_batch(out, max),
            Kind::Packet(packet) => packet.recv_batch(out, max),
        }
    }

    /// Hands the packets to the kernel, those of each flow in order; one that is no TCP may overtake TCP segments that are gathered.
    pub fn send_batch(&mut self, batch: &PacketBatch) -> Written {
        match &mut self.kind {
            Kind::Tun(tun) => tun.send_batch(batch),
            Kind::Packet(packet) => packet.send_batch(batch),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tun(tun) => tun.as_fd(),
            Kind::Packet(packet) => packet.as_fd(),
        }
    }
}

fn peer_of(name: &str) -> String {
    format!("{name}{PEER_SUFFIX}")
}

fn check_name(name: &str, kind: DeviceKind) -> Result<(), TunError> {
    let most = match kind {
        DeviceKind::Tun => LONGEST_NAME,
        DeviceKind::Packet => LONGEST_NAME - PEER_SUFFIX.len(),
    };
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if name.is_empty() || name.len() > most || !plain || name.starts_with('.') {
        return Err(TunError::BadName { name: name.to_owned(), most });
    }
    Ok(())
}

fn free_name(netlink: &mut Netlink) -> Result<String, TunError> {
    let links = netlink.links()?;
    let taken = |name: &String| links.iter().any(|link| link.name == *name || link.name == peer_of(name));
    (0..=links.len())
        .map(|number| format!("bw{number}"))
        .find(|name| !taken(name))
        .ok_or_else(|| TunError::NameInUse { name: "bw0".to_owned() })
}

fn make_pair(name: &str, changes: &mut Changes) -> Result<(), TunError> {
    for end in [name.to_owned(), peer_of(name)] {
        match changes.netlink().index_of(&end) {
            Ok(_) => return Err(TunError::NameInUse { name: end }),
            Err(NetError::NoSuchLink { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let pair = Change::VethPair { name: name.to_owned(), peer: peer_of(name) };
    Ok(changes.sync(&format!("device {name}"), &[pair])?)
}
