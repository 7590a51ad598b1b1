use bondwire_units::PathId;

/// Why bytes were not accepted, grouped by whose fault that is.
///
/// A datagram that fails [`crate::classify`] is dropped and counted (docs/protocol.md, WIRE-1): anyone can send one. The same
/// error in the plaintext of a packet means that the authenticated peer breaks the protocol; the session is closed for it
/// with [`crate::CloseCode::Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes follow no layout of the protocol: damaged, cut short, or of something else entirely.
    #[error("malformed: {0}")]
    Malformed(#[from] Malformed),
    /// The layout is right, and what it says is forbidden.
    #[error("against the protocol: {0}")]
    Violation(#[from] Violation),
}

/// Bytes that follow no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The input ends within the named item.
    #[error("it ends within {0}")]
    Truncated(&'static str),
    /// The first byte names no type of datagram.
    #[error("0x{0:02x} is no type of datagram")]
    UnknownDatagram(u8),
    /// The datagram, or the named item, has a length that its type cannot have.
    #[error("wrong length of {0}")]
    Length(&'static str),
    /// The receiver's session id is zero where it must not be, or is not zero where it must be (WIRE-2).
    #[error("wrong session id for this type of datagram")]
    Receiver,
    /// A packet without a single frame.
    #[error("a packet without frames")]
    NoFrames,
    /// The named text is not UTF-8, or holds control characters.
    #[error("{0} is not plain text")]
    Text(&'static str),
    /// Bytes other than zero in the padding behind a list of parameters.
    #[error("the padding is not zero")]
    Padding,
}

/// Well-formed content that the protocol forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A frame of an unknown type that may not be skipped.
    #[error("unknown frame 0x{0:02x}")]
    UnknownFrame(u8),
    /// The ranges of an ACK go below packet number zero.
    #[error("an ACK for {0} goes below packet number zero")]
    AckUnderflow(PathId),
    /// More ranges in an ACK than [`crate::frame::MAX_ACK_RANGES`].
    #[error("an ACK for {0} has too many ranges")]
    TooManyRanges(PathId),
    /// The named field has a value out of its bounds.
    #[error("{0} is out of bounds")]
    OutOfBounds(&'static str),
    /// A parameter that occurs twice in a list.
    #[error("parameter {0} occurs twice")]
    Repeated(u64),
    /// A parameter without which the message makes no sense.
    #[error("the parameter `{0}` is missing")]
    Missing(&'static str),
}
