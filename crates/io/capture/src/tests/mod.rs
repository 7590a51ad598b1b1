//! What the kernel makes of it, in namespaces, with real sockets.

mod dead_link;
mod dns;
mod lab;
mod leaving;
mod object;
mod plans;
mod spread;
mod table;
