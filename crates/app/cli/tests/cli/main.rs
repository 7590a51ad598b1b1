//! The binary, as people and scripts meet it.
#![forbid(unsafe_code)]

mod common;
mod daemon;
mod help;
mod offline;
