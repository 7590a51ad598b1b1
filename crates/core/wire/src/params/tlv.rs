use crate::error::{Malformed, Violation, WireError};
use crate::header::HELLO_LEN;
use crate::reader::Reader;
use crate::varint;

/// The most entries of a list, unknown ones included.
pub const MAX_PARAMETERS: usize = 32;

/// Calls `each` with the type and value of every entry of `list`.
pub(super) fn read<'a>(
    list: &'a [u8],
    mut each: impl FnMut(u64, &'a [u8]) -> Result<(), WireError>,
) -> Result<(), WireError> {
    if list.len() > HELLO_LEN {
        return Err(Malformed::Length("the parameters").into());
    }
    let mut reader = Reader::new(list);
    let mut seen = Vec::with_capacity(MAX_PARAMETERS);
    while !reader.is_empty() {
        let kind = reader.varint("a parameter")?;
        if kind == 0 {
            let padding = reader.take_all();
            return if padding.iter().all(|byte| *byte == 0) {
                Ok(())
            } else {
                Err(Malformed::Padding.into())
            };
        }
        let value = reader.prefixed("a parameter")?;
        if seen.contains(&kind) {
            return Err(Violation::Repeated(kind).into());
        }
        if seen.len() == MAX_PARAMETERS {
            return Err(Violation::OutOfBounds("the number of parameters").into());
        }
        seen.push(kind);
        each(kind, value)?;
    }
    Ok(())
}

/// Appends one entry to `list`.
pub(super) fn write(list: &mut Vec<u8>, kind: u64, value: &[u8]) {
    for number in [kind, value.len() as u64] {
        let mut bytes = [0; varint::MAX_LEN];
        // Types are constants of this crate, and values are shorter than a datagram: both fit.
        let len = varint::write(number, &mut bytes).unwrap_or(0);
        list.extend_from_slice(&bytes[..len]);
    }
    list.extend_from_slice(value);
}

/// `value` as exactly `N` bytes.
pub(super) fn exactly<const N: usize>(value: &[u8], what: &'static str) -> Result<[u8; N], WireError> {
    value.try_into().map_err(|_| Malformed::Length(what).into())
}
