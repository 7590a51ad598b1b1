//! Keys of people and machines: X25519 pairs and the pre-shared secret of an invite.

use core::fmt;
use core::str::FromStr;

use base64ct::{Base64, Encoding};
use curve25519_dalek::MontgomeryPoint;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// The public half of an X25519 pair: how a client or a server is known.
///
/// Text form is standard base64 with padding, 44 characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The key with these bytes. Every 32 bytes are a key; those of low order are refused when they are used.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&Base64::encode_string(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

/// A text that is no public key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a public key: a key is 44 characters of base64 that end in `=`; copy it again, in full"
)]
pub struct ParseKeyError(String);

impl FromStr for PublicKey {
    type Err = ParseKeyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 32];
        match Base64::decode(text, &mut bytes) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self(bytes)),
            _ => Err(ParseKeyError(text.to_owned())),
        }
    }
}

/// The secret half of an X25519 pair. Wiped on drop; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// The key with these bytes, which have to be 32 random ones or a key stored earlier. (X25519 clamps them when they are
    /// used, so that every value is valid.)
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key's bytes, for storing it. The copy is the caller's to wipe.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    /// The public key that belongs to it. One multiplication (tens of microseconds): keep the result.
    pub fn public(&self) -> PublicKey {
        PublicKey(MontgomeryPoint::mul_base_clamped(self.0).to_bytes())
    }

    /// The point shared with the owner of `other` (RFC 7748, section 6.1).
    ///
    /// `None` if it is all zeros, which only a key of low order brings about: such a key is a forgery.
    pub(crate) fn shared(&self, other: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let mut point = MontgomeryPoint(*other).mul_clamped(self.0);
        let shared = Zeroizing::new(point.to_bytes());
        point.zeroize();
        let any = shared.iter().fold(0, |any, byte| any | byte);
        (any != 0).then_some(shared)
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(..)")
    }
}

/// The secret of an invite, mixed into message 2 of the handshake. Wiped on drop; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Psk([u8; 32]);

impl Psk {
    /// The secret under which refusals are sealed; no session is ever made with it (docs/protocol.md, HS-4).
    pub const NULL: Self = Self([0; 32]);

    /// The secret with these bytes, which have to be random.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether this is [`Psk::NULL`].
    pub fn is_null(&self) -> bool {
        self.0.iter().fold(0, |any, byte| any | byte) == 0
    }
}

impl fmt::Debug for Psk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Psk(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_public_key_survives_its_text() {
        let key = SecretKey::from_bytes([5; 32]).public();
        let text = key.to_string();
        assert_eq!(text.len(), 44);
        assert_eq!(text.parse(), Ok(key));
        for broken in
            ["", "AAAA", &text[..43], &format!("{text} "), &format!("{text}AAAA"), &text.replace('=', "!")]
        {
            assert!(broken.parse::<PublicKey>().is_err(), "{broken}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(format!("{:?}", SecretKey::from_bytes([65; 32])), "SecretKey(..)");
        assert_eq!(format!("{:?}", Psk::from_bytes([65; 32])), "Psk(..)");
    }

    /// The vectors come from OpenSSL.
    #[test]
    fn agrees_with_another_implementation() {
        let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let (ours, theirs) = (SecretKey::from_bytes([5; 32]), SecretKey::from_bytes([6; 32]).public());
        assert_eq!(
            hex(theirs.as_bytes()),
            "f5b2d6e60f9477e310c2982daaa6c9136c108a1777c5947e448fa37d68174557"
        );
        let shared = ours.shared(theirs.as_bytes()).unwrap();
        assert_eq!(hex(shared.as_ref()), "edfa360a9633ca9b6fe655be8849389323ae3a3444866567f463c8e2c80bbb5a");
    }

    #[test]
    fn points_of_low_order_are_refused() {
        let secret = SecretKey::from_bytes([5; 32]);
        let mut one = [0; 32];
        one[0] = 1;
        assert!(secret.shared(&[0; 32]).is_none());
        assert!(secret.shared(&one).is_none());
        assert!(secret.shared(secret.public().as_bytes()).is_some());
    }
}
