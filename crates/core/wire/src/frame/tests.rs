use core::ops::RangeInclusive;

use super::*;
use crate::error::{Malformed, Violation, WireError};
use crate::varint;
use proptest::collection::vec;
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Writer<'_>) -> bool) -> Vec<u8> {
    let mut room = [0xaa; 1400];
    let mut writer = Writer::new(&mut room);
    assert!(write(&mut writer));
    writer.as_slice().to_vec()
}

fn all(plaintext: &[u8]) -> Result<Vec<Frame<'_>>, WireError> {
    Frames::new(plaintext).collect()
}

/// Numbers of every length that a varint has.
fn number() -> impl Strategy<Value = u64> {
    (0..=varint::MAX, 0u32..62).prop_map(|(value, shift)| value >> shift)
}

/// Up to 64 ranges, the highest first, none touching another.
fn ranges() -> impl Strategy<Value = Vec<RangeInclusive<u64>>> {
    (0u64..1000, vec((0u64..300, 0u64..300), 1..=MAX_ACK_RANGES)).prop_map(|(lowest, steps)| {
        let mut next = lowest;
        let mut ranges: Vec<_> = steps
            .into_iter()
            .map(|(length, gap)| {
                let range = next..=next + length;
                next += length + gap + 2;
                range
            })
            .collect();
        ranges.reverse();
        ranges
    })
}

fn flow_class() -> impl Strategy<Value = Frame<'static>> {
    let ends = prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
        any::<([u8; 16], [u8; 16])>().prop_map(|(a, b)| (IpAddr::from(a), IpAddr::from(b))),
    ];
    (any::<(u8, u8, u16, u16)>(), ends).prop_map(|((class, protocol, port, other), (client, remote))| {
        Frame::FlowClass(FlowClassFrame { class, protocol, client: (client, port), remote: (remote, other) })
    })
}

fn control() -> impl Strategy<Value = Frame<'static>> {
    let state = prop_oneof![Just(PathState::Usable), Just(PathState::Standby), Just(PathState::NotUsable)];
    let path = any::<u8>().prop_map(PathId);
    let close = number().prop_map(CloseCode::from_number);
    let mode = prop_oneof![Just(Mode::Speed), Just(Mode::Streaming), Just(Mode::Redundant)];
    prop_oneof![
        Just(Frame::Ping),
        any::<[u8; 8]>().prop_map(Frame::PathChallenge),
        any::<[u8; 8]>().prop_map(Frame::PathResponse),
        (path.clone(), number(), state, any::<u16>()).prop_map(|(path, sequence, state, loss)| {
            Frame::PathStatus(PathStatus { path, sequence, state, loss })
        }),
        path.prop_map(Frame::PathClose),
        (close, prop_oneof![Just(""), Just("so long")]).prop_map(|(code, text)| Frame::Close { code, text }),
        (number(), any::<[u8; 32]>()).prop_map(|(epoch, public)| Frame::RekeyRequest { epoch, public }),
        (number(), any::<[u8; 32]>()).prop_map(|(epoch, public)| Frame::RekeyResponse { epoch, public }),
        (any::<u16>(), 0u32..1 << 24, 1u16..).prop_map(|(flow, first, count)| Frame::Skip {
            flow,
            first,
            count
        }),
        (number(), mode).prop_map(|(sequence, mode)| Frame::Mode { sequence, mode }),
        (any::<u8>(), number(), 0usize..3, proptest::option::of(1..=varint::MAX)).prop_map(
            |(path, sequence, priority, bps)| Frame::LinkPolicy(LinkPolicy {
                path: PathId(path),
                sequence,
                priority: LinkPriority::ALL[priority],
                ceiling: bps.map(bondwire_units::Bitrate::from_bps),
            })
        ),
        flow_class(),
    ]
}

/// The least size that the constants promise for a frame, and the size that they promise at most.
fn promised(frame: &Frame<'_>) -> RangeInclusive<usize> {
    match frame {
        Frame::Padding | Frame::Ping => PING_LEN..=PING_LEN,
        Frame::Ack(_) => 1..=ACK_SINGLE_MAX + (MAX_ACK_RANGES - 1) * ACK_RANGE_MAX,
        Frame::PathChallenge(_) | Frame::PathResponse(_) => PATH_CHALLENGE_LEN..=PATH_CHALLENGE_LEN,
        Frame::PathStatus(_) => 1..=PATH_STATUS_MAX,
        Frame::PathClose(_) => PATH_CLOSE_LEN..=PATH_CLOSE_LEN,
        Frame::Close { .. } => 1..=CLOSE_MAX,
        Frame::RekeyRequest { .. } | Frame::RekeyResponse { .. } => 1..=REKEY_MAX,
        Frame::Skip { .. } => 1..=SKIP_MAX,
        Frame::Mode { .. } => 1..=MODE_MAX,
        Frame::Parity(parity) => {
            let len = PARITY_HEADER + parity.mask.len() + parity.symbol.len();
            len..=len
        }
        Frame::Recovered(_) => 1..=RECOVERED_MAX,
        Frame::LinkPolicy(_) => 1..=LINK_POLICY_MAX,
        Frame::FlowClass(_) => 1..=FLOW_CLASS_MAX,
        Frame::Data(data) => DATA_HEADER_MIN + data.payload.len()..=DATA_HEADER_MAX + data.payload.len(),
    }
}

#[test]
fn padding_is_one_frame_and_unknown_frames_are_skipped() {
    let bytes = [PADDING, PADDING, PING, 0xc1, 2, 9, 9, PADDING, 0x80, 0];
    assert_eq!(all(&bytes), Ok(vec![Frame::Padding, Frame::Ping, Frame::Padding]));
    assert_eq!(all(&[0x80, 0]), Ok(vec![]));
    assert_eq!(all(&[0x80, 1]), Err(Malformed::Truncated("a frame that is to be skipped").into()));
    assert_eq!(all(&[PING, 0x18, 0]), Err(Violation::UnknownFrame(0x18).into()));
    assert_eq!(all(&[]), Err(Malformed::NoFrames.into()));
}

/// docs/protocol.md, FEC-1 and FEC-3.
#[test]
fn parities_and_what_they_recovered_come_back_as_written() {
    let parity = Parity {
        path: PathId(3),
        part: ParityPart::Whole,
        key: 2,
        first: 0xdead_beef,
        mask: &[0b101],
        symbol: &[7, 8, 9],
    };
    let bytes = written(|w| w.parity(&parity));
    assert_eq!(bytes, [PARITY, 3, 0, 2, 0xde, 0xad, 0xbe, 0xef, 1, 0b101, 7, 8, 9]);
    assert_eq!(all(&bytes), Ok(vec![Frame::Parity(parity)]));
    let bytes = written(|w| w.recovered(PathId(3), [5u32, 1 << 31].into_iter()));
    let frames = all(&bytes).unwrap();
    let Frame::Recovered(recovered) = frames[0] else { panic!("{frames:?}") };
    assert!(!frames[0].is_ack_eliciting());
    assert_eq!(recovered.numbers().collect::<Vec<_>>(), [5, 1 << 31]);
    let mut room = [0; 400];
    for wrong in [
        Parity { mask: &[], ..parity },
        Parity { mask: &[1; 33], ..parity },
        Parity { symbol: &[], ..parity },
        Parity { part: ParityPart::Second, ..parity },
    ] {
        assert!(!Writer::new(&mut room).parity(&wrong));
    }
    assert!(!Writer::new(&mut room).recovered(PathId(0), [].into_iter()));
    assert!(!Writer::new(&mut room).recovered(PathId(0), [0; MAX_RECOVERED + 1].into_iter()));
    for (bytes, what) in [
        (&[PARITY, 0, 3, 0, 0, 0, 0, 0, 1, 1, 1][..], "the part of a PARITY"),
        (&[PARITY, 0, 0, 0, 0, 0, 0, 0, 33, 1, 1], "the bitmap of a PARITY"),
        (&[PARITY, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1], "the bitmap of a PARITY"),
        (&[RECOVERED, 0, 0], "the count of a RECOVERED"),
        (&[RECOVERED, 0, 17], "the count of a RECOVERED"),
    ] {
        assert_eq!(all(bytes), Err(Violation::OutOfBounds(what).into()));
    }
    assert!(all(&[PARITY, 0, 0, 0, 0, 0, 0, 0, 1, 1]).is_err(), "no symbol");
}

#[test]
fn after_an_error_nothing_comes() {
    let mut frames = Frames::new(&[PING, 0x7f, PING, PING]);
    assert_eq!(frames.next(), Some(Ok(Frame::Ping)));
    assert!(frames.next().unwrap().is_err());
    assert_eq!(frames.next(), None);
}

/// docs/protocol.md, FRAME-1.
#[test]
fn what_elicits_an_acknowledgement() {
    let ack = written(|w| w.ack(PathId(0), 0, 0, [0..=0]));
    let close = written(|w| w.close(CloseCode::Done, ""));
    for quiet in [&[PADDING][..], &ack, &close] {
        assert!(!all(quiet).unwrap()[0].is_ack_eliciting());
    }
    assert!(all(&[PING]).unwrap()[0].is_ack_eliciting());
}

#[test]
fn acks_below_zero_or_with_too_many_ranges_are_refused() {
    let ack = |tail: &[u8]| [&[ACK, 3, 10, 0, 0, 0, 0, 0][..], tail].concat();
    assert!(all(&ack(&[0, 10])).is_ok());
    assert_eq!(all(&ack(&[0, 11])), Err(Violation::AckUnderflow(PathId(3)).into()));
    assert!(all(&ack(&[1, 0, 0, 8])).is_ok());
    assert_eq!(all(&ack(&[1, 0, 0, 9])), Err(Violation::AckUnderflow(PathId(3)).into()));
    assert_eq!(all(&ack(&[1, 0, 9, 0])), Err(Violation::AckUnderflow(PathId(3)).into()));
    assert_eq!(all(&ack(&[0x40, 64, 0])), Err(Violation::TooManyRanges(PathId(3)).into()));
    assert_eq!(all(&ack(&[1, 0, 0])), Err(Malformed::Truncated("an ACK's range").into()));
}

#[test]
fn ranges_that_are_in_disorder_are_left_out() {
    for further in [8..=9, 9..=11, 7..=12, 20..=30] {
        let bytes = written(|w| w.ack(PathId(0), 0, 0, [10..=12, further.clone(), 0..=1]));
        let frames = all(&bytes).unwrap();
        let Frame::Ack(ack) = frames[0] else { panic!("{frames:?}") };
        assert_eq!(ack.ranges().collect::<Vec<_>>(), [10..=12]);
    }
    assert!(!Writer::new(&mut [0; 99]).ack(PathId(0), 0, 0, []));
}

#[test]
fn values_out_of_bounds_are_refused() {
    for (bytes, what) in [
        (&[PATH_STATUS, 0, 0, 3, 0, 0][..], "the state of a path"),
        (&[MODE, 0, 0], "the mode"),
        (&[LINK_POLICY, 0, 1, 3, 0], "the priority of a path"),
        (&[SKIP, 0, 0, 0, 0, 0, 0], "the count of a SKIP"),
        (&[SKIP, 0, 0, 0, 0, 0, 0x80, 1, 0, 0], "the count of a SKIP"),
        (&[DATA | DATA_FRAGMENT_BIT, 0, 0, 0, 0, 0, 8, 1], "the index of a fragment"),
    ] {
        assert_eq!(all(bytes), Err(Violation::OutOfBounds(what).into()));
    }
    let data = Data { flow: 0, sequence: 0, ordered: false, fragment: None, payload: &[] };
    assert!(!Writer::new(&mut [0; 99]).data(&data, true));
    assert_eq!(all(&[DATA, 0, 0, 0, 0, 0]), Err(Malformed::Length("a DATA frame").into()));
    assert!(!Writer::new(&mut [0; 99]).skip(1, 1, 0));
    assert!(!Writer::new(&mut [0; 99]).mode(varint::MAX + 1, Mode::Speed));
}

#[test]
fn texts_are_cut_and_controlled() {
    let bytes = written(|w| w.close(CloseCode::Protocol, &"é".repeat(150)));
    let Frame::Close { text, .. } = all(&bytes).unwrap()[0] else { panic!() };
    assert_eq!(text.len(), MAX_CLOSE_TEXT);
    assert_eq!(all(&[CLOSE, 0, 1, 0x07]), Err(Malformed::Text("the text of a CLOSE").into()));
    assert_eq!(all(&[CLOSE, 0, 1, 0xff]), Err(Malformed::Text("the text of a CLOSE").into()));
}

#[test]
fn padding_fills_up_to_a_length() {
    let mut room = [0xaa; 8];
    let mut writer = Writer::new(&mut room);
    assert!(writer.ping() && writer.padding_to(5) && writer.padding_to(3));
    assert_eq!((writer.as_slice(), writer.remaining()), (&[PING, 0, 0, 0, 0][..], 3));
    assert!(!writer.padding_to(9));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn control_frames_survive(frames in vec(control(), 1..12)) {
        let bytes = written(|w| frames.iter().all(|frame| {
            let before = w.written();
            w.frame(frame) && promised(frame).contains(&(w.written() - before))
        }));
        prop_assert_eq!(all(&bytes), Ok(frames));
    }

    #[test]
    fn acks_survive(ranges in ranges(), path: u8, delay in number(), received_at: u32) {
        let bytes = written(|w| w.ack(PathId(path), delay, received_at, ranges.iter().cloned()));
        let frames = all(&bytes).unwrap();
        let Frame::Ack(ack) = frames[0] else { panic!("{frames:?}") };
        prop_assert_eq!((ack.path.0, ack.delay_micros, ack.received_at), (path, delay, received_at));
        prop_assert_eq!(ack.largest, *ranges[0].end());
        prop_assert_eq!(ack.ranges().collect::<Vec<_>>(), ranges);
        prop_assert!(promised(&frames[0]).contains(&bytes.len()));
        prop_assert_eq!(written(|w| w.frame(&frames[0])), bytes);
    }

    #[test]
    fn acks_take_the_room_that_there_is(ranges in ranges(), room in 0usize..200) {
        let mut room = vec![0; room];
        let mut writer = Writer::new(&mut room);
        if writer.ack(PathId(1), 2, 3, ranges.iter().cloned()) {
            let frames = all(writer.as_slice()).unwrap();
            let Frame::Ack(ack) = frames[0] else { panic!("{frames:?}") };
            let got: Vec<_> = ack.ranges().collect();
            prop_assert_eq!(&got[..], &ranges[..got.len()]);
        } else {
            prop_assert_eq!(writer.written(), 0);
        }
    }

    #[test]
    fn data_survives(
        flow: u16, sequence in 0u32..1 << 24, ordered: bool, with_length: bool,
        fragment in proptest::option::of((0..MAX_FRAGMENTS, any::<bool>())), payload in vec(any::<u8>(), 1..100),
    ) {
        let fragment = fragment.map(|(index, last)| Fragment { index, last });
        let data = Data { flow, sequence, ordered, fragment, payload: &payload };
        let bytes = written(|w| w.ping() && w.data(&data, with_length));
        let length_len = if with_length { DATA_LENGTH_LEN } else { 0 };
        let fragment_len = if fragment.is_some() { DATA_FRAGMENT_LEN } else { 0 };
        prop_assert_eq!(bytes.len(), PING_LEN + DATA_HEADER_MIN + length_len + fragment_len + payload.len());
        prop_assert_eq!(all(&bytes), Ok(vec![Frame::Ping, Frame::Data(data)]));
    }

    #[test]
    fn what_does_not_fit_is_not_written(frame in control(), room in 0usize..48) {
        let mut room = vec![0xaa; room];
        let mut writer = Writer::new(&mut room);
        if !writer.frame(&frame) {
            prop_assert_eq!(writer.written(), 0);
        }
    }

    #[test]
    fn rubbish_does_not_panic(bytes in vec(any::<u8>(), 0..200)) {
        for frame in Frames::new(&bytes).map_while(Result::ok) {
            if let Frame::Ack(ack) = frame {
                prop_assert!(ack.ranges().count() <= MAX_ACK_RANGES);
            }
        }
    }

    /// Bytes that look like frames more often than random ones do.
    #[test]
    fn mutated_packets_do_not_panic(frames in vec(control(), 1..8), flips in vec((0usize..400, any::<u8>()), 1..4)) {
        let mut bytes = written(|w| frames.iter().all(|frame| w.frame(frame)));
        let len = bytes.len();
        for (at, value) in flips {
            bytes[at % len] = value;
        }
        let _ = all(&bytes);
    }
}
