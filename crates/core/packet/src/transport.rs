use crate::protocol;

/// The flags of a TCP header (RFC 9293, section 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement field counts.
    pub const ACK: u8 = 0x10;
    /// Urgent.
    pub const URG: u8 = 0x20;
    /// ECN-echo (RFC 3168).
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced (RFC 3168).
    pub const CWR: u8 = 0x80;
}

/// What a TCP segment says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// See [`tcp_flags`].
    pub flags: u8,
    /// The sequence number of its first byte.
    pub sequence: u32,
    /// The next sequence number that its sender expects; meaningless without the ACK flag.
    pub acknowledgement: u32,
    /// Bytes of its header, options included.
    pub header_len: usize,
    /// Bytes behind its header.
    pub payload_len: usize,
}

impl TcpInfo {
    /// Whether it opens a connection, or answers to that.
    pub const fn has_syn(&self) -> bool {
        self.flags & tcp_flags::SYN != 0
    }

    /// Whether its sender has no more data.
    pub const fn has_fin(&self) -> bool {
        self.flags & tcp_flags::FIN != 0
    }

    /// Whether it resets the connection.
    pub const fn has_rst(&self) -> bool {
        self.flags & tcp_flags::RST != 0
    }

    /// Whether it acknowledges and does nothing else. Such a segment is small, and whole transfers wait for it.
    pub const fn is_pure_ack(&self) -> bool {
        const STATE: u8 = tcp_flags::SYN | tcp_flags::FIN | tcp_flags::RST;
        self.payload_len == 0 && self.flags & tcp_flags::ACK != 0 && self.flags & STATE == 0
    }

    /// Reads the header at the start of `segment`; none if it is cut short or says that it is.
    pub(crate) fn parse(segment: &[u8]) -> Option<Self> {
        let header: &[u8; 20] = segment.first_chunk()?;
        let header_len = usize::from(header[12] >> 4) * 4;
        if header_len < header.len() {
            return None;
        }
        Some(Self {
            flags: header[13],
            sequence: u32::from_be_bytes([header[4], header[5], header[6], header[7]]),
            acknowledgement: u32::from_be_bytes([header[8], header[9], header[10], header[11]]),
            header_len,
            payload_len: segment.len().checked_sub(header_len)?,
        })
    }
}

/// The two port fields of a flow's key; zeros if the protocol has nothing of the kind, or if they are cut off.
pub(crate) fn ports(protocol: u8, segment: &[u8]) -> (u16, u16) {
    const ICMP_ECHO: [u8; 2] = [8, 0];
    const ICMPV6_ECHO: [u8; 2] = [128, 129];
    let word =
        |at: usize| segment.get(at..at + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    let is_one_of = |kinds: [u8; 2]| segment.first().is_some_and(|kind| kinds.contains(kind));
    match protocol {
        protocol::TCP | protocol::UDP | protocol::DCCP | protocol::SCTP | protocol::UDP_LITE => {
            (word(0), word(2))
        }
        protocol::ICMP if is_one_of(ICMP_ECHO) => (word(4), word(4)),
        protocol::ICMPV6 if is_one_of(ICMPV6_ECHO) => (word(4), word(4)),
        protocol::ESP => (word(0), word(2)),
        protocol::AH => (word(4), word(6)),
        _ => (0, 0),
    }
}
