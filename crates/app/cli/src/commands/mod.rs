//! One file per command.

pub(crate) mod balance;
pub(crate) mod demo;
pub(crate) mod down;
pub(crate) mod join;
pub(crate) mod links;
pub(crate) mod mode;
pub(crate) mod server;
pub(crate) mod sockets;
pub(crate) mod status;
pub(crate) mod streams;
pub(crate) mod up;
