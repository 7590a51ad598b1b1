use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::hash::{derive, expand};

/// The secret of a session in one epoch, from which its keys follow (docs/protocol.md, KEY-1). Wiped on drop; never printed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct TransportSecret([u8; 32]);

/// One of a session's two directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    ClientToServer,
    ServerToClient,
}

impl TransportSecret {
    /// The first secret, from the two keys into which Noise splits.
    pub(crate) fn from_split(first: &[u8; 32], second: &[u8; 32]) -> Self {
        let mut input = Zeroizing::new([0; 64]);
        input[..32].copy_from_slice(first);
        input[32..].copy_from_slice(second);
        Self(*derive(None, input.as_ref(), b"bondwire transport"))
    }

    /// The secret of the next epoch (docs/protocol.md, KEY-3).
    pub(super) fn next(&self, shared: &[u8; 32]) -> Self {
        Self(*derive(Some(&self.0), shared, b"bondwire rekey"))
    }

    /// The key of one direction.
    pub(super) fn key(&self, direction: Direction) -> Zeroizing<[u8; 32]> {
        let info: &[u8] = match direction {
            Direction::ClientToServer => b"key c",
            Direction::ServerToClient => b"key s",
        };
        expand(&self.0, info)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for TransportSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TransportSecret(..)")
    }
}
