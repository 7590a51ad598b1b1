//! What must hold for any bytes that reach a decoder of `bondwire-wire`. Each function panics if it does not.
#![allow(dead_code, reason = "each fuzz target uses one of these")]

use bondwire_wire::header::{self, DatagramKind};
use bondwire_wire::{
    ClientHello, DataHeader, Frame, Frames, HEADER_LEN, Invite, Reject, ServerHello, Writer, classify, frame,
};

/// A datagram before anything in it is believed.
pub(crate) fn header(datagram: &[u8]) {
    let data = DataHeader::decode(datagram);
    let offered = header::offered_versions(datagram).len();
    match classify(datagram) {
        Err(_) => assert!(data.is_err() && offered == 0),
        Ok((kind, receiver)) => {
            assert_eq!(kind.to_byte(), datagram[0]);
            assert_eq!(receiver.0 == 0, kind == DatagramKind::Initiation);
            assert_eq!(offered > 0, kind == DatagramKind::VersionNegotiation);
            assert_eq!(data.is_ok(), matches!(kind, DatagramKind::Data { .. }));
        }
    }
    if let Ok(header) = data {
        assert_eq!(header.encode(), datagram[..HEADER_LEN]);
    }
    if let Some((ours, theirs)) = datagram.split_first_chunk::<8>()
        && let Some(truncated) = theirs.first_chunk::<4>()
    {
        let (expected, truncated) = (u64::from_be_bytes(*ours) >> 2, u32::from_be_bytes(*truncated));
        assert_eq!(header::expand_packet_number(truncated, expected) as u32, truncated);
        let sequence = header::expand_sequence(truncated, expected);
        assert_eq!(sequence as u32 & 0xff_ffff, truncated & 0xff_ffff);
    }
}

/// The plaintext of a packet. What was read is written again, and reads as the same.
pub(crate) fn frames(plaintext: &[u8]) {
    // A DATA frame that ran to the end of the packet gets a length, and a varint may get shorter but never longer.
    let mut room = vec![0; plaintext.len() + frame::DATA_LENGTH_LEN];
    let mut writer = Writer::new(&mut room);
    let mut read = Vec::new();
    for frame in Frames::new(plaintext) {
        let Ok(frame) = frame else { break };
        if let Frame::Ack(ack) = &frame {
            let ranges: Vec<_> = ack.ranges().collect();
            assert!((1..=frame::MAX_ACK_RANGES).contains(&ranges.len()));
            assert_eq!(*ranges[0].end(), ack.largest);
            assert!(ranges.iter().all(|range| range.start() <= range.end()));
            assert!(ranges.windows(2).all(|pair| pair[1].end() + 1 < *pair[0].start()));
        }
        // Runs of PADDING on both sides of a frame that was skipped would come out as one.
        if frame != Frame::Padding {
            if matches!(frame, Frame::Data(data) if data.payload.len() > usize::from(u16::MAX)) {
                return;
            }
            assert!(writer.frame(&frame), "{frame:?} does not fit where it came from");
            read.push(frame);
        }
    }
    if !read.is_empty() {
        let again: Vec<_> =
            Frames::new(writer.as_slice()).map(|frame| frame.expect("it was written here")).collect();
        assert_eq!(again, read);
    }
}

/// The payload of a handshake message, taken for each of the three.
pub(crate) fn params(list: &[u8]) {
    if let Ok(hello) = ClientHello::decode(list) {
        assert_eq!(ClientHello::decode(&hello.encode()).as_ref(), Ok(&hello));
    }
    if let Ok(hello) = ServerHello::decode(list) {
        assert_eq!(ServerHello::decode(&hello.encode()).as_ref(), Ok(&hello));
    }
    if let Ok(reject) = Reject::decode(list) {
        assert_eq!(Reject::decode(&reject.encode()).as_ref(), Ok(&reject));
    }
}

/// A line that a person pasted.
pub(crate) fn invite(text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match Invite::parse(&text) {
        Ok(invite) => {
            let line = invite.encode().expect("what was read can be written");
            assert_eq!(
                line,
                text.split_whitespace().collect::<String>(),
                "there is one way to write an invite"
            );
        }
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "the message must not control a terminal")
        }
    }
}
