//! Tests in network namespaces of their own: each runs the test program again under `unshare`, as root or as an ordinary user with a user namespace.

mod lab;
mod marks;
mod plans;
mod recovery;
mod watching;
