//! The committed object is the committed source's.

use std::process::Command;

#[test]
fn the_object_was_built_from_this_source() {
    let mut hash = Command::new("sh");
    hash.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf"));
    let output = hash.args(["-c", "LC_ALL=C; export LC_ALL; sha256sum *.c *.h"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        include_str!("../../bpf/capture.bpf.o.source"),
        "the C source changed since the object was built: run `cargo xtask bpf` and commit both"
    );
}
