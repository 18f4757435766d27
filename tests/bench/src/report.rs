//! A run's figures as JSON for programs and as Markdown for readers.

use std::fmt::Write;

use crate::figure::{Figure, Goal};
use crate::machine::Machine;

/// A finished run.
#[derive(Clone, Debug)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// How it was run: rounds, sizes, build.
    pub method: String,
    /// What it is about, as a title.
    pub title: String,
    /// Versions of the peers; empty where there are none.
    pub peers: String,
    /// Everything measured.
    pub figures: Vec<Figure>,
    /// Measures that were left out, with the reason.
    pub left_out: Vec<(String, String)>,
}

/// Four significant digits, without an exponent.
fn number(value: f64) -> String {
    let digits = match value.abs() {
        value if value == value.trunc() && value < 1e9 => 0,
        value if value >= 1000.0 => 0,
        value if value >= 100.0 => 1,
        value if value >= 10.0 => 2,
        value if value >= 0.1 => 3,
        _ => 5,
    };
    format!("{value:.digits$}")
}

impl Report {
    /// Whether every figure that has a goal reaches it.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.figures.iter().all(|figure| figure.is_met() != Some(false))
    }

    /// The values by key at the top, and everything else about them under `details`.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let mut object: serde_json::Map<_, _> =
            self.figures.iter().map(|figure| (figure.key.clone(), figure.summary.median.into())).collect();
        let details: serde_json::Map<_, _> = self
            .figures
            .iter()
            .map(|figure| {
                let mut detail = serde_json::json!({
                    "median": figure.summary.median,
                    "minimum": figure.summary.minimum,
                    "maximum": figure.summary.maximum,
                    "samples": figure.summary.samples,
                    "goal": figure.goal.to_string(),
                    "meaning": figure.meaning,
                });
                if let Some(met) = figure.is_met() {
                    detail["met"] = met.into();
                }
                if let Some(reason) = shortfall(figure) {
                    detail["short_because"] = reason.into();
                }
                (figure.key.clone(), detail)
            })
            .collect();
        object.insert("ok".to_owned(), self.is_met().into());
        object.insert("details".to_owned(), details.into());
        object.insert("machine".to_owned(), serde_json::json!(self.machine));
        object.insert("method".to_owned(), self.method.clone().into());
        object.insert("peers".to_owned(), self.peers.clone().into());
        let left_out: serde_json::Map<_, _> =
            self.left_out.iter().map(|(what, why)| (what.clone(), why.clone().into())).collect();
        object.insert("left_out".to_owned(), left_out.into());
        object.into()
    }

    /// The committed report.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let machine = &self.machine;
        let mut text = format!("# {}\n\nWritten by `hack/bench`; do not edit by hand.\n\n", self.title);
        let _ = writeln!(
            text,
            "- Machine: {} × {}, {} MiB, Linux {}; load average {} at the start, {} at the end.",
            machine.processors, machine.processor, machine.memory_mib, machine.kernel, machine.load[0], machine.load[1]
        );
        let _ = writeln!(text, "- Method: {}", self.method);
        if !self.peers.is_empty() {
            let _ = writeln!(text, "- Peers: {}", self.peers);
        }
        text.push_str(
            "\n## Goals\n\n| key | goal | value | spread | samples | met |\n| --- | --- | --- | --- | --- | --- |\n",
        );
        let (records, goals): (Vec<&Figure>, Vec<&Figure>) =
            self.figures.iter().partition(|figure| figure.goal == Goal::Record);
        for figure in &goals {
            let met = if figure.is_met() == Some(true) { "yes" } else { "**no**" };
            let _ = writeln!(text, "{} {met} |", row(figure, Some(figure.goal)));
        }
        let short: Vec<_> = goals.iter().filter_map(|figure| Some((&figure.key, shortfall(figure)?))).collect();
        if !short.is_empty() {
            text.push_str("\n## What is short, and why\n\n");
            for (key, reason) in short {
                let _ = writeln!(text, "- `{key}`: {reason}.");
            }
        }
        text.push_str("\n## For the record\n\n| key | value | spread | samples |\n| --- | --- | --- | --- |\n");
        for figure in &records {
            let _ = writeln!(text, "{}", row(figure, None));
        }
        if !self.left_out.is_empty() {
            text.push_str("\n## Left out of this run\n\n");
            for (what, why) in &self.left_out {
                let _ = writeln!(text, "- {what}: {why}");
            }
        }
        text.push_str("\n## What was measured\n\n");
        for figure in goals.into_iter().chain(records) {
            let _ = writeln!(text, "- `{}`: {}.", figure.key, figure.meaning);
        }
        text
    }
}

/// Why a figure is short of its goal, if it is.
fn shortfall(figure: &Figure) -> Option<&str> {
    figure.short_because.as_deref().filter(|_| figure.is_met() == Some(false))
}

fn row(figure: &Figure, goal: Option<Goal>) -> String {
    let summary = figure.summary;
    let goal = goal.map(|goal| format!(" {goal} |")).unwrap_or_default();
    let spread = match summary.samples {
        1 => String::new(),
        _ => format!("{} – {}", number(summary.minimum), number(summary.maximum)),
    };
    format!("| `{}` |{goal} {} | {spread} | {} |", figure.key, number(summary.median), summary.samples)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::Summary;

    fn report() -> Report {
        let summary = Summary { median: 2.5, minimum: 2.25, maximum: 3.0, samples: 5 };
        Report {
            machine: Machine {
                processor: "P".to_owned(),
                processors: 2,
                memory_mib: 100,
                kernel: "6".to_owned(),
                load: ["0.1".to_owned(), "0.2".to_owned()],
            },
            method: "five rounds".to_owned(),
            title: "Report".to_owned(),
            peers: String::new(),
            figures: vec![
                Figure::new("missed", Goal::AtMost(2.0), summary, "a miss").short_because("the cache is cold"),
                Figure::new("reached", Goal::Exactly(1.0), Summary::exact(1.0), "a hit").short_because("not told"),
                Figure::new("noted", Goal::Record, summary, "a note"),
            ],
            left_out: vec![("real Envoy".to_owned(), "no binary".to_owned())],
        }
    }

    #[test]
    fn the_json_has_the_values_at_the_top() {
        let json = report().to_json();
        assert_eq!(json["missed"], 2.5);
        assert_eq!(json["details"]["missed"]["met"], false);
        assert_eq!(json["details"]["reached"]["met"], true);
        assert_eq!(json["details"]["noted"].get("met"), None);
        assert_eq!(json["details"]["missed"]["short_because"], "the cache is cold");
        assert_eq!(json["details"]["reached"].get("short_because"), None);
        assert_eq!(json["left_out"]["real Envoy"], "no binary");
        assert_eq!(json["ok"], false);
    }

    #[test]
    fn the_markdown_says_what_was_missed() {
        let text = report().to_markdown();
        assert!(text.contains("| `missed` | ≤ 2 | 2.500 | 2.250 – 3 | 5 | **no** |"), "{text}");
        assert!(text.contains("| `reached` | = 1 | 1 |  | 1 | yes |"), "{text}");
        assert!(text.contains("| `noted` | 2.500 | 2.250 – 3 | 5 |"), "{text}");
        assert!(text.contains("- `missed`: the cache is cold.") && !text.contains("not told"), "{text}");
        assert!(text.contains("- real Envoy: no binary"), "{text}");
        assert!(text.starts_with("# Report\n") && !text.contains("Peers"), "{text}");
    }

    #[test]
    fn numbers_keep_what_matters() {
        assert_eq!(number(0.000_731), "0.00073");
        assert_eq!(number(0.1234), "0.123");
        assert_eq!(number(12.345), "12.35");
        assert_eq!(number(1.0), "1");
        assert_eq!(number(12345.6), "12346");
    }
}
