use bondwire_netem::{Nat, NatConfig, Pipe, PipeConfig};
use bondwire_rawlink::PacketSocket;
use bondwire_units::Timestamp;

use super::frame::{self, Kind};
use super::histogram::Histogram;
use super::report::{DirectionReport, LinkReport};
use crate::clock;

/// Frames that are read from one socket before the others have their turn.
const BURST: usize = 512;

/// What a link is to the emulator.
#[derive(Clone, Debug)]
pub(crate) struct LineConfig {
    pub(crate) name: String,
    pub(crate) up: PipeConfig,
    pub(crate) down: PipeConfig,
    pub(crate) nat: Option<NatConfig>,
    /// The largest IP packet, in bytes.
    pub(crate) mtu: usize,
    pub(crate) seed: u64,
}

/// One link: a socket at the client's end, a socket at the provider's, and a pipe for each direction.
///
/// The NAT stands at the provider's end: behind the pipe on the way up, before it on the way down.
#[derive(Debug)]
pub(crate) struct Line {
    name: String,
    client: PacketSocket,
    provider: PacketSocket,
    up: Direction,
    down: Direction,
    nat: Option<Nat>,
    nat_drops: u64,
    mtu: usize,
}

#[derive(Debug)]
struct Direction {
    pipe: Pipe<Vec<u8>>,
    /// How far the pipe has been taken. Frames are stamped by the wall clock, which may be set back: none enters before
    /// this, or the link would carry more than its rate.
    last: Timestamp,
    dropped_size: u64,
    dropped_kernel: u64,
    failed_sends: u64,
}

impl Direction {
    fn new(config: PipeConfig, seed: u64, now: Timestamp) -> Self {
        let mut pipe = Pipe::new(PipeConfig::default(), seed);
        // A trace starts when it is set.
        pipe.set_config(config, now);
        Self { pipe, last: now, dropped_size: 0, dropped_kernel: 0, failed_sends: 0 }
    }

    fn handle(&mut self, frame: Vec<u8>, mtu: usize, at: Timestamp) {
        let size = frame.len().saturating_sub(frame::HEADER);
        if size > mtu {
            self.dropped_size += 1;
            return;
        }
        self.last = self.last.max(at);
        self.pipe.handle_packet(frame, size, self.last);
    }

    /// The next frame that is due by `now`, and when it was.
    fn poll(&mut self, now: Timestamp) -> Option<(Vec<u8>, Timestamp)> {
        self.last = self.last.max(now);
        // Asked at each deadline in turn, the pipe gives every packet at exactly its own time.
        while let Some(due) = self.pipe.poll_deadline().filter(|due| *due <= now) {
            if let Some(frame) = self.pipe.poll_packet(due) {
                return Some((frame, due));
            }
        }
        None
    }

    fn report(&self, oversize: u64) -> DirectionReport {
        DirectionReport {
            dropped_size: self.dropped_size + oversize,
            dropped_kernel: self.dropped_kernel,
            failed_sends: self.failed_sends,
            ..DirectionReport::from_stats(self.pipe.stats())
        }
    }
}

impl Line {
    pub(crate) fn new(
        config: LineConfig,
        client: PacketSocket,
        provider: PacketSocket,
        now: Timestamp,
    ) -> Self {
        let seed = config.seed.wrapping_mul(4);
        Self {
            name: config.name,
            client,
            provider,
            up: Direction::new(config.up, seed, now),
            down: Direction::new(config.down, seed.wrapping_add(1), now),
            nat: config.nat.map(|nat| Nat::new(nat, seed.wrapping_add(2))),
            nat_drops: 0,
            mtu: config.mtu,
        }
    }

    pub(crate) fn sockets(&self) -> [&PacketSocket; 2] {
        [&self.client, &self.provider]
    }

    /// Reads what has arrived at both ends, at most [`BURST`] frames each; whether there was any. `offset` is how far
    /// the wall clock, by which frames are stamped, is ahead of `now`'s.
    pub(crate) fn read(&mut self, offset: u64, now: Timestamp) -> bool {
        let mut any = false;
        for _ in 0..BURST {
            let arrival = self.client.recv(|frame, at| (frame.to_vec(), at));
            let Some((frame, at)) = arrival else { break };
            any = true;
            let at = Timestamp::from_nanos(at.saturating_sub(offset)).min(now);
            match frame::classify(&frame) {
                Kind::Packet => self.up.handle(frame, self.mtu, at),
                Kind::Neighbour => self.pass_up(frame),
                Kind::Noise => {}
            }
        }
        for _ in 0..BURST {
            let arrival = self.provider.recv(|frame, at| (frame.to_vec(), at));
            let Some((frame, at)) = arrival else { break };
            any = true;
            let at = Timestamp::from_nanos(at.saturating_sub(offset)).min(now);
            match frame::classify(&frame) {
                Kind::Packet => self.enter_down(frame, at),
                Kind::Neighbour => self.pass_down(frame),
                Kind::Noise => {}
            }
        }
        any
    }

    /// Sends what is due by `now`, and notes how late it is.
    pub(crate) fn write(&mut self, now: Timestamp, lateness: &mut Histogram) {
        while let Some((mut frame, due)) = self.up.poll(now) {
            if let Some(nat) = self.nat.as_mut().filter(|_| frame::is_v4(&frame))
                && nat.handle_outbound(&mut frame[frame::HEADER..], due).is_err()
            {
                self.nat_drops += 1;
                continue;
            }
            self.up.failed_sends += u64::from(self.provider.send(&frame).is_err());
            lateness.record(clock::now().since(due).as_micros() as u64);
        }
        while let Some((frame, due)) = self.down.poll(now) {
            self.down.failed_sends += u64::from(self.client.send(&frame).is_err());
            lateness.record(clock::now().since(due).as_micros() as u64);
        }
    }

    /// When it has to be called again.
    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        match (self.up.pipe.poll_deadline(), self.down.pipe.poll_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    pub(crate) fn set_configs(&mut self, up: PipeConfig, down: PipeConfig, now: Timestamp) {
        self.up.pipe.set_config(up, now);
        self.down.pipe.set_config(down, now);
    }

    pub(crate) fn set_up(&mut self, up: bool, now: Timestamp) {
        self.up.pipe.set_up(up, now);
        self.down.pipe.set_up(up, now);
    }

    /// New ports, and another of the gateway's addresses if one is given.
    pub(crate) fn rebind_nat(&mut self, public: Option<std::net::Ipv4Addr>) {
        if let Some(nat) = &mut self.nat {
            nat.rebind(public, None);
        }
    }

    pub(crate) fn report(&mut self) -> LinkReport {
        self.up.dropped_kernel += self.client.take_drops().unwrap_or(0);
        self.down.dropped_kernel += self.provider.take_drops().unwrap_or(0);
        LinkReport {
            name: self.name.clone(),
            up: self.up.report(self.client.oversize()),
            down: self.down.report(self.provider.oversize()),
            nat_drops: self.nat_drops,
        }
    }

    fn enter_down(&mut self, mut frame: Vec<u8>, at: Timestamp) {
        if let Some(nat) = self.nat.as_mut().filter(|_| frame::is_v4(&frame))
            && nat.handle_inbound(&mut frame[frame::HEADER..], at).is_err()
        {
            self.nat_drops += 1;
            return;
        }
        self.down.handle(frame, self.mtu, at);
    }

    /// Resolution of addresses is between neighbours and no part of the link: it passes at once, if anything does.
    fn pass_up(&self, frame: Vec<u8>) {
        if self.up.pipe.is_up()
            && let Err(error) = self.provider.send(&frame)
        {
            tracing::debug!(link = self.name, %error, "address resolution not passed on");
        }
    }

    fn pass_down(&self, frame: Vec<u8>) {
        if self.down.pipe.is_up()
            && let Err(error) = self.client.send(&frame)
        {
            tracing::debug!(link = self.name, %error, "address resolution not passed on");
        }
    }
}
