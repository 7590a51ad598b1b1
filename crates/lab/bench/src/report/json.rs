use serde_json::{Value, json};

use super::{Line, Report, Summary};

impl Report {
    /// The report as one JSON object. An infinite value is the text `infinite`, one that could not be had is null.
    pub fn json(&self) -> Value {
        json!({
            "machine": self.machine,
            "runs": self.runs,
            "seconds": self.seconds,
            "congestion": self.congestion,
            "notes": self.notes,
            "rows": self.summaries().iter().map(row).collect::<Vec<_>>(),
        })
    }
}

fn row(summary: &Summary<'_>) -> Value {
    json!({
        "profile": summary.profile,
        "direction": summary.direction,
        "row": summary.row,
        "conditions": summary.conditions,
        "overloaded": summary.conditions.is_overloaded(),
        "failures": summary.failures,
        "figures": summary.lines.iter().map(figure).collect::<Vec<_>>(),
    })
}

fn figure(line: &Line<'_>) -> Value {
    let range = line.range();
    json!({
        "name": line.name,
        "unit": line.unit,
        "median": number(line.median()),
        "min": number(range.map(|(least, _)| least)),
        "max": number(range.map(|(_, most)| most)),
        "values": line.values.iter().map(|value| number(Some(*value))).collect::<Vec<_>>(),
        "target": line.target,
        "met": line.is_met(),
    })
}

fn number(value: Option<f64>) -> Value {
    match value {
        Some(value) if value.is_infinite() => json!("infinite"),
        value => json!(value),
    }
}
