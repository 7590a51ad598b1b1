//! What holds for every source file: its length, where `unsafe` may stand, and no unfinished code.
//!
//! The length of functions is clippy's to judge (`too_many_lines`, with the limit in clippy.toml).

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The longest file that still fits a reader's head. Tests beside a module (`tests.rs`, `tests/`) are free.
const MAX_LINES: usize = 800;

/// The only folder whose code may hold `unsafe`.
const UNSAFE_HERE: &str = "crates/io/";

/// Words that stand for code which is not there. Split, so that this file does not contain them.
const UNFINISHED: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("#[", "ignore")];

/// Checks all sources under `crates`, `xtask` and `fuzz`.
///
/// # Errors
/// When a folder or file cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for file in rust_files(root)? {
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        findings.extend(judge(&name, &text));
    }
    Ok(findings)
}

/// All Rust files of the project, in order of their names.
///
/// # Errors
/// When a folder cannot be read.
pub(crate) fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ["crates", "xtask", "fuzz"].map(|name| root.join(name)).into();
    while let Some(folder) = folders.pop() {
        if !folder.is_dir() || folder.ends_with("target") {
            continue;
        }
        let entries =
            std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_test(name: &str) -> bool {
    name.ends_with("/tests.rs")
        || name.ends_with("_tests.rs")
        || name.contains("/tests/")
        || name.contains("/benches/")
}

fn judge(name: &str, text: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES && !is_test(name) {
        findings.push(format!("{name}: {lines} lines; the most is {MAX_LINES}"));
    }
    for (number, line) in text.lines().enumerate() {
        let place = format!("{name}:{}", number + 1);
        let code = line.split("//").next().unwrap_or_default();
        if has_unsafe(code) && !name.starts_with(UNSAFE_HERE) {
            findings.push(format!("{place}: unsafe outside of {UNSAFE_HERE}"));
        }
        if let Some(word) = UNFINISHED.iter().find(|word| code.contains(**word)) {
            findings.push(format!("{place}: {word} has no place in the tree"));
        }
    }
    let root = name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs");
    if root && !name.starts_with(UNSAFE_HERE) && !text.contains("#![forbid(unsafe_code)]") {
        findings.push(format!("{name}: a crate outside of {UNSAFE_HERE} says #![forbid(unsafe_code)]"));
    }
    findings
}

/// Whether a line of code opens something unsafe.
fn has_unsafe(code: &str) -> bool {
    let mut after = code.split(concat!("un", "safe ")).skip(1);
    after.any(|rest| {
        ["{", "fn ", "impl ", "impl<", "extern ", "trait "].iter().any(|open| rest.starts_with(open))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "#![forbid(unsafe_code)]\n";

    #[test]
    fn long_files_are_found_and_long_tests_are_not() {
        let text = "\n".repeat(MAX_LINES + 1);
        assert_eq!(judge("crates/core/bond/src/order.rs", &text).len(), 1);
        assert_eq!(judge("crates/core/bond/src/order/tests.rs", &text).len(), 0);
        assert_eq!(judge("crates/core/bond/tests/order.rs", &text).len(), 0);
    }

    #[test]
    fn unsafe_stands_under_io_alone() {
        // Put together at run time: the check reads this file too.
        let block = format!("let x = {} {{ y() }};", "unsafe");
        assert_eq!(judge("crates/io/udp/src/send.rs", &block).len(), 0);
        assert_eq!(judge("crates/core/wire/src/frame.rs", &block).len(), 1);
        assert_eq!(judge("crates/core/wire/src/frame.rs", "// an unsafe { thing }\n").len(), 0);
        assert_eq!(judge("crates/core/wire/src/lib.rs", HEAD).len(), 0);
        assert_eq!(judge("crates/core/wire/src/lib.rs", "").len(), 1);
    }

    #[test]
    fn unfinished_code_is_found() {
        let text = format!("fn later() {{ {}) }}", UNFINISHED[0]);
        assert_eq!(judge("crates/core/wire/src/frame.rs", &text).len(), 1);
    }
}
