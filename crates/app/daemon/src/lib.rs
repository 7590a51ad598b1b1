//! Configuration, identity, state store and supervision.
