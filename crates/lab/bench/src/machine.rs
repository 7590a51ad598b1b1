use std::fs;

use bondwire_netns::EmulatorReport;
use serde::Serialize;

/// On what it was measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The kernel's release.
    pub kernel: String,
    /// The processor's name, if the kernel tells.
    pub processor: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// All memory.
    pub memory_mb: u64,
}

/// How the machine did while something was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Conditions {
    /// How late the emulator handed packets on, in microseconds.
    pub late_us_p99: u64,
    /// Packets that this machine lost because it was too slow.
    pub dropped: u64,
    /// The share of the processors' time that nobody used, 0 to 1.
    pub cpu_idle: f64,
    /// Whether the processors were filled on purpose, so that little idle time says nothing.
    pub is_full: bool,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_start_matches([' ', '\t', ':']).trim().to_owned())
        };
        let memory = value(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mb: kib / 1024,
        }
    }
}

impl Conditions {
    /// Whether the machine was too busy for the figures to mean much: the emulator more than a millisecond late, packets
    /// lost, or hardly any time to spare.
    pub fn is_overloaded(&self) -> bool {
        self.late_us_p99 > 1000 || self.dropped > 0 || (self.cpu_idle < 0.05 && !self.is_full)
    }

    /// The worse of two in everything; drops add up.
    #[must_use]
    pub fn worse(self, other: Self) -> Self {
        Self {
            late_us_p99: self.late_us_p99.max(other.late_us_p99),
            dropped: self.dropped + other.dropped,
            cpu_idle: self.cpu_idle.min(other.cpu_idle),
            is_full: self.is_full || other.is_full,
        }
    }
}

/// The processors' time: idle, all. In ticks since the machine started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CpuTime {
    idle: u64,
    all: u64,
}

impl CpuTime {
    /// As it stands now.
    pub(crate) fn now() -> Self {
        Self::parse(&fs::read_to_string("/proc/stat").unwrap_or_default())
    }

    fn parse(stat: &str) -> Self {
        let first = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; guest times are part of user's.
        let ticks: Vec<u64> =
            first.split_ascii_whitespace().skip(1).take(8).filter_map(|word| word.parse().ok()).collect();
        let at = |position: usize| ticks.get(position).copied().unwrap_or(0);
        Self { idle: at(3) + at(4), all: ticks.iter().sum() }
    }

    /// The share of idle time since, 0 to 1.
    pub(crate) fn idle_since(self, earlier: Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        if all == 0 { 1.0 } else { self.idle.saturating_sub(earlier.idle) as f64 / all as f64 }
    }
}

/// Conditions from what the emulator says now, what it had dropped before, and the processors' time before.
pub(crate) fn conditions(report: &EmulatorReport, dropped_before: u64, before: CpuTime) -> Conditions {
    Conditions {
        late_us_p99: report.lateness_us.p99,
        dropped: report.overload_drops().saturating_sub(dropped_before),
        cpu_idle: CpuTime::now().idle_since(before),
        is_full: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_the_share_of_the_time_between() {
        let before = CpuTime::parse("cpu  100 0 100 700 100 0 0 0 5 5\ncpu0 1 2 3\n");
        let after = CpuTime::parse("cpu  150 0 125 715 110 0 0 0 5 5\n");
        assert!((after.idle_since(before) - 0.25).abs() < 1e-9);
        assert_eq!(before.idle_since(before), 1.0);
    }

    #[test]
    fn a_machine_that_is_late_drops_or_has_no_time_is_overloaded() {
        let good = Conditions { late_us_p99: 200, dropped: 0, cpu_idle: 0.4, is_full: false };
        assert!(!good.is_overloaded());
        for bad in [
            Conditions { late_us_p99: 1001, ..good },
            Conditions { dropped: 1, ..good },
            Conditions { cpu_idle: 0.04, ..good },
        ] {
            assert!(bad.is_overloaded() && good.worse(bad).is_overloaded());
        }
    }
}
