use core::fmt;
use core::time::Duration;

use bondwire_units::{Deadline, PathId, Timestamp};

use super::aead::{Cipher, Key, TAG_LEN};
use super::rekey::{Answer, Pending};
use super::secret::{Direction, TransportSecret};

/// Packet numbers stay below this (docs/protocol.md, KEY-2).
pub const PACKET_NUMBER_LIMIT: u64 = 1 << 62;
/// How many packets one key of AES-256-GCM seals at most (docs/protocol.md, KEY-2).
pub const SEAL_LIMIT: u64 = 1 << 24;
/// How many packets before its limit a key is called worn out, so that the session can still be closed in good order.
const RESERVE: u64 = 1 << 10;
const OLD_KEY_LIFE_MIN: Duration = Duration::from_secs(1);
const OLD_KEY_LIFE_MAX: Duration = Duration::from_secs(10);

/// Which end of a session one is. The client is the one that started the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Sent the Initiation; asks for new keys.
    Client,
    /// Sent the Response.
    Server,
}

/// Why a packet did not open. Nothing has changed by it; the packet is dropped and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum OpenError {
    /// Shorter than a tag.
    #[error("the packet is shorter than its tag")]
    TooShort,
    /// No key of this phase is known: it is not made yet, or was forgotten.
    #[error("there is no key of this phase")]
    NoKey,
    /// Altered, or sealed with other keys.
    #[error("the packet is forged")]
    Forged,
}

/// The keys of one session at one of its ends. See the module's essay for how keys change.
///
/// Replay is not looked at here: ask the path's [`crate::ReplayWindow`] before opening, and tell it after.
pub struct SessionKeys {
    pub(super) role: Role,
    pub(super) cipher: Cipher,
    /// The secret of the newest epoch.
    pub(super) secret: TransportSecret,
    /// The newest epoch for which keys were made.
    pub(super) epoch: u64,
    /// When they were.
    pub(super) since: Timestamp,
    /// The newest epoch of which a packet opened; 0 at the start.
    pub(super) confirmed: u64,
    pub(super) seal: SealKey,
    /// The server's key of an epoch that is not confirmed.
    waiting: Option<SealKey>,
    /// The receive keys, each at the index of its phase.
    pub(super) open: [Option<OpenKey>; 4],
    /// The least number that may be sealed next, by path id. A nonce that comes twice under a key would give it away.
    next_numbers: Box<[u64; 256]>,
    /// A path has come to its last numbers, or a packet was refused its seal.
    spent: bool,
    old_key_life: Duration,
    pub(super) pending: Option<Pending>,
    pub(super) answer: Option<Answer>,
}

pub(super) struct SealKey {
    key: Key,
    epoch: u64,
    /// Packets sealed.
    pub(super) sealed: u64,
}

pub(super) struct OpenKey {
    key: Key,
    epoch: u64,
    /// Packets opened.
    pub(super) opened: u64,
    /// When it is forgotten: set for old keys.
    dies: Option<Timestamp>,
}

impl SessionKeys {
    /// The keys of a new session, epoch 0. `cipher` is the one named in the ServerHello.
    pub fn new(role: Role, secret: TransportSecret, cipher: Cipher, now: Timestamp) -> Self {
        let (seal, open) = keys_of(role, cipher, &secret, 0);
        Self {
            role,
            cipher,
            secret,
            epoch: 0,
            since: now,
            confirmed: 0,
            seal,
            waiting: None,
            open: [Some(open), None, None, None],
            next_numbers: Box::new([0; 256]),
            spent: false,
            old_key_life: OLD_KEY_LIFE_MAX,
            pending: None,
            answer: None,
        }
    }

    /// The phase for the header of the next packet: the epoch of the key that seals it, modulo 4. It changes only in
    /// [`SessionKeys::open_in_place`] and [`SessionKeys::handle_rekey_response`].
    pub fn phase(&self) -> u8 {
        phase_of(self.seal.epoch)
    }

    /// The epoch of the key that seals.
    pub fn epoch(&self) -> u64 {
        self.seal.epoch
    }

    /// The session's cipher.
    pub fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// Encrypts `payload` where it is, and gives the tag to put behind it. `header` is the packet's header as it is sent
    /// (docs/protocol.md, WIRE-4), with [`SessionKeys::phase`] in it. Packet numbers rise on each path.
    ///
    /// A number that does not rise or has reached [`PACKET_NUMBER_LIMIT`], and a key of AES-256-GCM that has sealed
    /// [`SEAL_LIMIT`] packets, would endanger the key. Such a packet is not sealed: payload and tag become zeros, which open
    /// nowhere, and [`SessionKeys::worn_out`] says so from then on.
    pub fn seal_in_place(
        &mut self,
        path: PathId,
        packet_number: u64,
        header: &[u8],
        payload: &mut [u8],
    ) -> [u8; TAG_LEN] {
        let next = &mut self.next_numbers[usize::from(path.0)];
        let allowed = packet_number >= *next
            && packet_number < PACKET_NUMBER_LIMIT
            && (self.cipher != Cipher::Aes256Gcm || self.seal.sealed < SEAL_LIMIT);
        if allowed && let Some(tag) = self.seal.key.seal(path, packet_number, header, payload) {
            *next = packet_number + 1;
            self.spent |= packet_number >= PACKET_NUMBER_LIMIT - RESERVE;
            self.seal.sealed += 1;
            return tag;
        }
        self.spent = true;
        payload.fill(0);
        [0; TAG_LEN]
    }

    /// Whether the session has to be closed now (`keys worn out`): the sealing key is within 1,024 packets of its limit, a
    /// path has come to its last numbers, or a packet was refused its seal (docs/protocol.md, KEY-2). It takes a peer that
    /// answers no request for new keys to get here.
    pub fn worn_out(&self) -> bool {
        self.spent || (self.cipher == Cipher::Aes256Gcm && self.seal.sealed >= SEAL_LIMIT - RESERVE)
    }

    /// Decrypts ciphertext and tag where they are, and gives the length of the plaintext at the beginning of `sealed`.
    /// `phase` is the low two bits of the type; `header` the header as it came. The first packet of a new epoch confirms it:
    /// older keys then live for [`SessionKeys::set_old_key_life`], and a server seals with the new key from now on.
    ///
    /// # Errors
    /// When the packet does not open. The keys are unchanged, and the content of `sealed` is without meaning.
    pub fn open_in_place(
        &mut self,
        phase: u8,
        path: PathId,
        packet_number: u64,
        header: &[u8],
        sealed: &mut [u8],
        now: Timestamp,
    ) -> Result<usize, OpenError> {
        if sealed.len() < TAG_LEN {
            return Err(OpenError::TooShort);
        }
        let slot = self.open[usize::from(phase & 3)].as_mut().filter(|key| key.lives(now));
        let key = slot.ok_or(OpenError::NoKey)?;
        let len = key.key.open(path, packet_number, header, sealed).ok_or(OpenError::Forged)?;
        key.opened += 1;
        let epoch = key.epoch;
        if epoch > self.confirmed {
            self.on_confirmed(epoch, now);
        }
        Ok(len)
    }

    /// Sets how long old receive keys live after the first packet of a new epoch: three probe timeouts, held between 1 s and
    /// 10 s (docs/protocol.md, KEY-4). 10 s until it is set; keys that are dying already keep their time.
    pub fn set_old_key_life(&mut self, life: Duration) {
        self.old_key_life = life.clamp(OLD_KEY_LIFE_MIN, OLD_KEY_LIFE_MAX);
    }

    /// When something is to be done: `old keys` by [`SessionKeys::handle_timeout`], `rekey` by asking
    /// [`SessionKeys::rekey_due`] and starting it. A `rekey` that is overdue stays in the past until it is started.
    pub fn poll_deadline(&self) -> Option<Deadline> {
        let dies = self.open.iter().flatten().filter_map(|key| key.dies).min();
        Deadline::earliest(
            dies.map(|at| Deadline::new(at, "old keys")),
            self.rekey_time().map(|at| Deadline::new(at, "rekey")),
        )
    }

    /// Forgets the receive keys whose time is over.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        for slot in &mut self.open {
            if slot.as_ref().is_some_and(|key| !key.lives(now)) {
                *slot = None;
            }
        }
    }

    /// Makes the keys of the next epoch. The client seals with them at once, the server when they are confirmed.
    pub(super) fn advance(&mut self, shared: &[u8; 32], now: Timestamp) {
        self.secret = self.secret.next(shared);
        self.epoch += 1;
        self.since = now;
        let (seal, open) = keys_of(self.role, self.cipher, &self.secret, self.epoch);
        // The slot's earlier key, if one is left, is four epochs old.
        self.open[usize::from(phase_of(self.epoch))] = Some(open);
        match self.role {
            Role::Client => self.seal = seal,
            Role::Server => self.waiting = Some(seal),
        }
    }

    /// Packets opened with the newest key.
    pub(super) fn opened(&self) -> u64 {
        self.open[usize::from(phase_of(self.epoch))].as_ref().map_or(0, |key| key.opened)
    }

    fn on_confirmed(&mut self, epoch: u64, now: Timestamp) {
        self.confirmed = epoch;
        for old in self.open.iter_mut().flatten().filter(|key| key.epoch < epoch) {
            old.dies.get_or_insert(now + self.old_key_life);
        }
        if let Some(seal) = self.waiting.take_if(|seal| seal.epoch == epoch) {
            self.seal = seal;
        }
    }
}

impl OpenKey {
    fn lives(&self, now: Timestamp) -> bool {
        self.dies.is_none_or(|dies| now < dies)
    }
}

fn phase_of(epoch: u64) -> u8 {
    (epoch % 4) as u8
}

fn keys_of(role: Role, cipher: Cipher, secret: &TransportSecret, epoch: u64) -> (SealKey, OpenKey) {
    let key = |direction| Key::new(cipher, &secret.key(direction));
    let (c, s) = (key(Direction::ClientToServer), key(Direction::ServerToClient));
    let (seal, open) = match role {
        Role::Client => (c, s),
        Role::Server => (s, c),
    };
    (SealKey { key: seal, epoch, sealed: 0 }, OpenKey { key: open, epoch, opened: 0, dies: None })
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys")
            .field("role", &self.role)
            .field("cipher", &self.cipher)
            .field("epoch", &self.epoch)
            .field("confirmed", &self.confirmed)
            .field("sealed", &self.seal.sealed)
            .field("pending", &self.pending.is_some())
            .finish_non_exhaustive()
    }
}
