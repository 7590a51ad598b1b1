//! The committed object is the committed source's, and none but the one that was built from it.

use std::process::Command;

#[test]
fn the_object_is_the_one_built_from_this_source() {
    let mut hash = Command::new("sh");
    hash.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/bpf"));
    let output = hash.args(["-c", "LC_ALL=C; export LC_ALL; sha256sum *.c *.h *.o"]).output().unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        include_str!("../../bpf/capture.bpf.o.source"),
        "source or object changed since the object was built: run `cargo xtask bpf` and commit both"
    );
}
