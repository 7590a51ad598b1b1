//! BLAKE2s in its three uses: plain, keyed (MAC1, MAC2, cookies) and under HKDF (the key schedule).

use blake2::digest::consts::U16;
use blake2::digest::{FixedOutput, Mac};
use blake2::{Blake2s256, Blake2sMac, Digest};
use hkdf::SimpleHkdf;
use zeroize::Zeroizing;

/// BLAKE2s-256 of `parts`, one after the other. Nothing is put between them: where two parts have no fixed length, the
/// caller has to see to it that they cannot be cut otherwise.
pub fn blake2s_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Blake2s256::new();
    for part in parts {
        Digest::update(&mut hash, part);
    }
    hash.finalize().into()
}

fn keyed(key: &[u8], parts: &[&[u8]]) -> Blake2sMac<U16> {
    let mut mac: Blake2sMac<U16> =
        Mac::new_from_slice(key).expect("every key here has 16 or 32 bytes, and BLAKE2s takes up to 32");
    for part in parts {
        Mac::update(&mut mac, part);
    }
    mac
}

/// Keyed BLAKE2s-128 of `parts`. The key has 16 or 32 bytes.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    keyed(key, parts).finalize_fixed().into()
}

/// Whether `tag` is the [`mac`] of `parts`; takes the same time whatever the answer.
pub(crate) fn mac_matches(key: &[u8], parts: &[&[u8]], tag: &[u8]) -> bool {
    keyed(key, parts).verify_slice(tag).is_ok()
}

/// HKDF-BLAKE2s (RFC 5869): extract from `input` under `salt` (32 zeros if there is none), expand by `info`.
pub(crate) fn derive(salt: Option<&[u8; 32]>, input: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let hkdf = SimpleHkdf::<Blake2s256>::new(salt.map(<[u8; 32]>::as_slice), input);
    expand_with(&hkdf, info)
}

/// HKDF-Expand alone, for a `secret` that is already uniform.
pub(crate) fn expand(secret: &[u8; 32], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let hkdf = SimpleHkdf::<Blake2s256>::from_prk(secret).expect("32 bytes are one whole BLAKE2s output");
    expand_with(&hkdf, info)
}

fn expand_with(hkdf: &SimpleHkdf<Blake2s256>, info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    hkdf.expand(info, out.as_mut()).expect("32 bytes are within HKDF's limit of 255 outputs");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The vectors come from Python's hashlib.blake2s and hmac, and RFC 7693, appendix B.
    #[test]
    fn agrees_with_another_implementation() {
        assert_eq!(
            hex(&blake2s_256(&[b"a", b"bc"])),
            "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
        );
        assert_eq!(hex(&mac(&[7; 16], &[b"bond", b"wire"])), "ad8658638a0d92e415365d2884f089a9");
        assert_eq!(hex(&mac(&[7; 32], &[b"bondwire"])), "b52ce6048feb5c91948a933f42ca0c07");
        assert_eq!(
            hex(derive(None, b"input", b"info").as_ref()),
            "916dd531ab34bd9e5ce6ad796da255819b653bdd3022a04aa9e0eb9121237a47"
        );
        assert_eq!(
            hex(derive(Some(&[9; 32]), b"input", b"info").as_ref()),
            "b2df1c97f7f79bb2f6936309321302d3983a9a2038bd695d864e7d30d1ebd5c3"
        );
        assert_eq!(
            hex(expand(&[9; 32], b"info").as_ref()),
            "1e43a61cac2c682ae575988b279e0b01eff83b4576c6d8194af1986b2810b117"
        );
    }

    #[test]
    fn a_changed_tag_does_not_match() {
        let tag = mac(&[7; 16], &[b"bondwire"]);
        assert!(mac_matches(&[7; 16], &[b"bond", b"wire"], &tag));
        assert!(!mac_matches(&[8; 16], &[b"bondwire"], &tag));
        assert!(!mac_matches(&[7; 16], &[b"bondwire"], &tag[..15]));
    }
}
