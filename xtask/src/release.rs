//! Release builds of the project's programs.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process;

/// Builds one program of a package and says where cargo put it (a target directory may be set in several places).
///
/// # Errors
/// When the build fails.
pub(crate) fn build(package: &str, program: &str) -> Result<PathBuf> {
    let mut build = process::cargo(&[
        "build",
        "--release",
        &format!("--package={package}"),
        &format!("--bin={program}"),
        "--message-format=json-render-diagnostics",
    ]);
    let output = process::output(&mut build)?;
    executable(&String::from_utf8_lossy(&output), program)
        .with_context(|| format!("cargo built {program}, but did not say where"))
}

/// The executable in cargo's messages, one JSON object a line.
fn executable(messages: &str, program: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == program)
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::executable;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#,
            "\nno json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"bondwire"},"executable":"/t/release/bondwire"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        assert_eq!(executable(messages, "bondwire"), Some("/t/release/bondwire".into()));
        assert_eq!(executable("{}", "bondwire"), None);
    }
}
