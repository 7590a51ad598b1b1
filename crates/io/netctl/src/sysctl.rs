//! Kernel settings under `/proc/sys`, of the caller's network namespace.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::NetError;

fn path_of(key: &str) -> PathBuf {
    Path::new("/proc/sys").join(key)
}

pub(crate) fn read(key: &str) -> Result<String, NetError> {
    let text = fs::read_to_string(path_of(key))
        .map_err(|source| NetError::kernel(format!("read the kernel setting {key}"), source))?;
    Ok(text.trim().to_owned())
}

pub(crate) fn write(key: &str, value: &str) -> Result<(), NetError> {
    fs::write(path_of(key), value)
        .map_err(|source| NetError::kernel(format!("set the kernel setting {key} to {value}"), source))
}

/// The names of the interfaces that have IPv6 settings, without the pseudo-interfaces `all` and `default`.
pub(crate) fn ipv6_interfaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir(path_of("net/ipv6/conf")) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| name != "all" && name != "default");
    names.sort_unstable();
    names
}
