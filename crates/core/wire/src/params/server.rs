use std::net::{Ipv4Addr, Ipv6Addr};

use super::tlv;
use super::{MAX_NAME, MAX_PATHS, MIN_INNER_MTU};
use crate::error::{Violation, WireError};
use crate::reader::{fitting, text};

const CIPHER: u64 = 1;
const CLIENT_V4: u64 = 2;
const SERVER_V4: u64 = 3;
const CLIENT_V6: u64 = 4;
const SERVER_V6: u64 = 5;
const INNER_MTU: u64 = 6;
const SOFTWARE: u64 = 7;
const PATHS: u64 = 8;
const CLIENT_NAME: u64 = 9;

/// What a server tells a client that it lets in. Cipher and inner MTU are required, and a client address of at least one
/// kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerHello {
    /// The cipher that it picked out of those offered (HS-8).
    pub cipher: u8,
    /// The client's inner IPv4 address, and the length of the inner network's prefix.
    pub client_v4: Option<(Ipv4Addr, u8)>,
    /// The server's own inner IPv4 address.
    pub server_v4: Option<Ipv4Addr>,
    /// The client's inner IPv6 address, and the length of the inner network's prefix.
    pub client_v6: Option<(Ipv6Addr, u8)>,
    /// The server's own inner IPv6 address.
    pub server_v6: Option<Ipv6Addr>,
    /// The MTU of the tunnel device at both ends, in bytes, at least [`MIN_INNER_MTU`].
    pub inner_mtu: u16,
    /// Software and version; at most [`MAX_NAME`] bytes.
    pub software: String,
    /// The most paths that the client may have open at a time, 1 to [`MAX_PATHS`]; the greatest if it does not say.
    pub max_paths: u8,
    /// The name by which the operator knows the client; at most [`MAX_NAME`] bytes.
    pub client_name: String,
}

impl ServerHello {
    /// The list's bytes: at most 194.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::with_capacity(224);
        tlv::write(&mut list, CIPHER, &[self.cipher]);
        if let Some((address, prefix)) = self.client_v4 {
            tlv::write(&mut list, CLIENT_V4, &with_prefix::<5>(&address.octets(), prefix));
        }
        if let Some(address) = self.server_v4 {
            tlv::write(&mut list, SERVER_V4, &address.octets());
        }
        if let Some((address, prefix)) = self.client_v6 {
            tlv::write(&mut list, CLIENT_V6, &with_prefix::<17>(&address.octets(), prefix));
        }
        if let Some(address) = self.server_v6 {
            tlv::write(&mut list, SERVER_V6, &address.octets());
        }
        tlv::write(&mut list, INNER_MTU, &self.inner_mtu.to_be_bytes());
        tlv::write(&mut list, SOFTWARE, fitting(&self.software, MAX_NAME).as_bytes());
        tlv::write(&mut list, PATHS, &[self.max_paths]);
        tlv::write(&mut list, CLIENT_NAME, fitting(&self.client_name, MAX_NAME).as_bytes());
        list
    }

    /// Reads the payload of Noise message 2 of a Response.
    ///
    /// # Errors
    /// If it is malformed, or if something required is missing or out of its bounds.
    pub fn decode(list: &[u8]) -> Result<Self, WireError> {
        let (mut cipher, mut inner_mtu) = (None, None);
        let (mut client_v4, mut server_v4, mut client_v6, mut server_v6) = (None, None, None, None);
        let (mut software, mut client_name, mut max_paths) = ("", "", MAX_PATHS);
        tlv::read(list, |kind, value| {
            match kind {
                CIPHER => cipher = Some(tlv::exactly::<1>(value, "the cipher")?[0]),
                CLIENT_V4 => {
                    let [a, b, c, d, prefix] = tlv::exactly(value, "the client's IPv4 address")?;
                    client_v4 = Some((Ipv4Addr::new(a, b, c, d), prefix));
                }
                SERVER_V4 => server_v4 = Some(tlv::exactly::<4>(value, "the server's IPv4 address")?.into()),
                CLIENT_V6 => {
                    let bytes: [u8; 17] = tlv::exactly(value, "the client's IPv6 address")?;
                    let mut address = [0; 16];
                    address.copy_from_slice(&bytes[..16]);
                    client_v6 = Some((address.into(), bytes[16]));
                }
                SERVER_V6 => server_v6 = Some(tlv::exactly::<16>(value, "the server's IPv6 address")?.into()),
                INNER_MTU => inner_mtu = Some(u16::from_be_bytes(tlv::exactly(value, "the inner MTU")?)),
                SOFTWARE => software = text(value, MAX_NAME, "the software's name")?,
                PATHS => [max_paths] = tlv::exactly(value, "the number of paths")?,
                CLIENT_NAME => client_name = text(value, MAX_NAME, "the client's name")?,
                _ => {}
            }
            Ok(())
        })?;
        let hello = Self {
            cipher: cipher.ok_or(Violation::Missing("cipher"))?,
            client_v4,
            server_v4,
            client_v6,
            server_v6,
            inner_mtu: inner_mtu.ok_or(Violation::Missing("inner MTU"))?,
            software: software.to_owned(),
            max_paths,
            client_name: client_name.to_owned(),
        };
        hello.check()?;
        Ok(hello)
    }

    fn check(&self) -> Result<(), Violation> {
        if self.client_v4.is_none() && self.client_v6.is_none() {
            return Err(Violation::Missing("client's address"));
        }
        if self.client_v4.is_some_and(|(_, prefix)| prefix > 32)
            || self.client_v6.is_some_and(|(_, prefix)| prefix > 128)
        {
            return Err(Violation::OutOfBounds("the length of a prefix"));
        }
        if self.inner_mtu < MIN_INNER_MTU {
            return Err(Violation::OutOfBounds("the inner MTU"));
        }
        if !(1..=MAX_PATHS).contains(&self.max_paths) {
            return Err(Violation::OutOfBounds("the number of paths"));
        }
        Ok(())
    }
}

/// An address and its prefix length as `N` bytes; `N` is one more than the address has.
fn with_prefix<const N: usize>(address: &[u8], prefix: u8) -> [u8; N] {
    let mut bytes = [prefix; N];
    bytes[..N - 1].copy_from_slice(address);
    bytes
}
