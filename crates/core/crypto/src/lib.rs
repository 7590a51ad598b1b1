//! Handshake, session keys, replay window, rekeying, cookies.
