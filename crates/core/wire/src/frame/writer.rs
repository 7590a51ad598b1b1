use core::net::IpAddr;
use core::ops::RangeInclusive;

use bondwire_units::PathId;

use super::{
    ACK, CLOSE, DATA, DATA_FRAGMENT_BIT, DATA_LENGTH_BIT, DATA_ORDERED_BIT, Data, FLOW_CLASS, FlowClassFrame,
    Fragment, Frame, LAST_FRAGMENT_BIT, LINK_POLICY, LinkPolicy, MAX_ACK_RANGES, MAX_CLOSE_TEXT,
    MAX_FRAGMENTS, MAX_PARITY_MASK, MAX_RECOVERED, MODE, PADDING, PARITY, PATH_CHALLENGE, PATH_CLOSE,
    PATH_RESPONSE, PATH_STATUS, PING, Parity, ParityPart, PathStatus, RECOVERED, REKEY_REQUEST,
    REKEY_RESPONSE, SKIP,
};
use crate::params::{CloseCode, Mode};
use crate::reader::fitting;
use crate::varint;

/// Fills a slice with frames.
///
/// Each method writes its frame whole and returns true, or returns false and writes nothing: because there is no room, or
/// because a value cannot be written (a varint above [`varint::MAX`], an empty payload, a fragment's index out of bounds).
/// None panics.
#[derive(Debug)]
pub struct Writer<'a> {
    buf: &'a mut [u8],
    at: usize,
}

impl<'a> Writer<'a> {
    /// Writes into `buf`, from its start.
    pub fn new(buf: &'a mut [u8]) -> Self {
        Self { buf, at: 0 }
    }

    /// How many bytes were written.
    pub fn written(&self) -> usize {
        self.at
    }

    /// How many more bytes there is room for.
    pub fn remaining(&self) -> usize {
        self.buf.len() - self.at
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// What was written.
    pub fn as_slice(&self) -> &[u8] {
        &self.buf[..self.at]
    }

    /// Runs `write`, and takes back what it wrote if it fails.
    #[inline]
    fn whole(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> bool {
        let start = self.at;
        let done = write(self).is_some();
        if !done {
            self.at = start;
        }
        done
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        self.buf.get_mut(self.at..self.at + bytes.len())?.copy_from_slice(bytes);
        self.at += bytes.len();
        Some(())
    }

    fn put_varint(&mut self, value: u64) -> Option<()> {
        self.at += varint::write(value, self.buf.get_mut(self.at..)?)?;
        Some(())
    }

    /// Bytes as they are: the payload that a header written by [`Writer::data_header`] announces.
    pub fn bytes(&mut self, bytes: &[u8]) -> bool {
        self.put(bytes).is_some()
    }

    /// PADDING until `len` bytes are written in all; nothing if so many are already.
    pub fn padding_to(&mut self, len: usize) -> bool {
        let Some(room) = self.buf.get_mut(self.at..len.max(self.at)) else { return false };
        room.fill(PADDING);
        self.at = len.max(self.at);
        true
    }

    /// PING.
    pub fn ping(&mut self) -> bool {
        self.bytes(&[PING])
    }

    /// ACK for `path`. `ranges` are the packet numbers received, the highest first, with at least one missing between any
    /// two; as many of them are written as fit (at most [`MAX_ACK_RANGES`]), and the walk over them ends there. `received_at` and
    /// `delay_micros` are as in [`super::Ack`], and belong to the end of the first range.
    ///
    /// False if there is no range, or no room for the first one. Ranges that touch, overlap or rise are not written, nor is
    /// what follows them: acknowledging too little costs time, acknowledging too much costs the session.
    pub fn ack(
        &mut self,
        path: PathId,
        delay_micros: u64,
        received_at: u32,
        ranges: impl IntoIterator<Item = RangeInclusive<u64>>,
    ) -> bool {
        self.whole(|w| {
            let mut ranges = ranges.into_iter();
            let first = ranges.next()?;
            w.put(&[ACK, path.0])?;
            w.put_varint(*first.end())?;
            w.put_varint(delay_micros.min(varint::MAX))?;
            w.put(&received_at.to_be_bytes())?;
            let count_at = w.at;
            // A count below 64 is a varint of one byte, so that it can be filled in afterwards.
            w.put(&[0])?;
            w.put_varint(first.end().checked_sub(*first.start())?)?;

            let mut smallest = *first.start();
            for range in ranges.take(MAX_ACK_RANGES - 1) {
                let (start, end) = range.into_inner();
                let gap = smallest.checked_sub(2).and_then(|top| top.checked_sub(end));
                let (Some(gap), Some(length)) = (gap, end.checked_sub(start)) else { break };
                if !w.whole(|w| w.put_varint(gap).and_then(|()| w.put_varint(length))) {
                    break;
                }
                w.buf[count_at] += 1;
                smallest = start;
            }
            Some(())
        })
    }

    /// PATH_CHALLENGE.
    pub fn path_challenge(&mut self, token: [u8; 8]) -> bool {
        self.whole(|w| w.put(&[PATH_CHALLENGE]).and_then(|()| w.put(&token)))
    }

    /// PATH_RESPONSE.
    pub fn path_response(&mut self, token: [u8; 8]) -> bool {
        self.whole(|w| w.put(&[PATH_RESPONSE]).and_then(|()| w.put(&token)))
    }

    /// PATH_STATUS.
    pub fn path_status(&mut self, status: &PathStatus) -> bool {
        self.whole(|w| {
            w.put(&[PATH_STATUS, status.path.0])?;
            w.put_varint(status.sequence)?;
            w.put(&[status.state.to_byte()])?;
            w.put(&status.loss.to_be_bytes())
        })
    }

    /// PATH_CLOSE.
    pub fn path_close(&mut self, path: PathId) -> bool {
        self.bytes(&[PATH_CLOSE, path.0])
    }

    /// CLOSE. The text is cut at [`MAX_CLOSE_TEXT`] bytes, and at the first control character.
    pub fn close(&mut self, code: CloseCode, text: &str) -> bool {
        let text = fitting(text, MAX_CLOSE_TEXT);
        self.whole(|w| {
            w.put(&[CLOSE])?;
            w.put_varint(code.number())?;
            w.put_varint(text.len() as u64)?;
            w.put(text.as_bytes())
        })
    }

    /// REKEY_REQUEST.
    pub fn rekey_request(&mut self, epoch: u64, public: &[u8; 32]) -> bool {
        self.rekey(REKEY_REQUEST, epoch, public)
    }

    /// REKEY_RESPONSE.
    pub fn rekey_response(&mut self, epoch: u64, public: &[u8; 32]) -> bool {
        self.rekey(REKEY_RESPONSE, epoch, public)
    }

    fn rekey(&mut self, kind: u8, epoch: u64, public: &[u8; 32]) -> bool {
        self.whole(|w| {
            w.put(&[kind])?;
            w.put_varint(epoch)?;
            w.put(public)
        })
    }

    /// SKIP; false if `count` is zero. `first` is cut to its low 24 bits.
    pub fn skip(&mut self, flow: u16, first: u32, count: u16) -> bool {
        self.whole(|w| {
            let [f, g] = flow.to_be_bytes();
            let [_, a, b, c] = first.to_be_bytes();
            w.put(&[SKIP, f, g, a, b, c])?;
            if count == 0 { None } else { w.put_varint(u64::from(count)) }
        })
    }

    /// LINK_POLICY. A ceiling is cut to what a varint holds.
    pub fn link_policy(&mut self, policy: &LinkPolicy) -> bool {
        let ceiling = policy.ceiling.map_or(0, |rate| rate.as_bps().clamp(1, varint::MAX));
        self.whole(|w| {
            w.put(&[LINK_POLICY, policy.path.0])?;
            w.put_varint(policy.sequence)?;
            w.put(&[policy.priority.to_byte()])?;
            w.put_varint(ceiling)
        })
    }

    /// MODE.
    pub fn mode(&mut self, sequence: u64, mode: Mode) -> bool {
        self.whole(|w| {
            w.put(&[MODE])?;
            w.put_varint(sequence)?;
            w.put(&[mode.to_byte()])
        })
    }

    /// PARITY, which ends its packet. False also if its bitmap or its symbol has a length that is not allowed.
    pub fn parity(&mut self, parity: &Parity<'_>) -> bool {
        let Ok(mask_len) = u8::try_from(parity.mask.len()) else { return false };
        let wrong = parity.mask.len() > MAX_PARITY_MASK
            || parity.mask.is_empty() != (parity.part == ParityPart::Second)
            || parity.symbol.is_empty();
        !wrong
            && self.whole(|w| {
                w.put(&[PARITY, parity.path.0, parity.part.to_byte(), parity.key])?;
                w.put(&parity.first.to_be_bytes())?;
                w.put(&[mask_len])?;
                w.put(parity.mask)?;
                w.put(parity.symbol)
            })
    }

    /// RECOVERED; false if there are no numbers, or more than [`MAX_RECOVERED`].
    pub fn recovered(&mut self, path: PathId, numbers: impl ExactSizeIterator<Item = u32>) -> bool {
        let count = numbers.len();
        (1..=MAX_RECOVERED).contains(&count)
            && self.whole(|w| {
                w.put(&[RECOVERED, path.0, count as u8])?;
                numbers.into_iter().try_for_each(|number| w.put(&number.to_be_bytes()))
            })
    }

    /// FLOW_CLASS; false if the two ends are of different families.
    pub fn flow_class(&mut self, flow: &FlowClassFrame) -> bool {
        let FlowClassFrame { class, protocol, client, remote } = *flow;
        self.whole(|w| {
            let version = if client.0.is_ipv4() { 4 } else { 6 };
            w.put(&[FLOW_CLASS, class, protocol, version])?;
            w.put(&client.1.to_be_bytes())?;
            w.put(&remote.1.to_be_bytes())?;
            match (client.0, remote.0) {
                (IpAddr::V4(client), IpAddr::V4(remote)) => {
                    w.put(&client.octets())?;
                    w.put(&remote.octets())
                }
                (IpAddr::V6(client), IpAddr::V6(remote)) => {
                    w.put(&client.octets())?;
                    w.put(&remote.octets())
                }
                _ => None,
            }
        })
    }

    /// A DATA frame: header and payload. Without `with_length` nothing may be written behind it, padding neither.
    /// `sequence` is cut to its low 24 bits.
    #[inline]
    pub fn data(&mut self, data: &Data<'_>, with_length: bool) -> bool {
        let Ok(length) = u16::try_from(data.payload.len()) else { return false };
        let length_field = with_length.then_some(length);
        length > 0
            && self.whole(|w| {
                let header =
                    w.data_header(data.flow, data.sequence, data.ordered, data.fragment, length_field);
                header.then_some(()).and_then(|()| w.put(data.payload))
            })
    }

    /// The header of a DATA frame, to be followed by its payload: of `length` bytes, or up to the end of the packet.
    #[inline]
    pub fn data_header(
        &mut self,
        flow: u16,
        sequence: u32,
        ordered: bool,
        fragment: Option<Fragment>,
        length: Option<u16>,
    ) -> bool {
        self.whole(|w| {
            let mut kind = DATA;
            if length.is_some() {
                kind |= DATA_LENGTH_BIT;
            }
            if ordered {
                kind |= DATA_ORDERED_BIT;
            }
            if fragment.is_some() {
                kind |= DATA_FRAGMENT_BIT;
            }
            let [f, g] = flow.to_be_bytes();
            let [_, a, b, c] = sequence.to_be_bytes();
            w.put(&[kind, f, g, a, b, c])?;
            if let Some(length) = length {
                w.put(&length.to_be_bytes())?;
            }
            match fragment {
                None => Some(()),
                Some(Fragment { index, .. }) if index >= MAX_FRAGMENTS => None,
                Some(Fragment { index, last }) => {
                    w.put(&[if last { index | LAST_FRAGMENT_BIT } else { index }])
                }
            }
        })
    }

    /// Any frame, such as one that is sent again. PADDING is one byte, DATA carries its length, PARITY ends its packet.
    pub fn frame(&mut self, frame: &Frame<'_>) -> bool {
        match frame {
            Frame::Padding => self.bytes(&[PADDING]),
            Frame::Ping => self.ping(),
            Frame::Ack(ack) => self.ack(ack.path, ack.delay_micros, ack.received_at, ack.ranges()),
            Frame::PathChallenge(token) => self.path_challenge(*token),
            Frame::PathResponse(token) => self.path_response(*token),
            Frame::PathStatus(status) => self.path_status(status),
            Frame::PathClose(path) => self.path_close(*path),
            Frame::Close { code, text } => self.close(*code, text),
            Frame::RekeyRequest { epoch, public } => self.rekey_request(*epoch, public),
            Frame::RekeyResponse { epoch, public } => self.rekey_response(*epoch, public),
            Frame::Skip { flow, first, count } => self.skip(*flow, *first, *count),
            Frame::Mode { sequence, mode } => self.mode(*sequence, *mode),
            Frame::Parity(parity) => self.parity(parity),
            Frame::Recovered(recovered) => {
                let numbers: Vec<u32> = recovered.numbers().collect();
                self.recovered(recovered.path, numbers.into_iter())
            }
            Frame::LinkPolicy(policy) => self.link_policy(policy),
            Frame::FlowClass(flow) => self.flow_class(flow),
            Frame::Data(data) => self.data(data, true),
        }
    }
}
