//! What each interface has carried, from `/proc/net/dev`: one small file for all of them, which needs no right.

use std::collections::BTreeMap;

/// Bytes received and sent by an interface since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Carried {
    pub(super) rx: u64,
    pub(super) tx: u64,
}

/// The counters of all interfaces, by name; empty if they cannot be read.
pub(super) fn read() -> BTreeMap<String, Carried> {
    // The main thread's namespace is the daemon's.
    std::fs::read_to_string("/proc/net/dev").map(|text| parse(&text)).unwrap_or_default()
}

fn parse(text: &str) -> BTreeMap<String, Carried> {
    text.lines().filter_map(line).collect()
}

/// `wan0: BYTES packets errs drop fifo frame compressed multicast BYTES …`
fn line(line: &str) -> Option<(String, Carried)> {
    // Names of aliases hold colons; figures do not.
    let (name, rest) = line.rsplit_once(':')?;
    let mut figures = rest.split_whitespace().map(|word| word.parse::<u64>().ok());
    let rx = figures.next()??;
    let tx = figures.nth(7)??;
    Some((name.trim().to_owned(), Carried { rx, tx }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let text = "\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  wan0:123456789    99    0    0    0     0          0         0  987654       5    0    0    0     0       0          0
bad: 1 2
";
        let counters = parse(text);
        assert_eq!(counters.len(), 2);
        assert_eq!(counters["wan0"], Carried { rx: 123_456_789, tx: 987_654 });
        assert!(read().contains_key("lo"), "every machine has one");
    }
}
