//! Batched datagrams bound to a link.
