//! Every numbered requirement of docs/protocol.md is cited in the code or the tests that meet it, and every citation names
//! a requirement that exists.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use super::sources;

/// Compares the specification with the sources.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let spec = root.join("docs/protocol.md");
    let spec = std::fs::read_to_string(&spec).with_context(|| format!("cannot read {}", spec.display()))?;
    let stated = stated(&spec);
    let mut cited = BTreeSet::new();
    let mut findings = Vec::new();
    for file in sources::rust_files(root)? {
        let name = file.strip_prefix(root).unwrap_or(&file);
        if !name.starts_with("crates") {
            continue;
        }
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for citation in citations(&text, &stated) {
            if stated.contains(&citation) {
                cited.insert(citation);
            } else {
                findings.push(format!(
                    "{}: cites {citation}, which docs/protocol.md does not state",
                    name.display()
                ));
            }
        }
    }
    findings.extend(stated.difference(&cited).map(|name| format!("{name} is cited nowhere under crates/")));
    Ok(findings)
}

/// The requirements that the specification states, written as `**NAME-n**`.
fn stated(spec: &str) -> BTreeSet<String> {
    spec.split("**").skip(1).step_by(2).filter(|bold| name_of(bold).is_some()).map(str::to_owned).collect()
}

/// The NAME of a requirement that reads `NAME-n`.
fn name_of(requirement: &str) -> Option<&str> {
    let (name, number) = requirement.split_once('-')?;
    let is_name = name.len() >= 2 && name.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_name && is_number).then_some(name)
}

/// What a source cites: every `NAME-n` whose NAME the specification uses.
fn citations(text: &str, stated: &BTreeSet<String>) -> BTreeSet<String> {
    let names: BTreeSet<&str> = stated.iter().filter_map(|requirement| name_of(requirement)).collect();
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == '-' || letter == '_'))
        .filter(|word| name_of(word).is_some_and(|name| names.contains(name)))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = "Intro, **bold text**.\n- **WIRE-1** A datagram.\n- **HS-12** A hand**shake**.\n";

    #[test]
    fn requirements_are_read_from_the_specification() {
        assert_eq!(stated(SPEC), ["HS-12", "WIRE-1"].map(str::to_owned).into());
    }

    #[test]
    fn citations_are_whole_words_of_known_names() {
        let text = "// docs/protocol.md, WIRE-1 and (HS-12); WIRE-10, UTF-8, REWIRE-1, WIRE-1b";
        let found = citations(text, &stated(SPEC));
        assert_eq!(found, ["HS-12", "WIRE-1", "WIRE-10"].map(str::to_owned).into());
    }
}
