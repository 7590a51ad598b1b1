//! Who holds a UDP port: `/proc/net/udp{,6}` gives the socket's inode, `/proc/PID/fd` the process that has it open.

use std::fs;
use std::path::Path;

/// A process that holds a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its id.
    pub pid: u32,
    /// Its name, as in `ps`.
    pub name: String,
}

impl Holder {
    pub(crate) fn describe(holder: &Option<Self>) -> String {
        match holder {
            Some(Self { pid, name }) => format!("`{name}` (process {pid})"),
            None => "a process that this user may not see".to_owned(),
        }
    }

    pub(crate) fn advice(holder: &Option<Self>, port: u16) -> String {
        match holder {
            Some(Self { pid, .. }) => format!("stop that program (`kill {pid}`), or choose another port"),
            None => {
                format!("`sudo ss -ulpn sport = :{port}` names it; stop that program, or choose another port")
            }
        }
    }
}

/// The process that holds the UDP port, in this network namespace, as far as this user may see it.
///
/// Walks `/proc`: milliseconds, for error messages only.
pub fn port_holder(port: u16) -> Option<Holder> {
    let inodes: Vec<String> = ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| inodes_of(&table, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let holds = fs::read_dir(entry.path().join("fd")).ok()?.flatten().any(|fd| {
            fs::read_link(fd.path()).is_ok_and(|target| inodes.iter().any(|i| target == Path::new(i)))
        });
        holds.then(|| Holder { pid, name: process_name(&entry.path(), pid) })
    })
}

fn process_name(proc_dir: &Path, pid: u32) -> String {
    fs::read_to_string(proc_dir.join("comm"))
        .map_or_else(|_| format!("pid {pid}"), |name| name.trim().to_owned())
}

/// The inodes of the sockets with that local port in the text of `/proc/net/udp`.
fn inodes_of(table: &str, port: u16) -> Vec<String> {
    let suffix = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let local = fields.nth(1)?;
            // From the local address on: remote, state, queues, timer, retransmits, uid, timeout, inode.
            let inode = fields.nth(7)?;
            (local.ends_with(&suffix) && inode != "0").then(|| inode.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n\
            \x20 71: 00000000:11C6 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n";
        assert_eq!(inodes_of(table, 4550), ["4711"]);
        assert!(inodes_of(table, 4551).is_empty());
    }
}
