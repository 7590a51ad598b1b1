//! What the demo found: one JSON object, or a few lines for a person.

use std::fmt::Write as _;
use std::time::Duration;

use bondwire_api::Fault;
use bondwire_units::Bitrate;
use serde::Serialize;

/// Later than this at the 99th percentile, and the machine was too busy for the figures to mean much.
const TOO_LATE_US: u64 = 1_000;

/// The figures of one run. The names are stable: scripts rely on them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    /// The scenario's name.
    pub profile: String,
    /// The mode at the end.
    pub mode: String,
    /// How long the download ran.
    pub seconds: f64,
    /// The best plain TCP download over one link.
    pub best_single_bps: u64,
    /// The link that it was.
    pub best_single_link: String,
    /// The download over the bond, or all downloads together in mode `balance`: the mean over the seconds with all links up, from the third on.
    pub bonded_bps: Option<u64>,
    /// `bonded_bps` / `best_single_bps`.
    pub ratio: Option<f64>,
    /// The longest time without a byte in the download, from the third second on.
    pub longest_gap_ms: f64,
    /// The link that was cut first, and the longest gap in the two seconds from then on.
    pub cut: Option<Cut>,
    /// In mode `balance`: how often a download connected again, because its link had died.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reconnects: Option<u32>,
    /// Each link, in the scenario's order.
    pub links: Vec<LinkFigures>,
    /// How late the emulator handed packets on, 99th percentile; above about 1,000 the machine was too busy.
    pub emulator_late_us_p99: u64,
    /// Packets that the emulator lost because the machine was too busy.
    pub emulator_dropped: u64,
}

/// A cut of the demo's script.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Cut {
    /// The link.
    pub link: String,
    /// When, from the start of the download.
    pub at_ms: f64,
    /// The longest gap that began or lasted in the two seconds after it.
    pub gap_ms: f64,
}

/// One link's part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct LinkFigures {
    /// Its name.
    pub name: String,
    /// A plain TCP download over this link alone.
    pub single_bps: u64,
    /// What it carried during the download, received by the client.
    pub bytes_rx: u64,
    /// What it carried during the download, sent by the client.
    pub bytes_tx: u64,
    /// In mode `balance`: its part of all that was received, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
}

impl Report {
    /// Sets the bonded rate and what follows from it.
    pub(super) fn set_bonded(&mut self, bonded: Option<Bitrate>) {
        self.bonded_bps = bonded.map(Bitrate::as_bps);
        self.ratio = bonded
            .filter(|_| self.best_single_bps > 0)
            .map(|bonded| round(bonded.as_bps() as f64 / self.best_single_bps as f64));
    }

    /// The one JSON object, with a line's end.
    ///
    /// # Errors
    /// A figure that JSON cannot hold, which no measurement gives.
    pub(super) fn to_json(&self) -> Result<String, Fault> {
        let text = serde_json::to_string_pretty(self);
        let fault = |error: serde_json::Error| {
            Fault::failed("cannot write the figures", error.to_string(), "run it again")
        };
        text.map(|text| text + "\n").map_err(fault)
    }

    /// What there is to say about the run's worth, if anything.
    pub(super) fn warning(&self) -> Option<String> {
        (self.emulator_late_us_p99 > TOO_LATE_US || self.emulator_dropped > 0).then(|| {
            format!(
                "the link emulator was late ({} µs at p99, {} packets dropped): this machine was too busy for these figures",
                self.emulator_late_us_p99, self.emulator_dropped
            )
        })
    }

    /// A few lines for a person.
    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        let mbps = |bps: u64| Bitrate::from_bps(bps).as_mbps();
        let best = mbps(self.best_single_bps);
        let _ = writeln!(text, "best single link:   {best:.1} Mbit/s ({})", self.best_single_link);
        if let (Some(bonded), Some(ratio)) = (self.bonded_bps, self.ratio) {
            let _ =
                writeln!(text, "all links together: {:.1} Mbit/s, {ratio:.2} times as fast", mbps(bonded));
        }
        let _ = writeln!(text, "longest gap:        {:.0} ms", self.longest_gap_ms);
        for link in &self.links {
            let megabytes = link.bytes_rx as f64 / 1e6;
            let share = link.share.map_or_else(String::new, |share| format!("  {:>4.0} %", share * 100.0));
            let _ = writeln!(text, "  {:<12} {megabytes:>8.1} MB received{share}", link.name);
        }
        text
    }
}

/// A part of a sum, 0 to 1, with three places.
pub(super) fn share(part: u64, sum: u64) -> f64 {
    if sum == 0 { 0.0 } else { round(part as f64 / sum as f64) }
}

/// A ratio with three places.
fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

/// Milliseconds with one place.
pub(super) fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let link = LinkFigures {
            name: "line".into(),
            single_bps: 38_000_000,
            bytes_rx: 5,
            bytes_tx: 1,
            share: None,
        };
        Report {
            profile: "demo".into(),
            mode: "speed".into(),
            seconds: 20.0,
            best_single_bps: 38_000_000,
            best_single_link: "line".into(),
            bonded_bps: None,
            ratio: None,
            longest_gap_ms: milliseconds(Duration::from_micros(130_260)),
            cut: None,
            reconnects: None,
            links: vec![link],
            emulator_late_us_p99: 120,
            emulator_dropped: 0,
        }
    }

    #[test]
    fn the_ratio_follows_from_the_rates() {
        let mut report = report();
        report.set_bonded(Some(Bitrate::from_bps(76_000_000)));
        let json: serde_json::Value = serde_json::from_str(&report.to_json().expect("JSON")).expect("JSON");
        assert_eq!(json["ratio"], 2.0);
        assert_eq!(json["bonded_bps"], 76_000_000);
        assert_eq!(json["longest_gap_ms"], 130.3);
        assert_eq!(json["links"][0]["bytes_rx"], 5);
        assert!(report.to_text().contains("2.00 times"));
    }

    #[test]
    fn a_run_without_a_whole_second_has_no_ratio() {
        let mut report = report();
        report.set_bonded(None);
        assert_eq!(report.ratio, None);
        report.best_single_bps = 0;
        report.set_bonded(Some(Bitrate::from_bps(1)));
        assert_eq!(report.ratio, None);
    }

    #[test]
    fn a_late_emulator_is_named() {
        let mut report = report();
        assert_eq!(report.warning(), None);
        report.emulator_late_us_p99 = 20_000;
        assert!(report.warning().expect("a warning").contains("too busy"));
    }
}
