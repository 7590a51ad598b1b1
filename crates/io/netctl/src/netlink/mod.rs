//! A synchronous rtnetlink client: one request, its answers, its acknowledgement.

mod device;
mod encode;
mod list;

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::error::NetError;

/// The mark of our own routes and rules (`rtm_protocol`): deleting by it never takes away what others made.
pub(crate) const PROTOCOL: u8 = 98;

/// A dump that the kernel calls inconsistent is taken again, this often.
const DUMP_ATTEMPTS: usize = 5;

/// A connection to the kernel's routing tables, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens one.
    ///
    /// # Errors
    /// The kernel gives no netlink socket (no descriptors left, or a sandbox forbids it).
    pub fn open() -> Result<Self, NetError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            Ok(socket)
        };
        let socket =
            open().map_err(|source| NetError::kernel("talk to the kernel's routing tables", source))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Makes something new.
    fn create(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL).map(|_| ())
    }

    /// Changes or deletes something.
    fn execute(&mut self, message: RouteNetlinkMessage) -> io::Result<()> {
        self.exchange(message, NLM_F_ACK).map(|_| ())
    }

    /// Lists all of something.
    fn dump(&mut self, message: RouteNetlinkMessage) -> io::Result<Vec<RouteNetlinkMessage>> {
        for _ in 1..DUMP_ATTEMPTS {
            match self.exchange(message.clone(), NLM_F_DUMP) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
        self.exchange(message, NLM_F_DUMP)
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | flags;
        request.header.sequence_number = self.sequence;
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (header_flags, payload) in messages(&datagram, Some(self.sequence)) {
                interrupted |=
                    header_flags & netlink_packet_core::NLM_F_DUMP_INTR != 0 && flags == NLM_F_DUMP;
                match payload {
                    Some(NetlinkPayload::InnerMessage(answer)) => answers.push(answer),
                    Some(NetlinkPayload::Error(error)) => {
                        return match error.code {
                            None => Ok(answers),
                            Some(code) => Err(io::Error::from_raw_os_error(code.get().abs())),
                        };
                    }
                    Some(NetlinkPayload::Done(_)) if interrupted => {
                        return Err(io::ErrorKind::Interrupted.into());
                    }
                    Some(NetlinkPayload::Done(_)) => return Ok(answers),
                    // Something that this version cannot read, such as an attribute of a newer kernel: one entry less.
                    _ => {}
                }
            }
        }
    }
}

/// The messages in a datagram, those of one request only if `sequence` is given. `None` stands for one that cannot be read.
pub(crate) fn messages(
    datagram: &[u8],
    sequence: Option<u32>,
) -> impl Iterator<Item = (u16, Option<NetlinkPayload<RouteNetlinkMessage>>)> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(rest.first_chunk::<4>().copied()?) as usize;
            if length < 16 || length > rest.len() {
                return None;
            }
            let one = &rest[..length];
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            let number = u32::from_ne_bytes([one[8], one[9], one[10], one[11]]);
            if sequence.is_none_or(|wanted| wanted == number) {
                let flags = u16::from_ne_bytes([one[6], one[7]]);
                let payload = NetlinkMessage::deserialize(one).ok().map(|message| message.payload);
                return Some((flags, payload));
            }
        }
    })
}
