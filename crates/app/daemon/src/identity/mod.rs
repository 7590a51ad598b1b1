//! Who this machine is, and whom it trusts.
//!
//! Everything here is offline: files and random numbers, no network, no daemon, no root beyond the right to write the
//! configuration folder. A server's identity is its key; each client is one file below `clients/`, written as a whole, so
//! that no interruption can leave half a client. A client's identity is one file too: its own key and what the invite said.

mod client;
mod record;
mod server;

pub use client::{ClientIdentity, JoinReport, join};
pub use record::StoredClient;
pub use server::{InitOptions, InitReport, Invited, clients, invite, revoke, server_init};
pub(crate) use server::{load_server, update_client};

use base64ct::{Base64, Encoding};
use bondwire_api::Fault;

/// Random bytes of the system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Fault> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => {
                return Err(Fault::from_io(
                    "cannot make a key",
                    &errno.into(),
                    "the system gives no random numbers",
                ));
            }
        }
    }
    Ok(bytes)
}

/// Seconds since 1970 by the system's clock; 0 if it stands before.
pub fn unix_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// 32 bytes as text in a file.
pub(crate) fn encode_key(bytes: &[u8; 32]) -> String {
    Base64::encode_string(bytes)
}

/// 32 bytes that stand in a file as base64.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyText(pub(crate) [u8; 32]);

impl<'de> serde::Deserialize<'de> for KeyText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        match Base64::decode(&text, &mut bytes) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self(bytes)),
            _ => Err(serde::de::Error::custom("a key is 44 characters of base64 that end in `=`")),
        }
    }
}

impl std::fmt::Debug for KeyText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyText(..)")
    }
}

/// The 8 bytes of an invite's id, as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct IdText(pub(crate) [u8; 8]);

impl TryFrom<String> for IdText {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let good = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let id = if good { u64::from_str_radix(&text, 16).ok() } else { None };
        id.map(|id| Self(id.to_be_bytes())).ok_or("an id is 16 hexadecimal digits")
    }
}

impl std::fmt::Display for IdText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

#[cfg(test)]
mod tests;
