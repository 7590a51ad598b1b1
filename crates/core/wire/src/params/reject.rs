use super::RejectReason;
use super::tlv;
use crate::error::{Violation, WireError};
use crate::reader::{fitting, text};

/// The most bytes of a Reject's text.
pub const MAX_REJECT_TEXT: usize = 200;

const REASON: u64 = 1;
const LARGEST_TIMESTAMP: u64 = 2;
const TEXT: u64 = 3;

/// Why a server does not let a client in (HS-4). The reason is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why, for the machine.
    pub reason: RejectReason,
    /// With [`RejectReason::Stale`]: the largest timestamp of this client that the server has seen; the client goes on from
    /// this value plus one (HS-5).
    pub largest_timestamp: Option<u64>,
    /// Why, for the person; at most [`MAX_REJECT_TEXT`] bytes, no control characters.
    pub text: String,
}

impl Reject {
    /// A refusal without a timestamp.
    pub fn new(reason: RejectReason, text: impl Into<String>) -> Self {
        Self { reason, largest_timestamp: None, text: text.into() }
    }

    /// The list's bytes: at most 216.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(224);
        tlv::write(&mut list, REASON, &[self.reason.to_byte()]);
        if let Some(largest) = self.largest_timestamp {
            tlv::write(&mut list, LARGEST_TIMESTAMP, &largest.to_be_bytes());
        }
        tlv::write(&mut list, TEXT, fitting(&self.text, MAX_REJECT_TEXT).as_bytes());
        list
    }

    /// Reads the payload of Noise message 2 of a Reject.
    ///
    /// # Errors
    /// If it is malformed, or has no reason.
    pub fn decode(list: &[u8]) -> Result<Self, WireError> {
        let (mut reason, mut largest_timestamp, mut words) = (None, None, "");
        tlv::read(list, |kind, value| {
            match kind {
                REASON => reason = Some(RejectReason::from_byte(tlv::exactly::<1>(value, "the reason")?[0])),
                LARGEST_TIMESTAMP => {
                    largest_timestamp = Some(u64::from_be_bytes(tlv::exactly(value, "the timestamp")?));
                }
                TEXT => words = text(value, MAX_REJECT_TEXT, "the text of a Reject")?,
                _ => {}
            }
            Ok(())
        })?;
        Ok(Self {
            reason: reason.ok_or(Violation::Missing("reason"))?,
            largest_timestamp,
            text: words.to_owned(),
        })
    }
}
