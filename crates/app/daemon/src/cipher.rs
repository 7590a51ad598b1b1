//! Which ciphers are offered, and in which order (docs/protocol.md, HS-8).

use bondwire_crypto::Cipher;

/// AES first where the processor has instructions for it, ChaCha20 first elsewhere.
pub(crate) fn preferred() -> Vec<Cipher> {
    if has_aes() {
        vec![Cipher::Aes256Gcm, Cipher::ChaCha20Poly1305]
    } else {
        vec![Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm]
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}
