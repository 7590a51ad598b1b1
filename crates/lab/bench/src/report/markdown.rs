use std::fmt::{self, Write};

use super::{Line, Report, Summary};
use crate::Target;

/// What stands beside figures from a machine that was too busy.
const FLAG: &str = " ⚠";

impl Report {
    /// The report as Markdown: how it was measured, all figures, and how the machine did.
    pub fn markdown(&self) -> String {
        let mut text = String::new();
        // A string takes whatever is written to it.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> fmt::Result {
        let machine = &self.machine;
        writeln!(
            text,
            "{} runs; transfers of {} s, TCP {}. Linux {}, {} × {}, {} MB of memory.",
            self.runs,
            self.seconds,
            self.congestion,
            machine.kernel,
            machine.cores,
            machine.processor,
            machine.memory_mb
        )?;
        for note in &self.notes {
            writeln!(text, "\nNote: {note}.")?;
        }
        let summaries = self.summaries();
        writeln!(text, "\n| profile | | row | figure | median | min – max | target | met |")?;
        writeln!(text, "|---|---|---|---|---|---|---|---|")?;
        for summary in &summaries {
            let flag = if summary.conditions.is_overloaded() { FLAG } else { "" };
            let head = format!("{} | {} | {}{flag}", summary.profile, summary.direction, summary.row);
            for line in &summary.lines {
                writeln!(text, "| {head} | {} | {} |", line.name, cells(line))?;
            }
            for failure in &summary.failures {
                let failure = failure.lines().next().unwrap_or_default().replace('|', "/");
                writeln!(text, "| {head} | failed: {failure} | | | | no |")?;
            }
        }
        write_conditions(text, &summaries)
    }
}

/// Median, range, target, verdict.
fn cells(line: &Line<'_>) -> String {
    let show = |value: f64| line.unit.show(value);
    let middle = line.median().map_or("n/a".to_owned(), show);
    // Of one run there is no range.
    let range = line.range().filter(|_| line.values.len() > 1);
    let range = range.map_or(String::new(), |(least, most)| format!("{} – {}", show(least), show(most)));
    let target = line.target.map_or(String::new(), |target| match target {
        Target::AtLeast(least) => format!("≥ {}", show(least)),
        Target::AtMost(most) => format!("≤ {}", show(most)),
    });
    let met = line.is_met().map_or("", |met| if met { "yes" } else { "no" });
    format!("{middle} | {range} | {target} | {met}")
}

/// The worst of all runs of each row.
fn write_conditions(text: &mut String, summaries: &[Summary<'_>]) -> fmt::Result {
    writeln!(text, "\n| profile | | row | emulator late, p99 | dropped by this machine | CPU idle, least |")?;
    writeln!(text, "|---|---|---|---|---|---|")?;
    for Summary { profile, direction, row, conditions, .. } in summaries {
        let idle = conditions.cpu_idle * 100.0;
        let (late, dropped) = (conditions.late_us_p99, conditions.dropped);
        let flag = if conditions.is_overloaded() { FLAG } else { "" };
        writeln!(text, "| {profile} | {direction} | {row}{flag} | {late} µs | {dropped} | {idle:.0} % |")?;
    }
    if summaries.iter().any(|summary| summary.conditions.is_overloaded()) {
        writeln!(
            text,
            "\n⚠ The machine was too busy in at least one run (the emulator over 1 ms late, packets dropped, or under \
             5 % of the CPU idle): these figures say more about it than about what was measured."
        )?;
    }
    Ok(())
}
