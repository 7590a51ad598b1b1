//! The `bondwire` command.

fn main() {}
