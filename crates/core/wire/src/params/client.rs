use super::tlv;
use super::{MAX_NAME, MAX_PATHS, Mode};
use crate::error::{Malformed, Violation, WireError};
use crate::reader::{fitting, text};

/// The most ciphers that a client offers.
pub const MAX_CIPHERS: usize = 8;

const TIMESTAMP: u64 = 1;
const CIPHERS: u64 = 2;
const MODE: u64 = 3;
const INVITE_ID: u64 = 4;
const MAX_INNER_MTU: u64 = 5;
const SOFTWARE: u64 = 6;
const PATHS: u64 = 7;

/// What a client says of itself in the first message. Timestamp, ciphers and mode are required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// max(clock, last + 1) in microseconds, persisted before it is sent (HS-5).
    pub timestamp: u64,
    /// The ciphers that it offers, the best first; 1 to [`MAX_CIPHERS`], not necessarily known ones (HS-8).
    pub ciphers: Vec<u8>,
    /// The mode that it asks for.
    pub mode: Mode,
    /// The invite by which it was let in; a client that the server knows by its key may leave it out.
    pub invite_id: Option<[u8; 8]>,
    /// The greatest inner MTU that it wants, in bytes; none if it has no wish.
    pub max_inner_mtu: Option<u16>,
    /// Software and version, for the operator; at most [`MAX_NAME`] bytes.
    pub software: String,
    /// The most paths that it will have open at a time, 1 to [`MAX_PATHS`]; the greatest if it does not say.
    pub max_paths: u8,
}

impl ClientHello {
    /// The list's bytes, without padding: at most 107.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(160);
        tlv::write(&mut list, TIMESTAMP, &self.timestamp.to_be_bytes());
        tlv::write(&mut list, CIPHERS, &self.ciphers[..self.ciphers.len().min(MAX_CIPHERS)]);
        tlv::write(&mut list, MODE, &[self.mode.to_byte()]);
        if let Some(id) = &self.invite_id {
            tlv::write(&mut list, INVITE_ID, id);
        }
        if let Some(mtu) = self.max_inner_mtu {
            tlv::write(&mut list, MAX_INNER_MTU, &mtu.to_be_bytes());
        }
        tlv::write(&mut list, SOFTWARE, fitting(&self.software, MAX_NAME).as_bytes());
        tlv::write(&mut list, PATHS, &[self.max_paths]);
        list
    }

    /// Reads the payload of Noise message 1, padding included.
    ///
    /// # Errors
    /// If it is malformed, or if something required is missing or out of its bounds.
    pub fn decode(list: &[u8]) -> Result<Self, WireError> {
        let (mut timestamp, mut ciphers, mut mode) = (None, None, None);
        let (mut invite_id, mut max_inner_mtu) = (None, None);
        let (mut software, mut max_paths) = ("", MAX_PATHS);
        tlv::read(list, |kind, value| {
            match kind {
                TIMESTAMP => timestamp = Some(u64::from_be_bytes(tlv::exactly(value, "the timestamp")?)),
                CIPHERS if (1..=MAX_CIPHERS).contains(&value.len()) => ciphers = Some(value.to_vec()),
                CIPHERS => return Err(Malformed::Length("the ciphers").into()),
                MODE => {
                    let [byte] = tlv::exactly(value, "the mode")?;
                    mode = Some(Mode::from_byte(byte).ok_or(Violation::OutOfBounds("the mode"))?);
                }
                INVITE_ID => invite_id = Some(tlv::exactly(value, "the invite's id")?),
                MAX_INNER_MTU => {
                    max_inner_mtu = Some(u16::from_be_bytes(tlv::exactly(value, "the inner MTU")?));
                }
                SOFTWARE => software = text(value, MAX_NAME, "the software's name")?,
                PATHS => [max_paths] = tlv::exactly(value, "the number of paths")?,
                _ => {}
            }
            Ok(())
        })?;
        if !(1..=MAX_PATHS).contains(&max_paths) {
            return Err(Violation::OutOfBounds("the number of paths").into());
        }
        Ok(Self {
            timestamp: timestamp.ok_or(Violation::Missing("timestamp"))?,
            ciphers: ciphers.ok_or(Violation::Missing("ciphers"))?,
            mode: mode.ok_or(Violation::Missing("mode"))?,
            invite_id,
            max_inner_mtu,
            software: software.to_owned(),
            max_paths,
        })
    }
}
