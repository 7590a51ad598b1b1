//! Ports on which real-time services answer: a flow there counts as real-time until it behaves otherwise.
//!
//! Short on purpose: ports that anything may use as its own, such as those from which hosts draw at random, are no evidence.
//! Sources: IANA's registry (SIP, STUN, RTP, IAX2) and the vendors' pages on firewalls (the rest).

use core::ops::RangeInclusive;

/// Ranges of ports of either end, and what is there.
const PORTS: [(RangeInclusive<u16>, &str); 10] = [
    (3_074..=3_074, "Xbox network"),
    (3_478..=3_481, "STUN and TURN: Teams, Meet, FaceTime, consoles"),
    (4_569..=4_569, "IAX2"),
    (5_004..=5_005, "RTP and RTCP"),
    (5_060..=5_061, "SIP"),
    (8_801..=8_810, "Zoom"),
    (9_987..=9_987, "TeamSpeak"),
    (19_302..=19_309, "Meet"),
    (27_015..=27_030, "Source games"),
    (64_738..=64_738, "Mumble"),
];

/// Whether one of a flow's ports is in the table.
pub(super) fn is_known(ports: [u16; 2]) -> bool {
    PORTS.iter().any(|(range, _)| range.contains(&ports[0]) || range.contains(&ports[1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_and_others() {
        assert!(is_known([50_000, 3_478]) && is_known([5_060, 33_000]));
        assert!(!is_known([50_000, 443]) && !is_known([51_820, 53]));
    }
}
