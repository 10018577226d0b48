//! `results.json`: the figures of every evaluated model, and the same as a table for a terminal.

use std::collections::BTreeMap;

use serde::de::{MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use unicode_width::UnicodeWidthStr;

use crate::metrics::name;

/// What a run shows at its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// Every evaluated model, in the order of the table.
    pub models: Models,
    /// The seed of the run.
    pub seed: u64,
    /// Seconds of work, all processes of the run together.
    pub wall_s: f64,
    /// Largest memory of the process.
    pub peak_rss_bytes: u64,
}

/// Figures of models by stage, in the order in which they were added.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Models(pub Vec<(String, ModelResult)>);

/// The figures of one model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ModelResult {
    /// Problems (or files) measured.
    pub n: u64,
    /// Figures by name: `pass@1`, `maj@8`, `truncated` … ([`COLUMNS`] names those that are shown).
    #[serde(flatten)]
    pub figures: BTreeMap<String, f64>,
}

/// How a figure is written for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share of 1, shown in percent.
    Share,
    /// A number with one digit after the point.
    Count,
    /// A number with three digits after the point.
    Fine,
    /// A large count, shown in millions.
    Millions,
}

/// A figure of the table.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Name of the figure, or its start if it ends in `@`.
    pub figure: &'static str,
    /// Heading; the rest of the figure's name follows where `figure` ends in `@`.
    pub title: &'static str,
    /// How values are written.
    pub unit: Unit,
    /// Whether more is better, where that can be said.
    pub higher_is_better: Option<bool>,
}

/// The figures that tables show, in order; a column without any value is left out.
pub const COLUMNS: &[Column] = &[
    Column { figure: "pass@", title: "pass@", unit: Unit::Share, higher_is_better: Some(true) },
    Column { figure: "maj@", title: "maj@", unit: Unit::Share, higher_is_better: Some(true) },
    Column {
        figure: "language_consistency",
        title: "one language",
        unit: Unit::Share,
        higher_is_better: Some(true),
    },
    Column { figure: "format", title: "format", unit: Unit::Share, higher_is_better: Some(true) },
    Column {
        figure: "truncated",
        title: "truncated",
        unit: Unit::Share,
        higher_is_better: Some(false),
    },
    Column {
        figure: "mean_response_tokens",
        title: "tokens",
        unit: Unit::Count,
        higher_is_better: None,
    },
    Column {
        figure: "parameters",
        title: "parameters",
        unit: Unit::Millions,
        higher_is_better: None,
    },
    Column {
        figure: name::BITS_PER_BYTE,
        title: "bits/byte",
        unit: Unit::Fine,
        higher_is_better: Some(false),
    },
    Column { figure: name::LOSS, title: "loss", unit: Unit::Fine, higher_is_better: Some(false) },
    Column {
        figure: name::EXPERT_LOAD,
        title: "busiest expert",
        unit: Unit::Fine,
        higher_is_better: Some(false),
    },
];

impl ModelResult {
    /// Adds a figure; one that is not finite is left out, as JSON cannot hold it.
    pub fn with(mut self, figure: &str, value: f64) -> Self {
        if value.is_finite() {
            self.figures.insert(figure.to_owned(), value);
        }
        self
    }
}

impl Models {
    /// The figures of a stage.
    pub fn get(&self, stage: &str) -> Option<&ModelResult> {
        self.0.iter().find(|(name, _)| name == stage).map(|(_, model)| model)
    }

    /// Every figure that some model has, with its column, in the order of [`COLUMNS`].
    pub fn shown(&self) -> Vec<(String, Column)> {
        let mut shown = Vec::new();
        for column in COLUMNS {
            let mut names: Vec<&String> = self
                .0
                .iter()
                .flat_map(|(_, model)| model.figures.keys())
                .filter(|name| match column.figure.ends_with('@') {
                    true => name.starts_with(column.figure),
                    false => *name == column.figure,
                })
                .collect();
            names.sort_by_key(|name| (name.len(), name.as_str()));
            names.dedup();
            shown.extend(names.into_iter().map(|name| (name.clone(), *column)));
        }
        shown
    }
}

impl Column {
    /// The heading over the values of `figure`.
    pub fn heading(&self, figure: &str) -> String {
        match figure.strip_prefix(self.figure) {
            Some(rest) if self.figure.ends_with('@') => format!("{}{rest}", self.title),
            _ => self.title.to_owned(),
        }
    }

    /// A value as it stands in a table.
    pub fn show(&self, value: f64) -> String {
        match self.unit {
            Unit::Share => format!("{:.1} %", value * 100.0),
            Unit::Count => format!("{value:.1}"),
            Unit::Millions => format!("{:.2} M", value / 1e6),
            Unit::Fine => format!("{value:.3}"),
        }
    }
}

impl Results {
    /// The text of `results.json`.
    pub fn to_json(&self) -> String {
        let mut text =
            serde_json::to_string_pretty(self).expect("numbers and names always fit in JSON");
        text.push('\n');
        text
    }

    /// Reads the text of `results.json`.
    pub fn from_json(text: &str) -> Result<Results, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The table of all models, aligned for a terminal, one line per model and a heading.
    pub fn table(&self) -> String {
        let shown = self.models.shown();
        let mut rows = vec![vec!["model".to_owned()]];
        rows[0].extend(shown.iter().map(|(figure, column)| column.heading(figure)));
        rows[0].push("n".into());
        for (stage, model) in &self.models.0 {
            let mut row = vec![stage.clone()];
            row.extend(shown.iter().map(|(figure, column)| {
                model.figures.get(figure).map_or("–".into(), |value| column.show(*value))
            }));
            row.push(model.n.to_string());
            rows.push(row);
        }
        align(&rows)
    }
}

/// Rows as text with columns of equal width, the first to the left and the others to the right.
/// Width is that of a terminal: a Chinese character takes two places.
pub fn align(rows: &[Vec<String>]) -> String {
    let n_columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width_of = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..n_columns).map(width_of).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = " ".repeat(width - cell.width());
            if column == 0 {
                line.push_str(cell);
                line.push_str(&gap);
            } else {
                line.push_str("  ");
                line.push_str(&gap);
                line.push_str(cell);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

impl Serialize for Models {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (stage, model) in &self.0 {
            map.serialize_entry(stage, model)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Models {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Models;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "figures by stage")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Models, A::Error> {
                let mut models = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    models.push(entry);
                }
                Ok(Models(models))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results() -> Results {
        let base = ModelResult { n: 512, ..Default::default() }
            .with("pass@1", 0.1254)
            .with("maj@8", 0.25)
            .with("truncated", f64::NAN);
        let r1 = ModelResult { n: 512, ..Default::default() }
            .with("pass@1", 0.93)
            .with("pass@8", 1.0)
            .with("mean_response_tokens", 61.3);
        let models = Models(vec![("学生".into(), base), ("r1".into(), r1)]);
        Results { models, seed: 1, wall_s: 12.5, peak_rss_bytes: 1 << 30 }
    }

    #[test]
    fn results_keep_the_order_of_models_through_json() {
        let text = results().to_json();
        assert_eq!(Results::from_json(&text).unwrap(), results());
        assert!(text.find("学生") < text.find("r1"));
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["models"]["r1"]["pass@1"], 0.93);
        assert_eq!(json["models"]["学生"]["n"], 512);
        assert_eq!(json["peak_rss_bytes"], 1 << 30);
    }

    #[test]
    fn table_is_aligned_for_wide_letters_too() {
        let expected = "\
model  pass@1   pass@8   maj@8  tokens    n
学生   12.5 %        –  25.0 %       –  512
r1     93.0 %  100.0 %       –    61.3  512
";
        assert_eq!(results().table(), expected);
    }
}
