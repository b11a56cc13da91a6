//! Samples by row and runtime. Printed as Markdown with medians and their ratios to the first column.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    samples: Vec<(String, f64)>,
}

impl Table {
    pub(crate) fn new(columns: impl Iterator<Item = String>) -> Self {
        Self {
            columns: columns.collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a sample of `what` from one runtime.
    pub(crate) fn add(&mut self, what: &str, unit: &'static str, runtime: &str, value: f64) {
        let row = match self.rows.iter().position(|row| row.what == what) {
            Some(found) => &mut self.rows[found],
            None => {
                self.rows.push(Row {
                    what: what.to_owned(),
                    unit,
                    samples: Vec::new(),
                });
                self.rows.last_mut().expect("pushed above")
            }
        };
        row.samples.push((runtime.to_owned(), value));
    }

    /// Adds a sample in milliseconds.
    pub(crate) fn time(&mut self, what: &str, runtime: &str, took: Duration) {
        self.add(what, "ms", runtime, took.as_secs_f64() * 1000.0);
    }
}

impl Row {
    fn median(&self, runtime: &str) -> Option<f64> {
        let mine = self.samples.iter().filter(|(name, _)| name == runtime);
        let mut values: Vec<f64> = mine.map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let upper = *values.get(values.len() / 2)?;
        let lower = values[(values.len() - 1) / 2];
        Some(f64::midpoint(lower, upper))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| median | {} |", self.columns.join(" | "))?;
        writeln!(f, "|---{}|", "|---:".repeat(self.columns.len()))?;
        for row in &self.rows {
            write!(f, "| {}, {}", row.what, row.unit)?;
            let first = self.columns.first().and_then(|name| row.median(name));
            for (i, name) in self.columns.iter().enumerate() {
                match (row.median(name), first) {
                    (None, _) => write!(f, " | –")?,
                    (Some(value), Some(first)) if i > 0 && first > 0.0 => {
                        write!(f, " | {value:.2} (×{:.1})", value / first)?;
                    }
                    (Some(value), _) => write!(f, " | {value:.2}")?,
                }
            }
            writeln!(f, " |")?;
        }
        Ok(())
    }
}
