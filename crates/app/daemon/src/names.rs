//! Texts that people type and that become file names, addresses or devices: checked once, then types.

use core::fmt;
use core::str::FromStr;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The name of a client: 1 to 64 of a-z, A-Z, 0-9, `-`, `_` and `.`, beginning with a letter or a digit.
/// So it is a safe file name, and fits the protocol's field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientName(String);

impl ClientName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= 64 && text.bytes().all(good) {
            return Ok(Self(text.to_owned()));
        }
        let shown: String = text.chars().take(64).flat_map(char::escape_default).collect();
        Err(format!(
            "`{shown}` is not a name for a client: use 1 to 64 letters (a-z), digits, `-`, `_` and `.`, beginning with a letter or a digit"
        ))
    }
}

/// Where a server is found: a host (name, IPv4 address, or IPv6 address in brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Endpoint {
    text: String,
    host: String,
    port: u16,
}

impl Endpoint {
    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The UDP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `host:port`.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || {
            let shown: String = text.chars().take(80).flat_map(char::escape_default).collect();
            format!(
                "`{shown}` is not HOST:PORT: write it as `vpn.example.org:4433`, `192.0.2.1:4433` or `[2001:db8::1]:4433`"
            )
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let port: u64 = port.parse().map_err(|_| fail())?;
        let Ok(port @ 1..) = u16::try_from(port) else {
            return Err(format!("port {port} is not possible: 1 to 65535"));
        };
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<Ipv6Addr>().map_err(|_| fail())?.to_string(),
            None if !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_')) =>
            {
                host.to_owned()
            }
            None => return Err(fail()),
        };
        Ok(Self { text: text.to_owned(), host, port })
    }
}

/// An IPv4 network, such as `10.99.0.0/24`: 8 to 30 bits of prefix, and no host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network4 {
    address: Ipv4Addr,
    prefix: u8,
}

impl Network4 {
    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network's address.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// The server's address: the first of the network.
    pub fn server(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() + 1)
    }

    /// The address of the client with this index, from 2 on; none behind the last one (the very last is the broadcast address).
    pub fn client(self, index: u32) -> Option<Ipv4Addr> {
        let hosts = (1_u32 << (32 - u32::from(self.prefix))) - 1;
        (2..hosts).contains(&index).then(|| Ipv4Addr::from_bits(self.address.to_bits() + index))
    }

    /// Whether an address belongs to the network.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        address.to_bits() >> (32 - u32::from(self.prefix))
            == self.address.to_bits() >> (32 - u32::from(self.prefix))
    }
}

impl FromStr for Network4 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail =
            || format!("`{}` is not an IPv4 network: write it as `10.99.0.0/24`", text.escape_default());
        let (address, prefix) = text.split_once('/').ok_or_else(fail)?;
        let address: Ipv4Addr = address.parse().map_err(|_| fail())?;
        let prefix: u8 = prefix.parse().map_err(|_| fail())?;
        if !(8..=30).contains(&prefix) {
            return Err(format!("`{text}` has a prefix of {prefix} bits: 8 to 30 are possible, 24 is usual"));
        }
        let base = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - u32::from(prefix))));
        if base != address {
            return Err(format!(
                "`{text}` is an address in a network, not a network: did you mean `{base}/{prefix}`?"
            ));
        }
        Ok(Self { address, prefix })
    }
}

/// An IPv6 network, such as `fd99:1:2:3::/64`: 16 to 112 bits of prefix, and no host bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network6 {
    address: Ipv6Addr,
    prefix: u8,
}

impl Network6 {
    /// The length of the prefix in bits.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The network's address.
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// The server's address: the first of the network.
    pub fn server(self) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() + 1)
    }

    /// The address of the client with this index; none if the network has not so many.
    pub fn client(self, index: u32) -> Option<Ipv6Addr> {
        let hosts = 1_u128 << (128 - u32::from(self.prefix)).min(127);
        (2..hosts)
            .contains(&u128::from(index))
            .then(|| Ipv6Addr::from_bits(self.address.to_bits() + u128::from(index)))
    }
}

impl FromStr for Network6 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail =
            || format!("`{}` is not an IPv6 network: write it as `fd99:1:2:3::/64`", text.escape_default());
        let (address, prefix) = text.split_once('/').ok_or_else(fail)?;
        let address: Ipv6Addr = address.parse().map_err(|_| fail())?;
        let prefix: u8 = prefix.parse().map_err(|_| fail())?;
        if !(16..=112).contains(&prefix) {
            return Err(format!(
                "`{text}` has a prefix of {prefix} bits: 16 to 112 are possible, 64 is usual"
            ));
        }
        let base = Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - u32::from(prefix))));
        if base != address {
            return Err(format!(
                "`{text}` is an address in a network, not a network: did you mean `{base}/{prefix}`?"
            ));
        }
        Ok(Self { address, prefix })
    }
}

/// The name of a network interface: 1 to 15 bytes without `/`, white space or control characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

impl InterfaceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
        if (1..=15).contains(&text.len()) && !text.contains(bad) && text != "." && text != ".." {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "`{}` cannot be the name of an interface: 1 to 15 characters without spaces, `/` and `:`",
            text.escape_default()
        ))
    }
}

macro_rules! text_type {
    ($($name:ident: |$value:ident| $text:expr;)*) => {$(
        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let $value = self;
                f.pad(&$text)
            }
        }
    )*};
}

text_type! {
    ClientName: |name| name.0;
    Endpoint: |endpoint| endpoint.text;
    Network4: |network| format!("{}/{}", network.address, network.prefix);
    Network6: |network| format!("{}/{}", network.address, network.prefix);
    InterfaceName: |name| name.0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_file_names() {
        for good in ["van", "a", "Laptop-2", "x.y_z", "9"] {
            assert!(good.parse::<ClientName>().is_ok(), "{good}");
        }
        for bad in
            ["", ".", "..", "../etc/passwd", "a/b", "-rf", ".hidden", "a b", "a\0", "é", &"x".repeat(65)]
        {
            assert!(bad.parse::<ClientName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn endpoints() {
        let endpoint: Endpoint = "[2001:db8::1]:4433".parse().expect("good");
        assert_eq!((endpoint.host(), endpoint.port()), ("2001:db8::1", 4433));
        assert!("vpn.example.org:1".parse::<Endpoint>().is_ok());
        for bad in
            ["", "host", "host:", "host:0", "host:99999", ":4433", "2001:db8::1:4433", "a b:1", "[x]:1"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn networks_give_their_first_address_to_the_server() {
        let network: Network4 = "10.99.0.0/24".parse().expect("good");
        assert_eq!(network.server(), Ipv4Addr::new(10, 99, 0, 1));
        assert_eq!(network.client(2), Some(Ipv4Addr::new(10, 99, 0, 2)));
        assert_eq!(network.client(254), Some(Ipv4Addr::new(10, 99, 0, 254)));
        assert_eq!((network.client(255), network.client(1), network.client(0)), (None, None, None));
        assert!(
            network.contains(Ipv4Addr::new(10, 99, 0, 77)) && !network.contains(Ipv4Addr::new(10, 98, 0, 77))
        );
        let network: Network6 = "fd99::/64".parse().expect("good");
        assert_eq!(network.server().to_string(), "fd99::1");
        assert_eq!(network.client(300).map(|address| address.to_string()).as_deref(), Some("fd99::12c"));
        assert!("10.99.0.5/24".parse::<Network4>().is_err_and(|why| why.contains("`10.99.0.0/24`")));
        assert!("10.0.0.0/31".parse::<Network4>().is_err());
        assert!("fd99::5/64".parse::<Network6>().is_err_and(|why| why.contains("`fd99::/64`")));
    }
}
