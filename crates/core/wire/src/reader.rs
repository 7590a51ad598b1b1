use crate::error::{Malformed, WireError};
use crate::varint;

/// A place in a run of bytes. Every method either takes a whole item or fails with the item's name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, len: usize, what: &'static str) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Malformed::Truncated(what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn take_all(&mut self) -> &'a [u8] {
        core::mem::take(&mut self.rest)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(crate) fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u16(&mut self, what: &'static str) -> Result<u16, WireError> {
        Ok(u16::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u24(&mut self, what: &'static str) -> Result<u32, WireError> {
        let [a, b, c] = self.array(what)?;
        Ok(u32::from_be_bytes([0, a, b, c]))
    }

    pub(crate) fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_be_bytes(self.array(what)?))
    }

    pub(crate) fn varint(&mut self, what: &'static str) -> Result<u64, WireError> {
        let (value, len) = varint::read(self.rest).ok_or(Malformed::Truncated(what))?;
        self.rest = &self.rest[len..];
        Ok(value)
    }

    /// A varint length, and as many bytes.
    pub(crate) fn prefixed(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let len = self.varint(what)?;
        // A length beyond the address space is beyond the input too.
        self.take(usize::try_from(len).unwrap_or(usize::MAX), what)
    }
}

/// Text from the peer: UTF-8, at most `max` bytes, no control characters (it ends up in logs and on terminals).
pub(crate) fn text<'a>(bytes: &'a [u8], max: usize, what: &'static str) -> Result<&'a str, WireError> {
    if bytes.len() > max {
        return Err(Malformed::Length(what).into());
    }
    let text = core::str::from_utf8(bytes).map_err(|_| Malformed::Text(what))?;
    if text.chars().any(char::is_control) {
        return Err(Malformed::Text(what).into());
    }
    Ok(text)
}

/// `text` as [`text()`] accepts it: cut before the character that would pass `max` bytes or is a control character.
pub(crate) fn fitting(text: &str, max: usize) -> &str {
    let end = text.char_indices().find(|(at, c)| at + c.len_utf8() > max || c.is_control());
    end.map_or(text, |(at, _)| &text[..at])
}
