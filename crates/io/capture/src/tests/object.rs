//! The committed object is the committed source's.

use std::process::Command;

#[test]
fn the_object_was_built_from_this_source() {
    let root = env!("CARGO_MANIFEST_DIR");
    let output = Command::new("sha256sum").arg(format!("{root}/bpf/capture.bpf.c")).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let recorded = include_str!("../../bpf/capture.bpf.o.source");
    assert_eq!(
        text.split_whitespace().next(),
        recorded.split_whitespace().next(),
        "the C source changed since the object was built: run `cargo xtask bpf` and commit both"
    );
}
