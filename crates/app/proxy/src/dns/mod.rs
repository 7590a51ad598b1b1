//! Names, asked over the links.
//!
//! Two users: names in proxy requests are looked up on the link that the connection is about to take
//! (the module `resolver`), and the [`Forwarder`] answers DNS clients, in the transparent way all of this
//! machine's port 53. Both ask a link's own resolvers through that link, so an answer fits the network that its connection
//! takes, and nothing is asked over a link that the director does not name.

pub(crate) mod cache;
pub(crate) mod exchange;
mod forwarder;
pub(crate) mod message;
pub(crate) mod resolver;

#[cfg(test)]
mod tests;

pub use forwarder::{Forwarder, ForwarderHandle};
