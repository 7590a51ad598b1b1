use std::fs;
use std::io;
use std::process::Command;

/// Why the lab cannot have namespaces of its own.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IsolationError {
    /// The environment: `unshare` is not there or does not start.
    #[error(
        "cannot run `unshare`: {0}. The lab runs in namespaces that it makes; install util-linux, which has this command"
    )]
    Unshare(io::Error),
    /// The environment: namespaces are refused.
    #[error("cannot make namespaces for the lab: {reason} (unshare said: {said}). {remedy}")]
    Refused {
        /// Why, as far as can be seen.
        reason: &'static str,
        /// What `unshare` printed.
        said: String,
        /// What to do.
        remedy: &'static str,
    },
    /// The environment: this program does not find itself.
    #[error(
        "cannot find this program's own file to start it again inside the lab: {0}. Was it deleted or replaced?"
    )]
    OwnPath(io::Error),
    /// The environment: the process inside could not be started or watched.
    #[error("cannot start the process inside the lab: {0}")]
    Supervise(io::Error),
}

const BASE: [&str; 2] = ["--net", "--mount"];
const AS_USER: [&str; 4] = ["--user", "--map-root-user", "--net", "--mount"];
/// CAP_SYS_ADMIN of linux/capability.h.
const CAP_SYS_ADMIN: u32 = 21;

/// The flags under which `unshare` works here, as few as possible.
pub(super) fn usable_flags() -> Result<&'static [&'static str], IsolationError> {
    if is_privileged() && try_unshare(&BASE)?.is_none() {
        return Ok(&BASE);
    }
    match try_unshare(&AS_USER)? {
        None => Ok(&AS_USER),
        Some(said) => Err(explain(said)),
    }
}

/// Whether this process holds CAP_SYS_ADMIN, which makes namespaces without a user namespace.
fn is_privileged() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    bits >> CAP_SYS_ADMIN & 1 == 1
}

/// Makes the namespaces for a process that does nothing; what `unshare` said if it failed.
fn try_unshare(flags: &[&str]) -> Result<Option<String>, IsolationError> {
    let output = Command::new("unshare").args(flags).arg("true").output().map_err(IsolationError::Unshare)?;
    if output.status.success() {
        return Ok(None);
    }
    Ok(Some(String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ")))
}

fn explain(said: String) -> IsolationError {
    let (reason, remedy) = reason(&|key| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    IsolationError::Refused { reason, said, remedy }
}

/// The first setting that forbids user namespaces, and the way out. `setting` reads a kernel parameter.
fn reason(setting: &dyn Fn(&str) -> Option<u64>) -> (&'static str, &'static str) {
    if setting("kernel.unprivileged_userns_clone") == Some(0) {
        return (
            "user namespaces are switched off for ordinary users (kernel.unprivileged_userns_clone is 0)",
            "Run `sudo sysctl kernel.unprivileged_userns_clone=1`, or run this command as root",
        );
    }
    if setting("kernel.apparmor_restrict_unprivileged_userns") == Some(1) {
        return (
            "AppArmor takes the rights away in user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1)",
            "Run `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`, or run this command as root",
        );
    }
    if setting("user.max_user_namespaces") == Some(0) {
        return (
            "no user namespaces are allowed (user.max_user_namespaces is 0)",
            "Run `sudo sysctl user.max_user_namespaces=10000`, or run this command as root",
        );
    }
    if setting("user.max_net_namespaces") == Some(0) {
        return (
            "no network namespaces are allowed (user.max_net_namespaces is 0)",
            "Run `sudo sysctl user.max_net_namespaces=10000`",
        );
    }
    (
        "the system refuses them, as containers do",
        "Run this command as root; inside a container, start the container with --privileged, or with \
         --security-opt seccomp=unconfined --security-opt apparmor=unconfined",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_that_forbids_is_named_with_its_remedy() {
        for (key, bad, remedy) in [
            ("kernel.unprivileged_userns_clone", 0, "kernel.unprivileged_userns_clone=1"),
            (
                "kernel.apparmor_restrict_unprivileged_userns",
                1,
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
            ("user.max_user_namespaces", 0, "user.max_user_namespaces=10000"),
            ("user.max_net_namespaces", 0, "user.max_net_namespaces=10000"),
        ] {
            let (why, what) = reason(&|asked| (asked == key).then_some(bad));
            assert!(why.contains(key), "{why}");
            assert!(what.contains(remedy), "{what}");
        }
    }

    #[test]
    fn an_unknown_cause_is_said_to_be_unknown() {
        let (why, what) = reason(&|_| None);
        assert!(why.contains("container"));
        assert!(what.contains("root"));
    }
}
