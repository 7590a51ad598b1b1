use bondwire_units::{Bitrate, PathId};

use super::{
    ACK, Ack, CLOSE, DATA, DATA_FRAGMENT_BIT, DATA_LAST, DATA_LENGTH_BIT, DATA_ORDERED_BIT, Data, FLOW_CLASS,
    FlowClassFrame, Fragment, Frame, LAST_FRAGMENT_BIT, LINK_POLICY, LinkPolicy, LinkPriority,
    MAX_CLOSE_TEXT, MAX_FRAGMENTS, MODE, PADDING, PARITY, PATH_CHALLENGE, PATH_CLOSE, PATH_RESPONSE,
    PATH_STATUS, PING, Parity, PathState, PathStatus, RECOVERED, REKEY_REQUEST, REKEY_RESPONSE, Recovered,
    SKIP, SKIPPABLE,
};
use core::net::IpAddr;

use crate::error::{Malformed, Violation, WireError};
use crate::params::{CloseCode, Mode};
use crate::reader::{Reader, text};

/// The frames of a plaintext, in order. After an error nothing more comes.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    reader: Reader<'a>,
    empty: bool,
}

impl<'a> Frames<'a> {
    /// Walks over `plaintext`, which is an error if it is empty: a packet holds at least one frame.
    pub fn new(plaintext: &'a [u8]) -> Self {
        Self { reader: Reader::new(plaintext), empty: plaintext.is_empty() }
    }

    /// The next frame; none if all that is left was skipped.
    fn decode(&mut self) -> Result<Option<Frame<'a>>, WireError> {
        while !self.reader.is_empty() {
            let kind = self.reader.u8("a frame")?;
            if kind < SKIPPABLE {
                return decode(kind, &mut self.reader).map(Some);
            }
            self.reader.prefixed("a frame that is to be skipped")?;
        }
        Ok(None)
    }
}

impl<'a> Iterator for Frames<'a> {
    type Item = Result<Frame<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if core::mem::take(&mut self.empty) {
            return Some(Err(Malformed::NoFrames.into()));
        }
        let frame = self.decode();
        if frame.is_err() {
            self.reader.take_all();
        }
        frame.transpose()
    }
}

fn decode<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Frame<'a>, WireError> {
    Ok(match kind {
        PADDING => {
            let zeros = reader.rest().iter().take_while(|byte| **byte == PADDING).count();
            reader.take(zeros, "PADDING")?;
            Frame::Padding
        }
        PING => Frame::Ping,
        ACK => Frame::Ack(Ack::decode(reader)?),
        PATH_CHALLENGE => Frame::PathChallenge(reader.array("a PATH_CHALLENGE")?),
        PATH_RESPONSE => Frame::PathResponse(reader.array("a PATH_RESPONSE")?),
        PATH_STATUS => Frame::PathStatus(path_status(reader)?),
        PATH_CLOSE => Frame::PathClose(PathId(reader.u8("a PATH_CLOSE")?)),
        CLOSE => {
            let code = CloseCode::from_number(reader.varint("a CLOSE")?);
            let text = text(reader.prefixed("a CLOSE")?, MAX_CLOSE_TEXT, "the text of a CLOSE")?;
            Frame::Close { code, text }
        }
        REKEY_REQUEST => {
            let (epoch, public) = rekey(reader)?;
            Frame::RekeyRequest { epoch, public }
        }
        REKEY_RESPONSE => {
            let (epoch, public) = rekey(reader)?;
            Frame::RekeyResponse { epoch, public }
        }
        SKIP => skip(reader)?,
        MODE => {
            let sequence = reader.varint("a MODE")?;
            let mode = Mode::from_byte(reader.u8("a MODE")?).ok_or(Violation::OutOfBounds("the mode"))?;
            Frame::Mode { sequence, mode }
        }
        PARITY => Frame::Parity(Parity::decode(reader)?),
        RECOVERED => Frame::Recovered(Recovered::decode(reader)?),
        LINK_POLICY => Frame::LinkPolicy(link_policy(reader)?),
        FLOW_CLASS => Frame::FlowClass(flow_class(reader)?),
        DATA..=DATA_LAST => Frame::Data(data(kind, reader)?),
        unknown => return Err(Violation::UnknownFrame(unknown).into()),
    })
}

fn flow_class(reader: &mut Reader<'_>) -> Result<FlowClassFrame, WireError> {
    const WHAT: &str = "a FLOW_CLASS";
    let (class, protocol, version) = (reader.u8(WHAT)?, reader.u8(WHAT)?, reader.u8(WHAT)?);
    let (client_port, remote_port) = (reader.u16(WHAT)?, reader.u16(WHAT)?);
    let (client, remote) = match version {
        4 => (IpAddr::from(reader.array::<4>(WHAT)?), IpAddr::from(reader.array::<4>(WHAT)?)),
        6 => (IpAddr::from(reader.array::<16>(WHAT)?), IpAddr::from(reader.array::<16>(WHAT)?)),
        _ => return Err(Violation::OutOfBounds("the IP version of a FLOW_CLASS").into()),
    };
    Ok(FlowClassFrame { class, protocol, client: (client, client_port), remote: (remote, remote_port) })
}

fn path_status(reader: &mut Reader<'_>) -> Result<PathStatus, WireError> {
    const WHAT: &str = "a PATH_STATUS";
    Ok(PathStatus {
        path: PathId(reader.u8(WHAT)?),
        sequence: reader.varint(WHAT)?,
        state: PathState::from_byte(reader.u8(WHAT)?).ok_or(Violation::OutOfBounds("the state of a path"))?,
        loss: reader.u16(WHAT)?,
    })
}

fn link_policy(reader: &mut Reader<'_>) -> Result<LinkPolicy, WireError> {
    const WHAT: &str = "a LINK_POLICY";
    Ok(LinkPolicy {
        path: PathId(reader.u8(WHAT)?),
        sequence: reader.varint(WHAT)?,
        priority: LinkPriority::from_byte(reader.u8(WHAT)?)
            .ok_or(Violation::OutOfBounds("the priority of a path"))?,
        ceiling: match reader.varint(WHAT)? {
            0 => None,
            bps => Some(Bitrate::from_bps(bps)),
        },
    })
}

fn rekey(reader: &mut Reader<'_>) -> Result<(u64, [u8; 32]), WireError> {
    Ok((reader.varint("a REKEY frame")?, reader.array("a REKEY frame")?))
}

fn skip<'a>(reader: &mut Reader<'a>) -> Result<Frame<'a>, WireError> {
    let flow = reader.u16("a SKIP")?;
    let first = reader.u24("a SKIP")?;
    let count = u16::try_from(reader.varint("a SKIP")?).unwrap_or(0);
    if count == 0 {
        return Err(Violation::OutOfBounds("the count of a SKIP").into());
    }
    Ok(Frame::Skip { flow, first, count })
}

fn data<'a>(kind: u8, reader: &mut Reader<'a>) -> Result<Data<'a>, WireError> {
    const WHAT: &str = "a DATA frame";
    let flow = reader.u16(WHAT)?;
    let sequence = reader.u24(WHAT)?;
    let length = if kind & DATA_LENGTH_BIT != 0 { Some(reader.u16(WHAT)?) } else { None };
    let fragment = if kind & DATA_FRAGMENT_BIT != 0 { Some(fragment(reader.u8(WHAT)?)?) } else { None };
    let payload = match length {
        Some(length) => reader.take(usize::from(length), WHAT)?,
        None => reader.take_all(),
    };
    if payload.is_empty() {
        return Err(Malformed::Length(WHAT).into());
    }
    Ok(Data { flow, sequence, ordered: kind & DATA_ORDERED_BIT != 0, fragment, payload })
}

fn fragment(byte: u8) -> Result<Fragment, WireError> {
    let (index, last) = (byte & !LAST_FRAGMENT_BIT, byte & LAST_FRAGMENT_BIT != 0);
    if index >= MAX_FRAGMENTS {
        return Err(Violation::OutOfBounds("the index of a fragment").into());
    }
    Ok(Fragment { index, last })
}
