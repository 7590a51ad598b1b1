//! `struct tcp_info` of `linux/tcp.h`, which grows with each kernel: what is not there is zero.

use std::time::Duration;

/// What the kernel has measured of a TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TcpFigures {
    /// Timeouts in a row without any answer: the connection is in trouble when this is above 0.
    pub timeouts: u8,
    /// The time after which it sends again.
    pub rto: Duration,
    /// Smoothed round-trip time; zero before the first one.
    pub rtt: Duration,
    /// Its variation.
    pub rtt_variation: Duration,
    /// The least round-trip time lately; zero before the first one.
    pub min_rtt: Duration,
    /// Since data was last sent.
    pub since_sent: Duration,
    /// Since data was last received.
    pub since_received: Duration,
    /// Since an acknowledgement was last received.
    pub since_acknowledged: Duration,
    /// Segments sent and not acknowledged.
    pub unacknowledged: u32,
    /// Segments sent again, over its whole life.
    pub retransmits: u32,
    /// Segments sent, over its whole life.
    pub segments_sent: u32,
    /// Segments received, over its whole life.
    pub segments_received: u32,
    /// Bytes that the other side has acknowledged.
    pub bytes_acknowledged: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// What arrives at the other side, in bytes per second, by the kernel's estimate; 0 before the first one.
    pub delivery_rate: u64,
    /// The estimate is a lower bound: the application had no more to send.
    pub is_application_limited: bool,
    /// Largest segment that is sent, in bytes.
    pub segment_size: u32,
    /// Segments that may be under way.
    pub congestion_window: u32,
}

impl TcpFigures {
    /// Reads the fields that the bytes hold; none if there is not even a round-trip time.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        // struct tcp_info of Linux 3.15, when everything up to `total_retrans` was there.
        if bytes.len() < 104 {
            return None;
        }
        let u32_at = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_ne_bytes)
        };
        let u64_at = |at: usize| {
            bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u64::from_ne_bytes)
        };
        let micros = |at: usize| Duration::from_micros(u32_at(at).into());
        let millis = |at: usize| Duration::from_millis(u32_at(at).into());
        // All ones stand for "never measured".
        let min_rtt = Some(micros(148)).filter(|rtt| *rtt < Duration::from_micros(u32::MAX.into()));
        Some(Self {
            timeouts: bytes[2],
            rto: micros(8),
            rtt: micros(68),
            rtt_variation: micros(72),
            min_rtt: min_rtt.unwrap_or_default(),
            since_sent: millis(44),
            since_received: millis(52),
            since_acknowledged: millis(56),
            unacknowledged: u32_at(24),
            retransmits: u32_at(100),
            segments_sent: u32_at(136),
            segments_received: u32_at(140),
            bytes_acknowledged: u64_at(120),
            bytes_received: u64_at(128),
            delivery_rate: u64_at(160),
            is_application_limited: bytes[7] & 1 != 0,
            segment_size: u32_at(16),
            congestion_window: u32_at(80),
        })
    }
}
