//! The invite: one line of text that lets a client in.
//!
//! The operator of a server makes it, and hands it over by whatever way the two trust; from then on the client knows the
//! server's key and where to find it, and has the secret by which the server knows the invite again (docs/protocol.md,
//! section 3). A person copies it from one window to another, so that parsing is about what goes wrong there: a part that
//! was not selected, a line that was wrapped, a word too many. White space anywhere in it is ignored, a checksum finds the
//! rest, and every error says what to do.
//!
//! Bounds: 1 to [`MAX_ENDPOINTS`] endpoints of at most [`MAX_ENDPOINT`] bytes, [`MAX_TEXT`] characters in all.

use core::fmt;
use core::str::FromStr;

use base64ct::{Base64UrlUnpadded, Encoding};
use blake2::{Blake2s256, Digest};

use crate::error::WireError;
use crate::reader::Reader;

/// What every invite of this version begins with.
pub const PREFIX: &str = "bw1-";
/// The most endpoints of an invite.
pub const MAX_ENDPOINTS: usize = 8;
/// The most bytes of an endpoint.
pub const MAX_ENDPOINT: usize = 255;
/// The most characters of an invite.
pub const MAX_TEXT: usize = 4096;

const CHECKSUM_LEN: usize = 4;

/// What lets a client in. The secret is as good as a password until the invite is used, and never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Invite {
    /// The server's static public key.
    pub server: [u8; 32],
    /// By which the server finds the invite.
    pub id: [u8; 8],
    /// The psk of the handshake (HS-3).
    pub secret: [u8; 32],
    /// When its time for a first use is over, in Unix seconds.
    pub expires: u64,
    /// Where the server is: `host:port`, with an IPv6 address in brackets; the best first.
    pub endpoints: Vec<String>,
}

/// Why a text is no invite, or why an invite cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// It does not begin like one.
    #[error(
        "this is no invite: an invite is one line that begins with `bw1-`; copy the whole line that `bondwire server invite` printed"
    )]
    NotAnInvite,
    /// It begins like one of another version.
    #[error(
        "this invite begins with `{0}`, and this version of bondwire reads `bw1-` only: update bondwire, or ask for an invite made by version 1"
    )]
    Unsupported(String),
    /// A character that no invite has.
    #[error(
        "the invite has a character that does not belong there (`{}`): copy the whole line again, and nothing else",
        .0.escape_debug()
    )]
    Character(char),
    /// Its end is missing.
    #[error("the invite is incomplete: its end is missing; copy the whole line again")]
    Truncated,
    /// There is more behind its end.
    #[error("there is something behind the end of the invite: copy that one line, and nothing else")]
    Trailing,
    /// It was changed on its way.
    #[error(
        "the invite is damaged (its checksum is wrong): a character was changed or lost; copy the whole line again"
    )]
    Checksum,
    /// The named endpoint is not one.
    #[error(
        "`{0}` is no endpoint: write a host and a port, such as `vpn.example.org:4789`, `192.0.2.1:4789` or `[2001:db8::1]:4789`"
    )]
    Endpoint(String),
    /// It has no endpoints, or too many.
    #[error("an invite has 1 to 8 endpoints, not {0}")]
    EndpointCount(usize),
}

impl From<WireError> for InviteError {
    /// All that reading an invite can run into is its end.
    fn from(_: WireError) -> Self {
        Self::Truncated
    }
}

impl Invite {
    /// The invite as one line of text.
    ///
    /// # Errors
    /// If there are no endpoints, too many, or one that is none.
    pub fn encode(&self) -> Result<String, InviteError> {
        if !(1..=MAX_ENDPOINTS).contains(&self.endpoints.len()) {
            return Err(InviteError::EndpointCount(self.endpoints.len()));
        }
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&self.server);
        bytes.extend_from_slice(&self.id);
        bytes.extend_from_slice(&self.secret);
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.push(self.endpoints.len() as u8);
        for endpoint in &self.endpoints {
            check_endpoint(endpoint)?;
            // `check_endpoint` allows no more than fits one byte.
            bytes.push(endpoint.len() as u8);
            bytes.extend_from_slice(endpoint.as_bytes());
        }
        bytes.extend_from_slice(&checksum(&bytes));
        Ok(format!("{PREFIX}{}", Base64UrlUnpadded::encode_string(&bytes)))
    }

    /// Reads an invite, as a person pasted it.
    ///
    /// # Errors
    /// See [`InviteError`]; each says what to do.
    pub fn parse(text: &str) -> Result<Self, InviteError> {
        let bytes = payload(text)?;
        let mut reader = Reader::new(&bytes);
        let server = reader.array("the key")?;
        let id = reader.array("the id")?;
        let secret = reader.array("the secret")?;
        let expires = reader.u64("the expiry")?;
        let count = usize::from(reader.u8("the endpoints")?);
        let mut endpoints = Vec::with_capacity(count.min(MAX_ENDPOINTS));
        for _ in 0..count {
            let len = usize::from(reader.u8("an endpoint")?);
            endpoints.push(reader.take(len, "an endpoint")?);
        }
        let body = &bytes[..bytes.len() - reader.rest().len()];
        let found: [u8; CHECKSUM_LEN] = reader.array("the checksum")?;
        if found != checksum(body) {
            return Err(InviteError::Checksum);
        }
        if !reader.is_empty() {
            return Err(InviteError::Trailing);
        }

        if !(1..=MAX_ENDPOINTS).contains(&count) {
            return Err(InviteError::EndpointCount(count));
        }
        let endpoints = endpoints
            .into_iter()
            .map(|bytes| {
                let endpoint = String::from_utf8_lossy(bytes).into_owned();
                check_endpoint(&endpoint).map(|()| endpoint)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { server, id, secret, expires, endpoints })
    }
}

impl FromStr for Invite {
    type Err = InviteError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invite")
            .field("server", &Base64UrlUnpadded::encode_string(&self.server))
            .field("id", &Base64UrlUnpadded::encode_string(&self.id))
            .field("secret", &"hidden")
            .field("expires", &self.expires)
            .field("endpoints", &self.endpoints)
            .finish()
    }
}

/// The bytes for which the characters behind the prefix stand.
fn payload(text: &str) -> Result<Vec<u8>, InviteError> {
    let line: String = text.chars().filter(|c| !c.is_whitespace()).take(MAX_TEXT + 1).collect();
    let Some(encoded) = line.strip_prefix(PREFIX) else {
        return Err(match line.split_once('-') {
            Some((version, _)) if is_version(version) => InviteError::Unsupported(format!("{version}-")),
            _ => InviteError::NotAnInvite,
        });
    };
    if line.len() > MAX_TEXT {
        return Err(InviteError::Trailing);
    }
    if let Some(c) = encoded.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))) {
        return Err(InviteError::Character(c));
    }
    if encoded.len() % 4 == 1 {
        // No number of bytes takes so many characters.
        return Err(InviteError::Truncated);
    }
    // All characters are good and so is their number; what is left is bits behind the last byte that are not zero.
    Base64UrlUnpadded::decode_vec(encoded).map_err(|_| InviteError::Checksum)
}

fn is_version(prefix: &str) -> bool {
    let digits = prefix.strip_prefix("bw").unwrap_or("");
    (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

fn checksum(body: &[u8]) -> [u8; CHECKSUM_LEN] {
    let [a, b, c, d, ..]: [u8; 32] = Blake2s256::digest(body).into();
    [a, b, c, d]
}

/// `host:port`, where the host is a name, an IPv4 address, or an IPv6 address in brackets. Whether the name resolves is not
/// asked.
fn check_endpoint(endpoint: &str) -> Result<(), InviteError> {
    // It may come from an invite, and ends up on a terminal.
    let harmless = |c: char| c.is_alphanumeric() || c.is_ascii_graphic() || c == ' ';
    let shown = |c| if harmless(c) { c } else { '?' };
    let fail = || InviteError::Endpoint(endpoint.chars().take(80).map(shown).collect());
    let (host, port) = endpoint.rsplit_once(':').ok_or_else(fail)?;
    let digits = port.bytes().all(|b| b.is_ascii_digit());
    let port_fits = digits && port.parse::<u16>().is_ok_and(|port| port > 0);
    let host_fits = match host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            (1..=253).contains(&host.len())
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        }
    };
    if endpoint.len() <= MAX_ENDPOINT && port_fits && host_fits { Ok(()) } else { Err(fail()) }
}

#[cfg(test)]
mod tests;
