/// Bytes of an Ethernet header.
pub(crate) const HEADER: usize = 14;

const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ICMPV6: u8 = 58;

/// What the emulator does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An IP packet: it takes its way through the pipe.
    Packet,
    /// ARP, or IPv6 neighbour solicitation and advertisement (RFC 4861).
    Neighbour,
    /// What a system says to everybody on a network, unasked: router solicitations, group memberships and the like.
    Noise,
}

/// What a frame is.
pub(crate) fn classify(frame: &[u8]) -> Kind {
    let (Some(ethertype), Some(first)) = (frame.get(12..HEADER), frame.first()) else { return Kind::Noise };
    if ethertype == ETHERTYPE_ARP || is_neighbour_discovery(frame) {
        return Kind::Neighbour;
    }
    let to_many = first & 1 == 1;
    let is_ip = ethertype == ETHERTYPE_V4 || ethertype == ETHERTYPE_V6;
    if is_ip && !to_many { Kind::Packet } else { Kind::Noise }
}

/// Whether a frame holds an IPv4 packet.
pub(crate) fn is_v4(frame: &[u8]) -> bool {
    frame.get(12..HEADER) == Some(&ETHERTYPE_V4)
}

fn is_neighbour_discovery(frame: &[u8]) -> bool {
    frame.get(12..HEADER) == Some(&ETHERTYPE_V6)
        && frame.get(HEADER + 6) == Some(&ICMPV6)
        && matches!(frame.get(HEADER + 40), Some(135 | 136))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(to: u8, ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![to; 12];
        frame.extend(ethertype);
        frame.extend(payload);
        frame
    }

    #[test]
    fn packets_neighbours_and_noise_are_told_apart() {
        assert_eq!(classify(&frame(2, ETHERTYPE_V4, &[0x45; 20])), Kind::Packet);
        assert_eq!(classify(&frame(2, ETHERTYPE_V6, &[0x60; 60])), Kind::Packet);
        assert_eq!(classify(&frame(0xff, ETHERTYPE_ARP, &[0; 28])), Kind::Neighbour);
        assert_eq!(classify(&frame(0xff, ETHERTYPE_V4, &[0x45; 20])), Kind::Noise);
        assert_eq!(classify(&[]), Kind::Noise);
        let mut icmp = [0; 64];
        (icmp[6], icmp[40]) = (ICMPV6, 135);
        assert_eq!(classify(&frame(0x33, ETHERTYPE_V6, &icmp)), Kind::Neighbour);
        icmp[40] = 133;
        assert_eq!(classify(&frame(0x33, ETHERTYPE_V6, &icmp)), Kind::Noise);
    }
}
