use aws_lc_rs::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bondwire_units::PathId;

/// The length of a packet's tag in bytes.
pub const TAG_LEN: usize = 16;

/// The cipher of a session's packets, by its number on the wire (docs/protocol.md, HS-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Cipher {
    /// AES-256-GCM (NIST SP 800-38D): the faster one where the CPU computes AES.
    Aes256Gcm = 1,
    /// ChaCha20-Poly1305 (RFC 8439): the faster one everywhere else.
    ChaCha20Poly1305 = 2,
}

impl Cipher {
    /// The cipher with this number; `None` if it is none.
    pub const fn from_wire(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }

    /// The cipher's number.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

/// One key of one direction.
pub(super) struct Key(LessSafeKey);

impl Key {
    pub(super) fn new(cipher: Cipher, bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(cipher.algorithm(), bytes).expect("both ciphers have keys of 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// Encrypts `payload` where it is, and gives its tag; `None` if the payload is too long for the cipher (gigabytes).
    pub(super) fn seal(
        &self,
        path: PathId,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> Option<[u8; TAG_LEN]> {
        let nonce = nonce(path, packet_number);
        let tag = self.0.seal_in_place_separate_tag(nonce, Aad::from(header), payload).ok()?;
        tag.as_ref().try_into().ok()
    }

    /// Decrypts ciphertext and tag where they are, and gives the length of the plaintext; `None` if they are forged, and
    /// what is in `sealed` is then without meaning.
    pub(super) fn open(
        &self,
        path: PathId,
        packet_number: u64,
        header: &[u8],
        sealed: &mut [u8],
    ) -> Option<usize> {
        let opened = self.0.open_in_place(nonce(path, packet_number), Aad::from(header), sealed);
        opened.ok().map(|plaintext| plaintext.len())
    }
}

/// The nonce of a packet: its path's id in 4 bytes, its number in 8 (docs/protocol.md, KEY-2).
fn nonce(path: PathId, packet_number: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[3] = path.0;
    nonce[4..].copy_from_slice(&packet_number.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
