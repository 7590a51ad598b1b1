//! The Noise library, with randomness that comes in from outside and Diffie-Hellman that refuses points of low order.

use std::sync::{Arc, OnceLock};

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState};
use zeroize::{Zeroize, Zeroizing};

use super::HandshakeError;
use crate::hash::blake2s_256;
use crate::key::{Psk, PublicKey, SecretKey};
use crate::session::TransportSecret;

const PATTERN: &str = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
/// Followed by the head of the Initiation, which is not under the seal otherwise: a copy with another sender must not open
/// (docs/protocol.md, HS-3).
const PROLOGUE: &[u8] = b"bondwire 1";
/// Where IKpsk2 mixes its psk in: at the end of message 2.
const PSK_PLACE: u8 = 2;

/// Bytes that message 1 adds to its payload: an ephemeral key, the sealed static key, a tag.
pub(super) const MESSAGE_1_OVERHEAD: usize = 32 + 48 + 16;
/// Bytes that message 2 adds to its payload: an ephemeral key and a tag.
pub(super) const MESSAGE_2_OVERHEAD: usize = 32 + 16;

/// The seed of one side's ephemeral key. The server's is known only after message 1 was read, so that it is set later.
#[derive(Clone, Default)]
pub(super) struct Seed(Arc<OnceLock<Zeroizing<[u8; 32]>>>);

impl Seed {
    /// Sets the seed; the first call counts.
    pub(super) fn set(&self, seed: [u8; 32]) {
        let _already_set = self.0.set(Zeroizing::new(seed));
    }
}

/// A generator that gives BLAKE2s of seed and counter.
struct Seeded {
    seed: Seed,
    blocks: u64,
}

impl Random for Seeded {
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), snow::Error> {
        let seed = self.seed.0.get().ok_or(snow::Error::Rng)?;
        for chunk in dest.chunks_mut(32) {
            let block = Zeroizing::new(blake2s_256(&[
                b"bondwire ephemeral",
                seed.as_ref(),
                &self.blocks.to_be_bytes(),
            ]));
            self.blocks += 1;
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

/// X25519 that wipes its secret, and fails on an all-zero result.
struct X25519 {
    secret: SecretKey,
    secret_bytes: Zeroizing<[u8; 32]>,
    public: [u8; 32],
}

impl X25519 {
    fn with(bytes: [u8; 32]) -> Self {
        let secret = SecretKey::from_bytes(bytes);
        let public = *secret.public().as_bytes();
        Self { secret, secret_bytes: Zeroizing::new(bytes), public }
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }

    fn pub_len(&self) -> usize {
        32
    }

    fn priv_len(&self) -> usize {
        32
    }

    fn set(&mut self, privkey: &[u8]) {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(privkey);
        *self = Self::with(bytes);
        bytes.zeroize();
    }

    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.try_fill_bytes(bytes.as_mut())?;
        *self = Self::with(*bytes);
        Ok(())
    }

    fn pubkey(&self) -> &[u8] {
        &self.public
    }

    fn privkey(&self) -> &[u8] {
        self.secret_bytes.as_ref()
    }

    fn dh(&self, pubkey: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        // The library hands over its whole buffer, of which a key is the beginning.
        let other = pubkey.first_chunk::<32>().ok_or(snow::Error::Input)?;
        let shared = self.secret.shared(other).ok_or(snow::Error::Dh)?;
        out.get_mut(..32).ok_or(snow::Error::Input)?.copy_from_slice(shared.as_ref());
        Ok(())
    }
}

struct Resolver(Seed);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded { seed: self.0.clone(), blocks: 0 }))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        // An empty key until `set` or `generate`; its public half is never asked for.
        let empty = X25519 {
            secret: SecretKey::from_bytes([0; 32]),
            secret_bytes: Zeroizing::new([0; 32]),
            public: [0; 32],
        };
        matches!(choice, DHChoice::Curve25519).then(|| Box::new(empty) as Box<dyn Dh>)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

fn prologue(head: &[u8]) -> Vec<u8> {
    [PROLOGUE, head].concat()
}

fn builder<'a>(local: &'a [u8; 32], prologue: &'a [u8], seed: &Seed) -> Result<Builder<'a>, HandshakeError> {
    let params: NoiseParams = PATTERN.parse()?;
    let builder = Builder::with_resolver(params, Box::new(Resolver(seed.clone())));
    Ok(builder.prologue(prologue)?.local_private_key(local)?)
}

/// The client's side, ready to write message 1 behind `head`.
pub(super) fn initiator(
    local: &SecretKey,
    server: &PublicKey,
    psk: &Psk,
    head: &[u8],
    seed: &Seed,
) -> Result<HandshakeState, HandshakeError> {
    let local = Zeroizing::new(local.to_bytes());
    Ok(builder(&local, &prologue(head), seed)?
        .remote_public_key(server.as_bytes())?
        .psk(PSK_PLACE, psk.as_bytes())?
        .build_initiator()?)
}

/// The server's side, ready to read message 1 behind `head`; its psk is set later by [`set_psk`].
pub(super) fn responder(
    identity: &SecretKey,
    head: &[u8],
    seed: &Seed,
) -> Result<HandshakeState, HandshakeError> {
    let local = Zeroizing::new(identity.to_bytes());
    Ok(builder(&local, &prologue(head), seed)?.build_responder()?)
}

/// Sets the psk that message 2 is to be written or read with.
pub(super) fn set_psk(state: &mut HandshakeState, psk: &Psk) -> Result<(), HandshakeError> {
    Ok(state.set_psk(usize::from(PSK_PLACE), psk.as_bytes())?)
}

/// Reads a message; when it fails, the state is as before.
pub(super) fn read(state: &mut HandshakeState, message: &[u8]) -> Result<Vec<u8>, HandshakeError> {
    let mut payload = vec![0; message.len()];
    let len = state.read_message(message, &mut payload)?;
    payload.truncate(len);
    Ok(payload)
}

/// The transport secret of a finished handshake (docs/protocol.md, KEY-1).
pub(super) fn split(state: &mut HandshakeState) -> TransportSecret {
    let (mut first, mut second) = state.dangerously_get_raw_split();
    let secret = TransportSecret::from_split(&first, &second);
    first.zeroize();
    second.zeroize();
    secret
}
