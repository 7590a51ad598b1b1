//! Real-time flows for the control API.

use std::net::SocketAddr;
use std::time::Duration;

use bondwire_api::{StreamDirection, StreamEntry};
use bondwire_bond::{DirectionStatus, StreamChange, StreamStatus};
use bondwire_packet::protocol;

/// A flow of a client, on the client: `link` is the name of the link that carries it.
pub(crate) fn of_client(stream: &StreamStatus, link: Option<String>) -> StreamEntry {
    let (up, down) = (direction(&stream.sent), direction(&stream.received));
    StreamEntry { link, up, down, ..entry(stream) }
}

/// A flow of a client, on the server.
pub(crate) fn of_server(stream: &StreamStatus, client: &str) -> StreamEntry {
    let (up, down) = (direction(&stream.received), direction(&stream.sent));
    StreamEntry { client: Some(client.to_owned()), link: Some(client.to_owned()), up, down, ..entry(stream) }
}

/// What is said of a change in the log.
pub(crate) fn explain(change: &StreamChange) -> String {
    match change.reason {
        Some(reason) => format!("{} is real-time ({reason})", change.key),
        None if change.misuse => {
            format!("{} is not treated as real-time for a while: it takes more than its share", change.key)
        }
        None => format!("{} is not real-time any more", change.key),
    }
}

fn entry(stream: &StreamStatus) -> StreamEntry {
    let key = &stream.key;
    let name = match key.protocol {
        protocol::UDP => "udp".to_owned(),
        protocol::UDP_LITE => "udplite".to_owned(),
        other => other.to_string(),
    };
    StreamEntry {
        client: None,
        protocol: name,
        local: SocketAddr::new(key.src, key.src_port).to_string(),
        remote: SocketAddr::new(key.dst, key.dst_port).to_string(),
        reason: stream.reason.name().to_owned(),
        age_ms: whole_millis(stream.age),
        idle_ms: whole_millis(stream.idle),
        link: None,
        up: StreamDirection::default(),
        down: StreamDirection::default(),
    }
}

fn direction(status: &DirectionStatus) -> StreamDirection {
    StreamDirection {
        bps: status.rate.as_bps(),
        packets_per_second: status.packets_per_second,
        delay_ms: status.delay.map(millis),
        jitter_ms: status.jitter.map(millis),
        loss_before: status.loss_before,
        loss_after: status.loss_after,
        packets: status.packets,
        lost_first: status.lost_first,
        lost: status.lost,
        saved_by_failover: status.saved_by_failover,
        saved_by_redundancy: status.saved_by_redundancy,
        saved_by_repair: status.saved_by_repair,
        overhead: status.extra_bytes as f64 / status.bytes.max(1) as f64,
    }
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1e3
}

fn whole_millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
