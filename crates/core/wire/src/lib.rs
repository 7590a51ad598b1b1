//! The protocol on the wire: headers, frames, handshake payloads, invites.
