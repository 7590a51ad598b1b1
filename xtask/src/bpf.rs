//! Builds the programs that `bondwire-capture` loads into the kernel.
//!
//! The object is committed, so that nobody needs clang to build bondwire; so are the hashes of the sources that it was built from, and of the object itself,
//! which a test compares. Debian's `clang`, `llvm`, `libbpf-dev` and `linux-libc-dev` have all that it takes.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

const FOLDER: &str = "crates/io/capture/bpf";
const SOURCE: &str = "capture.bpf.c";
const OBJECT: &str = "capture.bpf.o";

/// Compiles, strips what only a debugger reads, and writes the hashes down.
///
/// # Errors
/// A program is missing or refuses; the text says which.
pub(crate) fn run() -> Result<()> {
    let folder = process::root().join(FOLDER);
    let folder = folder.as_path();
    let mut compile = Command::new("clang");
    compile.current_dir(folder).args(["-target", "bpf", "-mcpu=v3", "-O2", "-g", "-Wall", "-Werror"]);
    // Debian keeps headers that depend on the machine in a folder of its own.
    compile.arg(format!("-I/usr/include/{}-linux-gnu", std::env::consts::ARCH));
    compile.args(["-fdebug-compilation-dir=.", "-c", SOURCE, "-o", OBJECT]);
    process::run(&mut compile)
        .context("clang does not compile the programs; it takes: apt-get install clang llvm libbpf-dev")?;
    process::run(Command::new("llvm-strip").current_dir(folder).args(["-g", OBJECT]))
        .context("llvm-strip fails; it takes: apt-get install llvm")?;
    let mut hash = Command::new("sh");
    hash.current_dir(folder).args(["-c", "LC_ALL=C; export LC_ALL; sha256sum *.c *.h *.o"]);
    fs::write(folder.join(format!("{OBJECT}.source")), process::output(&mut hash)?)?;
    println!("built {FOLDER}/{OBJECT}; commit it with its source and {OBJECT}.source");
    Ok(())
}
