//! The tunnel's own devices: they belong to this process and vanish with it, or are removed as a whole.

use std::io;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::Netlink;
use crate::error::NetError;

impl Netlink {
    /// An interface's index.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn index_of(&mut self, name: &str) -> Result<u32, NetError> {
        let mut request = LinkMessage::default();
        request.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let missing = || NetError::NoSuchLink { name: name.to_owned() };
        let answers = self
            .exchange(RouteNetlinkMessage::GetLink(request), netlink_packet_core::NLM_F_ACK)
            .map_err(|source| {
                match source.raw_os_error() {
                    // A name that is too long for an interface is out of range for the kernel.
                    Some(libc::ENODEV | libc::ERANGE) => missing(),
                    _ => NetError::kernel(format!("look for link `{name}`"), source),
                }
            })?;
        let index = answers.iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(message.header.index),
            _ => None,
        });
        index.ok_or_else(missing)
    }

    /// Sets an interface's MTU, in bytes.
    ///
    /// # Errors
    /// No permission, no such interface, or an MTU that it cannot have (IPv6 needs 1,280).
    pub fn set_mtu(&mut self, name: &str, mtu: u16) -> Result<(), NetError> {
        self.set(name, &format!("set the MTU of `{name}` to {mtu}"), |message| {
            message.attributes.push(LinkAttribute::Mtu(u32::from(mtu)));
        })
    }

    /// Sets the length of an interface's transmit queue, in packets.
    ///
    /// # Errors
    /// No permission or no such interface.
    pub fn set_queue_length(&mut self, name: &str, packets: u32) -> Result<(), NetError> {
        self.set(name, &format!("set the queue of `{name}`"), |message| {
            message.attributes.push(LinkAttribute::TxQueueLen(packets));
        })
    }

    /// Switches an interface on or off.
    ///
    /// # Errors
    /// No permission or no such interface.
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<(), NetError> {
        self.set_flag(name, LinkFlags::Up, up)
    }

    /// Switches address resolution on an interface off, or on again.
    ///
    /// # Errors
    /// No permission or no such interface.
    pub fn set_no_arp(&mut self, name: &str, no_arp: bool) -> Result<(), NetError> {
        self.set_flag(name, LinkFlags::Noarp, no_arp)
    }

    fn set_flag(&mut self, name: &str, flag: LinkFlags, on: bool) -> Result<(), NetError> {
        self.set(name, &format!("switch `{name}`"), |message| {
            message.header.flags = if on { flag } else { LinkFlags::empty() };
            message.header.change_mask = flag;
        })
    }

    fn set(&mut self, name: &str, what: &str, fill: impl FnOnce(&mut LinkMessage)) -> Result<(), NetError> {
        let mut message = LinkMessage::default();
        message.header.index = self.index_of(name)?;
        fill(&mut message);
        self.execute(RouteNetlinkMessage::SetLink(message)).map_err(|source| NetError::kernel(what, source))
    }

    /// Makes a pair of virtual Ethernet devices, joined by a cable.
    pub(crate) fn add_veth(&mut self, name: &str, peer: &str) -> Result<(), NetError> {
        let mut other = LinkMessage::default();
        other.attributes.push(LinkAttribute::IfName(peer.to_owned()));
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        self.create(RouteNetlinkMessage::NewLink(message))
            .map_err(|source| NetError::kernel(format!("make the devices `{name}` and `{peer}`"), source))
    }

    /// Removes a device, and a veth's other end with it.
    pub(crate) fn delete_link(&mut self, name: &str) -> Result<(), NetError> {
        let mut message = LinkMessage::default();
        message.header.index = self.index_of(name)?;
        self.execute(RouteNetlinkMessage::DelLink(message))
            .map_err(|source: io::Error| NetError::kernel(format!("remove the device `{name}`"), source))
    }
}
