//! The keys of a session: sealing, opening, and changing keys without a gap.
//!
//! Keys are numbered by **epoch**; a packet's header bears the epoch modulo 4, the **phase**. Each epoch has a secret, from
//! which one key per direction follows. The life of an epoch:
//!
//! 1. The client finds that a change is due ([`SessionKeys::rekey_due`]) and sends a request with a fresh public key.
//! 2. The server answers with its own, and can open packets of the new epoch from then on; it still seals with the old keys.
//! 3. The client has the answer: it seals with the new keys at once, and opens both.
//! 4. The first packet of the new epoch opens at the server: the epoch is **confirmed** there, and the server seals with it.
//! 5. The first packet of the new epoch opens at the client: confirmed there as well.
//! 6. On each side, the older keys open late packets for a while after confirmation, and are then forgotten.
//!
//! Lost and reordered packets change nothing in this: requests are repeated until answered, a repeated request gets the same
//! answer, and a packet opens with the key that its phase names or not at all. Only a packet that opens confirms anything.

mod aead;
mod keys;
mod rekey;
mod secret;
#[cfg(test)]
mod tests;

pub use aead::{Cipher, TAG_LEN};
pub use keys::{OpenError, PACKET_NUMBER_LIMIT, Role, SEAL_LIMIT, SessionKeys};
pub use rekey::{REKEY_AGE, REKEY_PACKETS, REKEY_REPEAT, RekeyError, RekeyRequest, RekeyResponse};
pub use secret::TransportSecret;
