use core::fmt;

/// Why a session ends (FRAME-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseCode {
    /// The side that closes has no more use for it.
    Done,
    /// The other side broke the protocol.
    Protocol,
    /// A newer session of the same client took its place.
    Replaced,
    /// The client's access was revoked.
    Revoked,
    /// Nothing came for too long.
    Idle,
    /// The server stops.
    ServerStops,
    /// The keys were used as often as is safe, and no new ones came in time.
    KeysWornOut,
    /// A code that this version does not know.
    Other(u64),
}

impl CloseCode {
    /// The number that stands for it on the wire.
    pub const fn number(self) -> u64 {
        match self {
            Self::Done => 0,
            Self::Protocol => 1,
            Self::Replaced => 2,
            Self::Revoked => 3,
            Self::Idle => 4,
            Self::ServerStops => 5,
            Self::KeysWornOut => 6,
            Self::Other(number) => number,
        }
    }

    /// The code for which `number` stands.
    pub const fn from_number(number: u64) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Protocol,
            2 => Self::Replaced,
            3 => Self::Revoked,
            4 => Self::Idle,
            5 => Self::ServerStops,
            6 => Self::KeysWornOut,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Protocol => "the other side broke the protocol",
            Self::Replaced => "a newer session of the same client took over",
            Self::Revoked => "the client's access was revoked",
            Self::Idle => "nothing came for too long",
            Self::ServerStops => "the server stops",
            Self::KeysWornOut => "the keys were used up",
            Self::Other(number) => return write!(f, "close code {number}, which this version does not know"),
        })
    }
}

/// Why a server refuses a client (HS-4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RejectReason {
    /// Neither the client's key nor the invite's id is known.
    UnknownKey,
    /// The client was revoked.
    Revoked,
    /// The invite belongs to another key already.
    InviteUsed,
    /// The invite's time was over before its first use.
    InviteExpired,
    /// The timestamp is not above the largest one of this client.
    Stale,
    /// The server accepts none of the ciphers offered.
    NoCommonCipher,
    /// The server has no room for another session.
    ServerFull,
    /// The client does not have the invite's secret.
    WrongSecret,
    /// A reason that this version does not know.
    Other(u8),
}

impl RejectReason {
    /// The byte that stands for it on the wire.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::UnknownKey => 1,
            Self::Revoked => 2,
            Self::InviteUsed => 3,
            Self::InviteExpired => 4,
            Self::Stale => 5,
            Self::NoCommonCipher => 6,
            Self::ServerFull => 7,
            Self::WrongSecret => 8,
            Self::Other(byte) => byte,
        }
    }

    /// The reason for which `byte` stands.
    pub const fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::UnknownKey,
            2 => Self::Revoked,
            3 => Self::InviteUsed,
            4 => Self::InviteExpired,
            5 => Self::Stale,
            6 => Self::NoCommonCipher,
            7 => Self::ServerFull,
            8 => Self::WrongSecret,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnknownKey => "the server does not know this client",
            Self::Revoked => "the server revoked this client",
            Self::InviteUsed => "the invite was used by another client already",
            Self::InviteExpired => "the invite expired before it was used",
            Self::Stale => "the server has seen a newer request of this client",
            Self::NoCommonCipher => "the server accepts none of this client's ciphers",
            Self::ServerFull => "the server is full",
            Self::WrongSecret => "the secret of the invite is wrong",
            Self::Other(byte) => return write!(f, "reason {byte}, which this version does not know"),
        })
    }
}
