//! `bondwire balance` on a private internet with real clients. The web host sees which link each connection came over.
#![forbid(unsafe_code)]

mod browser;
mod changes;
mod goodput;
mod lan;
mod names;
mod proxy;
mod quic;
#[path = "../support/mod.rs"]
mod support;
mod transparent;
mod web;
mod world;
