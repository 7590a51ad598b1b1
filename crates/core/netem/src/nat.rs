//! A gateway that shares one public address: port translation for UDP and TCP, identifier translation for ICMP echo,
//! over IPv4, and over IPv6 where a public address is given.
//!
//! A mapping belongs to an inside address and port together with a remote one (address- and port-dependent, the
//! strictest common kind), appears with the first packet from inside, and lives as long as it is used. What comes from
//! outside and matches none is dropped. [`Nat::rebind`] is what a rebooting modem or a carrier-grade gateway does: all
//! mappings go on under new ports, and perhaps a new address, so that answers to the old ones are lost.
//!
//! Packets are raw IP packets, rewritten in place; checksums are updated, so a wrong one stays wrong. A packet whose
//! checksum is still to be filled in by a device cannot pass. Fragments and IPv6 extension headers are dropped.
//!
//! Memory: at most [`NatConfig::capacity`] mappings; the one that was idle longest gives way to a new one.

mod header;
mod table;

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

use bondwire_units::Timestamp;

use crate::rng::Rng;
use header::{Header, Protocol, Side};
use table::{Flow, Table};

/// What a gateway is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatConfig {
    /// The address outside; none drops IPv4.
    pub public_v4: Option<Ipv4Addr>,
    /// The address outside for IPv6; none drops IPv6.
    pub public_v6: Option<Ipv6Addr>,
    /// The most mappings at a time; default 4,096, at most 32,000.
    pub capacity: usize,
    /// How long an unused mapping of UDP and ICMP lives; default 120 s (RFC 4787, REQ-5).
    pub datagram_timeout: Duration,
    /// How long an unused mapping of TCP lives; default 7,440 s (RFC 5382, REQ-5).
    pub stream_timeout: Duration,
}

impl Default for NatConfig {
    fn default() -> Self {
        Self {
            public_v4: None,
            public_v6: None,
            capacity: 4096,
            datagram_timeout: Duration::from_secs(120),
            stream_timeout: Duration::from_secs(7440),
        }
    }
}

/// Why a packet did not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NatDrop {
    /// Shorter than its headers say, or no IP packet.
    #[error("malformed packet")]
    Malformed,
    /// A fragment, an extension header, or a protocol without ports.
    #[error("nothing to translate by: a fragment, or neither UDP, TCP nor ICMP echo")]
    Untranslatable,
    /// The gateway has no public address of this family.
    #[error("no public address of this family")]
    NoAddress,
    /// From outside, and nobody inside has asked for it.
    #[error("no mapping")]
    NoMapping,
}

/// What a gateway has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NatStats {
    /// Packets translated on their way out.
    pub outbound: u64,
    /// Packets translated on their way in.
    pub inbound: u64,
    /// Packets that were malformed, or that it cannot translate.
    pub dropped_unsupported: u64,
    /// Packets from outside that nobody asked for.
    pub dropped_unmapped: u64,
    /// Mappings that gave way to newer ones before their time.
    pub evicted: u64,
}

/// A gateway. See the module's text.
#[derive(Debug)]
pub struct Nat {
    config: NatConfig,
    rng: Rng,
    table: Table,
    stats: NatStats,
}

impl Nat {
    /// A gateway without mappings.
    pub fn new(config: NatConfig, seed: u64) -> Self {
        let capacity = config.capacity.clamp(1, 32_000);
        Self {
            table: Table::new(capacity),
            rng: Rng::new(seed),
            config: NatConfig { capacity, ..config },
            stats: NatStats::default(),
        }
    }

    /// A packet goes out: its source becomes the public address and the mapping's port, in place.
    ///
    /// # Errors
    /// Says why the packet has to be dropped; it is unchanged then.
    pub fn handle_outbound(&mut self, packet: &mut [u8], now: Timestamp) -> Result<(), NatDrop> {
        let result = self.translate_out(packet, now);
        self.count(result, true);
        result
    }

    /// A packet comes in: its destination becomes that of the mapping which it matches, in place.
    ///
    /// # Errors
    /// Says why the packet has to be dropped; it is unchanged then.
    pub fn handle_inbound(&mut self, packet: &mut [u8], now: Timestamp) -> Result<(), NatDrop> {
        let result = self.translate_in(packet, now);
        self.count(result, false);
        result
    }

    /// All mappings get new ports, and, where one is given, the gateway another public address. Flows go on from inside,
    /// and look like new ones from outside; what is sent to the old ports and addresses is dropped.
    pub fn rebind(&mut self, public_v4: Option<Ipv4Addr>, public_v6: Option<Ipv6Addr>) {
        self.config.public_v4 = public_v4.or(self.config.public_v4);
        self.config.public_v6 = public_v6.or(self.config.public_v6);
        self.table.rebind(&mut self.rng);
    }

    /// What it is at present: public addresses change by [`Nat::rebind`].
    pub fn config(&self) -> &NatConfig {
        &self.config
    }

    /// How many mappings it has.
    pub fn mappings(&self) -> usize {
        self.table.len()
    }

    /// What it has done so far.
    pub fn stats(&self) -> NatStats {
        self.stats
    }

    fn translate_out(&mut self, packet: &mut [u8], now: Timestamp) -> Result<(), NatDrop> {
        let header = Header::parse(packet)?;
        let public = self.public_for(header.source)?;
        if header.protocol.is_echo() && !header.echo_request {
            return Err(NatDrop::Untranslatable);
        }
        let flow = Flow {
            protocol: header.protocol,
            inside: (header.source, header.source_port),
            remote: (header.destination, header.destination_port),
        };
        let lifetime = self.lifetime(header.protocol);
        let (port, evicted) = self.table.port_for(flow, lifetime, &mut self.rng, now);
        self.stats.evicted += u64::from(evicted);
        header.rewrite(packet, Side::Source, public, port);
        Ok(())
    }

    fn translate_in(&mut self, packet: &mut [u8], now: Timestamp) -> Result<(), NatDrop> {
        let header = Header::parse(packet)?;
        if self.public_for(header.destination)? != header.destination {
            return Err(NatDrop::NoMapping);
        }
        if header.protocol.is_echo() && header.echo_request {
            return Err(NatDrop::NoMapping);
        }
        let remote = (header.source, header.source_port);
        let lifetime = self.lifetime(header.protocol);
        let found = self.table.inside_of(header.protocol, header.destination_port, remote, lifetime, now);
        let (address, port) = found.ok_or(NatDrop::NoMapping)?;
        header.rewrite(packet, Side::Destination, address, port);
        Ok(())
    }

    fn public_for(&self, address: IpAddr) -> Result<IpAddr, NatDrop> {
        match address {
            IpAddr::V4(_) => self.config.public_v4.map(IpAddr::V4),
            IpAddr::V6(_) => self.config.public_v6.map(IpAddr::V6),
        }
        .ok_or(NatDrop::NoAddress)
    }

    fn lifetime(&self, protocol: Protocol) -> Duration {
        if protocol == Protocol::Tcp { self.config.stream_timeout } else { self.config.datagram_timeout }
    }

    fn count(&mut self, result: Result<(), NatDrop>, out: bool) {
        let counter = match result {
            Ok(()) if out => &mut self.stats.outbound,
            Ok(()) => &mut self.stats.inbound,
            Err(NatDrop::NoMapping) => &mut self.stats.dropped_unmapped,
            Err(_) => &mut self.stats.dropped_unsupported,
        };
        *counter += 1;
    }
}

#[cfg(test)]
mod tests;
