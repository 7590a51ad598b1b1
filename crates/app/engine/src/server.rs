//! The server's side: one socket, or a few, for all clients.

use std::io;

use bondwire_bond::{
    Arrival, ArrivalBatch, ClientRecord, DatagramBatch, Route, Server, ServerEvent, ServerStatus,
};
use bondwire_packet::PacketBatch;
use bondwire_tun::Device;
use bondwire_udp::{Datagram, SendError, SendErrorKind, SendOutcome, ServerSocket};
use bondwire_units::{Deadline, LinkId, Timestamp};
use rustix::fd::{AsFd, BorrowedFd};

use crate::clock::unix_seconds;
use crate::error::EngineError;
use crate::handle::{EngineEvent, EngineHandle};
use crate::worker::Side;

/// A server's running data plane.
pub type ServerHandle = EngineHandle<ServerCommand, ServerEvent, ServerStatus>;

/// What the control plane may ask of a server's data plane.
#[derive(Clone, Debug)]
pub enum ServerCommand {
    /// The whole list of clients. Sessions of those that were revoked, or are no longer listed, end at once.
    SetDirectory(Vec<ClientRecord>),
}

/// What a server's data plane is made of.
#[derive(Debug)]
pub struct ServerSetup {
    /// The tunnel device.
    pub device: Device,
    /// The bond, made with a time of [`Clock`](crate::Clock), and with its list of clients.
    pub server: Server,
    /// At least one. A datagram is answered from the socket at which it arrived; its place in this list is the `link` of its route.
    pub sockets: Vec<ServerSocket>,
}

/// Starts a server's data plane.
///
/// # Errors
/// The kernel gives no event descriptor or thread.
pub fn spawn_server(setup: ServerSetup) -> Result<ServerHandle, EngineError> {
    let mut side = ServerSide { server: setup.server, sockets: setup.sockets };
    side.server.set_clock(unix_seconds());
    EngineHandle::spawn(side, setup.device)
}

struct ServerSide {
    server: Server,
    sockets: Vec<ServerSocket>,
}

impl Side for ServerSide {
    type Command = ServerCommand;
    type Event = ServerEvent;
    type Status = ServerStatus;

    fn sockets<'a>(&'a self, out: &mut Vec<BorrowedFd<'a>>) {
        out.extend(self.sockets.iter().map(ServerSocket::as_fd));
    }

    fn receive(&mut self, socket: usize, out: &mut ArrivalBatch) -> io::Result<usize> {
        let link = LinkId(u32::try_from(socket).unwrap_or(u32::MAX));
        match self.sockets.get_mut(socket) {
            Some(socket) => socket.recv_batch(out, |from, waited| Arrival {
                route: Route { link, local: from.local, remote: from.remote },
                waited,
            }),
            None => Ok(0),
        }
    }

    fn send(&mut self, batch: &DatagramBatch, first: usize, end: usize) -> SendOutcome {
        let link = batch.get(first).map_or(0, |(_, route)| route.link.0 as usize);
        match self.sockets.get_mut(link) {
            Some(socket) => socket
                .send_batch(batch, first..end, |route| Datagram { remote: route.remote, local: route.local }),
            None => {
                let errors = (first..end).map(|index| SendError { index, kind: SendErrorKind::AddressGone });
                SendOutcome { errors: errors.collect(), ..SendOutcome::default() }
            }
        }
    }

    fn handle_refusal(&mut self, route: Route, size: usize, kind: SendErrorKind, now: Timestamp) {
        match kind {
            SendErrorKind::MessageTooLong => self.server.handle_too_large(route, size, now),
            // The path notices what is missing as it notices any loss.
            SendErrorKind::WouldBlock => {}
            _ => self.server.handle_send_error(route, now),
        }
    }

    fn handle_datagrams(&mut self, batch: &mut ArrivalBatch, deliver: &mut PacketBatch, now: Timestamp) {
        self.server.handle_datagrams(batch, deliver, now);
    }

    fn handle_packets(&mut self, batch: &PacketBatch, now: Timestamp) {
        self.server.handle_packets(batch, now);
    }

    fn handle_timeout(&mut self, deliver: &mut PacketBatch, now: Timestamp) {
        self.server.handle_timeout(deliver, now);
    }

    fn poll_transmit(&mut self, out: &mut DatagramBatch, now: Timestamp) {
        self.server.poll_transmit(out, now);
    }

    fn poll_deadline(&mut self, now: Timestamp) -> Option<Deadline> {
        self.server.poll_deadline(now)
    }

    fn poll_event(&mut self) -> Result<Option<EngineEvent<ServerEvent>>, EngineError> {
        Ok(self.server.poll_event().map(EngineEvent::Bond))
    }

    fn command(&mut self, command: ServerCommand, now: Timestamp) {
        match command {
            ServerCommand::SetDirectory(records) => self.server.set_directory(records, now),
        }
    }

    fn close(&mut self, now: Timestamp) {
        self.server.close(now);
    }

    fn status(&mut self, now: Timestamp) -> ServerStatus {
        // The status is taken ten times a second: often enough for invites that end.
        self.server.set_clock(unix_seconds());
        self.server.status(now)
    }
}
