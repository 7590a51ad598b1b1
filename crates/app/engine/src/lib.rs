//! The data plane: drives the core with the io crates.
