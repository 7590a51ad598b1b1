/// Why a datagram of the handshake was not accepted, or could not be written; grouped by whose fault it is.
///
/// Anyone can send a datagram, so the first two groups are outcomes to be counted, no reason to give the handshake up: it
/// stays as it was, and waits for the true answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    // The bytes.
    /// The datagram is of another type than asked for, or too short or too long for its type.
    #[error("not a datagram of this type")]
    Malformed,
    /// It is for another session than this handshake's, or names no sender.
    #[error("the session ids do not belong to this handshake")]
    OtherSession,
    /// It is of a version that is not spoken here.
    #[error("protocol version {0} is not spoken here")]
    Version(u8),

    // The sender.
    /// It does not open: it was altered on its way, comes from someone without the right key, or the secrets differ.
    #[error("the datagram does not open: it was altered, or the keys are not the right ones")]
    Forged,
    /// A public key of low order, by which a secret would be known to everyone.
    #[error("the public key is of low order")]
    LowOrder,

    // The caller.
    /// The payload does not fit its datagram.
    #[error("a payload of {len} bytes was given, {max} fit")]
    TooLong {
        /// The payload's length in bytes.
        len: usize,
        /// The greatest length in bytes.
        max: usize,
    },
    /// The null psk was given for a session (docs/protocol.md, HS-4).
    #[error("the null psk makes no session")]
    NullPsk,
    /// Session id zero was given (docs/protocol.md, WIRE-2).
    #[error("zero is no session id")]
    ZeroSession,
    /// The handshake is over: its Response has been accepted.
    #[error("the handshake is over")]
    Finished,

    // This crate.
    /// The Noise library was used in a way that it refuses.
    #[error("error in the use of Noise: {0}")]
    Internal(String),
}

impl From<snow::Error> for HandshakeError {
    fn from(error: snow::Error) -> Self {
        match error {
            snow::Error::Decrypt | snow::Error::Input => Self::Forged,
            snow::Error::Dh => Self::LowOrder,
            other => Self::Internal(other.to_string()),
        }
    }
}
