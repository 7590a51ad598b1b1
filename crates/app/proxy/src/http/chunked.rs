//! Where a chunked body ends (RFC 9112, 7.1). The bytes themselves pass unchanged.
//!
//! The framing is checked strictly: a proxy and a server that read one body differently can be made to see two requests.
//! Bounds: a chunk's size line [`LONGEST_LINE`] bytes, all trailers [`LONGEST_TRAILERS`].

const LONGEST_LINE: usize = 256;
const LONGEST_TRAILERS: usize = 8 * 1024;

/// The framing is broken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct BadChunk;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// In the hexadecimal digits of a size; whether there was one.
    Size(bool),
    /// In a chunk extension.
    Extension,
    /// After the carriage return of a size line.
    SizeEnd,
    Data,
    /// After a chunk's data.
    DataEnd,
    DataEndLine,
    /// At the start of a trailer line.
    LineStart,
    Line,
    LineEnd,
    LastEnd,
    Done,
}

/// A reader of chunked framing.
#[derive(Debug)]
pub(crate) struct Chunked {
    at: At,
    left: u64,
    line: usize,
    trailers: usize,
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Self { at: At::Size(false), left: 0, line: 0, trailers: 0 }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes the next bytes; how many of them belong to the body.
    ///
    /// # Errors
    /// When they are no chunked body.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Result<usize, BadChunk> {
        let mut used = 0;
        while used < bytes.len() && self.at != At::Done {
            if self.at == At::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - used);
                used += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.at = At::DataEnd;
                }
                continue;
            }
            self.at = self.step(bytes[used])?;
            used += 1;
        }
        Ok(used)
    }

    fn step(&mut self, byte: u8) -> Result<At, BadChunk> {
        self.line += 1;
        if self.line > LONGEST_LINE && matches!(self.at, At::Size(_) | At::Extension) {
            return Err(BadChunk);
        }
        Ok(match (self.at, byte) {
            (At::Size(_), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).ok_or(BadChunk)?;
                self.left = self.left.checked_mul(16).ok_or(BadChunk)? + u64::from(digit);
                At::Size(true)
            }
            (At::Size(true), b';' | b' ' | b'\t') => At::Extension,
            (At::Size(true) | At::Extension, b'\r') => At::SizeEnd,
            (At::Extension, byte) if byte != b'\n' && byte != 0 => At::Extension,
            (At::SizeEnd, b'\n') => {
                self.line = 0;
                if self.left == 0 { At::LineStart } else { At::Data }
            }
            (At::DataEnd, b'\r') => At::DataEndLine,
            (At::DataEndLine, b'\n') => {
                self.line = 0;
                At::Size(false)
            }
            (At::LineStart, b'\r') => At::LastEnd,
            (At::LineStart | At::Line, byte) if byte != b'\r' && byte != b'\n' && byte != 0 => {
                self.trailers += 1;
                if self.trailers > LONGEST_TRAILERS {
                    return Err(BadChunk);
                }
                At::Line
            }
            (At::Line, b'\r') => At::LineEnd,
            (At::LineEnd, b'\n') => At::LineStart,
            (At::LastEnd, b'\n') => At::Done,
            _ => return Err(BadChunk),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_it_ends() {
        let body = b"4\r\nWiki\r\nA;x=y\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nNEXT";
        for cut in 0..body.len() {
            let mut chunked = Chunked::new();
            let first = chunked.feed(&body[..cut]).unwrap();
            let second = chunked.feed(&body[first..]).unwrap();
            assert!(chunked.is_done());
            assert_eq!(&body[first + second..], b"NEXT");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            &b"\r\n"[..],
            b"-1\r\n",
            b"0x4\r\n",
            b"4\nWiki",
            b"4\r\nWikipedia",
            b"10000000000000000\r\n",
            b"1\r\na\n",
            b";\r\n",
        ] {
            assert_eq!(Chunked::new().feed(bad), Err(BadChunk), "{bad:?}");
        }
    }
}
