//! The exchange that changes keys (docs/protocol.md, KEY-3).

use core::time::Duration;

use bondwire_units::Timestamp;

use super::keys::{Role, SessionKeys};
use crate::key::SecretKey;

/// How old keys get before the client asks for new ones.
pub const REKEY_AGE: Duration = Duration::from_secs(120);
/// How many packets a key seals or opens before the client asks for a new one.
pub const REKEY_PACKETS: u64 = 1 << 22;
/// After what time without an answer a request is due again.
pub const REKEY_REPEAT: Duration = Duration::from_secs(1);

/// What a REKEY_REQUEST frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RekeyRequest {
    /// The epoch that the new keys will have.
    pub epoch: u64,
    /// The client's fresh public key.
    pub public: [u8; 32],
}

/// What a REKEY_RESPONSE frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RekeyResponse {
    /// The epoch of the new keys.
    pub epoch: u64,
    /// The server's fresh public key.
    pub public: [u8; 32],
}

/// Why a frame about keys was not followed. Nothing has changed by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RekeyError {
    /// A late copy of a request that was answered long ago. The frame is ignored.
    #[error("a late copy of an old request for keys")]
    Stale,
    /// The peer gave a public key of low order.
    #[error("the peer's public key is of low order")]
    LowOrder,
    /// An epoch that does not follow on the newest, or a second request for the same with another key.
    #[error("keys of epoch {0} were not to be expected")]
    Unexpected(u64),
    /// A request to a client, or an answer to a server.
    #[error("only a client asks for new keys, only a server answers")]
    WrongRole,
}

impl RekeyError {
    /// Whether the peer breaks the protocol, for which the session is closed (`protocol`).
    pub fn is_fatal(self) -> bool {
        self != Self::Stale
    }
}

/// The client's request that waits for its answer.
pub(super) struct Pending {
    secret: SecretKey,
    request: RekeyRequest,
    sent: Timestamp,
}

/// The server's newest answer, for repeated requests.
pub(super) struct Answer {
    request: [u8; 32],
    response: RekeyResponse,
}

impl SessionKeys {
    /// Whether the client has to send a request now: its keys are [`REKEY_AGE`] old or have sealed or opened
    /// [`REKEY_PACKETS`], and there was traffic under them; or the request before has gone without an answer for
    /// [`REKEY_REPEAT`]. Never true at a server.
    pub fn rekey_due(&self, now: Timestamp) -> bool {
        self.rekey_time().is_some_and(|at| at <= now)
    }

    /// Whether a request waits for its answer.
    pub fn rekey_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Starts a change of keys, or repeats the request that is waiting; the caller sends it. Only for clients: a server's
    /// request would be refused by its peer. `ephemeral` is 32 bytes fresh from the system's generator; for a repetition they
    /// are not used.
    pub fn start_rekey(&mut self, ephemeral: [u8; 32], now: Timestamp) -> RekeyRequest {
        let epoch = self.epoch + 1;
        let pending = self.pending.get_or_insert_with(|| {
            let secret = SecretKey::from_bytes(ephemeral);
            let public = *secret.public().as_bytes();
            Pending { secret, request: RekeyRequest { epoch, public }, sent: now }
        });
        pending.sent = now;
        pending.request
    }

    /// The server's side: takes a request, makes the next keys, and gives the answer to send. They are used for sealing when
    /// the first packet under them has opened. A repeated request gets the same answer, and `ephemeral` (32 bytes fresh from
    /// the system's generator) is then not used.
    ///
    /// # Errors
    /// See [`RekeyError`]; all but [`RekeyError::Stale`] close the session.
    pub fn handle_rekey_request(
        &mut self,
        epoch: u64,
        public: [u8; 32],
        ephemeral: [u8; 32],
        now: Timestamp,
    ) -> Result<RekeyResponse, RekeyError> {
        if self.role != Role::Server {
            return Err(RekeyError::WrongRole);
        }
        if let Some(answer) = &self.answer
            && answer.response.epoch == epoch
        {
            let same = answer.request == public;
            return if same { Ok(answer.response) } else { Err(RekeyError::Unexpected(epoch)) };
        }
        if epoch <= self.epoch {
            return Err(RekeyError::Stale);
        }
        // A client asks for the next keys with a packet under the newest, which has confirmed them.
        if epoch != self.epoch + 1 || self.confirmed != self.epoch {
            return Err(RekeyError::Unexpected(epoch));
        }
        let secret = SecretKey::from_bytes(ephemeral);
        let shared = secret.shared(&public).ok_or(RekeyError::LowOrder)?;
        let response = RekeyResponse { epoch, public: *secret.public().as_bytes() };
        self.advance(&shared, now);
        self.answer = Some(Answer { request: public, response });
        Ok(response)
    }

    /// The client's side: takes the answer, and seals with the new keys from now on. A late copy of an answer changes nothing.
    ///
    /// # Errors
    /// See [`RekeyError`]; they close the session.
    pub fn handle_rekey_response(
        &mut self,
        epoch: u64,
        public: [u8; 32],
        now: Timestamp,
    ) -> Result<(), RekeyError> {
        if self.role != Role::Client {
            return Err(RekeyError::WrongRole);
        }
        if epoch <= self.epoch {
            return Ok(());
        }
        let pending = self.pending.as_ref().filter(|pending| pending.request.epoch == epoch);
        let pending = pending.ok_or(RekeyError::Unexpected(epoch))?;
        let shared = pending.secret.shared(&public).ok_or(RekeyError::LowOrder)?;
        self.pending = None;
        self.advance(&shared, now);
        Ok(())
    }

    /// When the client's next request is due; `None` at a server, and as long as nothing asks for one.
    pub(super) fn rekey_time(&self) -> Option<Timestamp> {
        if self.role != Role::Client {
            return None;
        }
        if let Some(pending) = &self.pending {
            return Some(pending.sent + REKEY_REPEAT);
        }
        let packets = self.seal.sealed.max(self.opened());
        match packets {
            0 => None,
            REKEY_PACKETS.. => Some(self.since),
            _ => Some(self.since + REKEY_AGE),
        }
    }
}
