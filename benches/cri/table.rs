//! Samples by row and column. Printed as Markdown, with ratios of the columns.

use std::fmt;
use std::time::Duration;

#[derive(Debug, Default)]
pub(crate) struct Table {
    columns: Vec<Column>,
    statistics: &'static [Statistic],
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Column {
    name: String,
    /// The column that it is compared with.
    reference: String,
}

#[derive(Debug)]
struct Row {
    what: String,
    unit: &'static str,
    samples: Vec<(String, f64)>,
}

/// What is said of the samples of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statistic {
    Median,
    /// The 99th percentile, by the nearest rank: of up to 100 samples it is the largest.
    P99,
}

impl fmt::Display for Statistic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Median => "median",
            Self::P99 => "p99",
        })
    }
}

impl Table {
    /// Medians, in columns that are compared with the first of them.
    pub(crate) fn new(columns: impl IntoIterator<Item = String>) -> Self {
        Self::grouped([columns], &[Statistic::Median])
    }

    /// Groups of columns, each compared with the first of its group.
    pub(crate) fn grouped(
        groups: impl IntoIterator<Item = impl IntoIterator<Item = String>>,
        statistics: &'static [Statistic],
    ) -> Self {
        let mut columns: Vec<Column> = Vec::new();
        for group in groups {
            let first = columns.len();
            for name in group {
                let reference = columns.get(first).map_or(&name, |column| &column.name).clone();
                columns.push(Column { name, reference });
            }
        }
        Self {
            columns,
            statistics,
            rows: Vec::new(),
        }
    }

    /// Adds a sample of `what` to a column.
    pub(crate) fn add(&mut self, what: &str, unit: &'static str, column: &str, value: f64) {
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
        row.samples.push((column.to_owned(), value));
    }

    /// Adds a sample in milliseconds.
    pub(crate) fn time(&mut self, what: &str, column: &str, took: Duration) {
        self.add(what, "ms", column, took.as_secs_f64() * 1000.0);
    }

    /// Adds several of them.
    pub(crate) fn times(&mut self, column: &str, times: impl IntoIterator<Item = (&'static str, Duration)>) {
        for (what, took) in times {
            self.time(what, column, took);
        }
    }

    /// A statistic of the samples of `what` in a column.
    pub(crate) fn value(&self, what: &str, column: &str, statistic: Statistic) -> Option<f64> {
        let row = self.rows.iter().find(|row| row.what == what)?;
        row.value(column, statistic)
    }
}

impl Row {
    fn samples(&self, column: &str) -> impl Iterator<Item = f64> {
        let mine = self.samples.iter().filter(move |(name, _)| name == column);
        mine.map(|(_, value)| *value)
    }

    fn value(&self, column: &str, statistic: Statistic) -> Option<f64> {
        let mut values: Vec<f64> = self.samples(column).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        Some(match statistic {
            Statistic::Median => f64::midpoint(values[last / 2], values[values.len() / 2]),
            Statistic::P99 => values[(values.len() * 99).div_ceil(100) - 1],
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name.as_str()).collect();
        let title = match self.statistics {
            [only] => only.to_string(),
            _ => String::new(),
        };
        writeln!(f, "| {title} | {} |", names.join(" | "))?;
        writeln!(f, "|---{}|", "|---:".repeat(self.columns.len()))?;
        for row in &self.rows {
            // One sample is its own median and percentile.
            let single = names.iter().all(|name| row.samples(name).count() <= 1);
            let statistics: &[Statistic] = if single {
                &[Statistic::Median]
            } else {
                self.statistics
            };
            for statistic in statistics {
                write!(f, "| {}", row.what)?;
                if !single && self.statistics.len() > 1 {
                    write!(f, ", {statistic}")?;
                }
                write!(f, ", {}", row.unit)?;
                for Column { name, reference } in &self.columns {
                    match (row.value(name, *statistic), row.value(reference, *statistic)) {
                        (None, _) => write!(f, " | –")?,
                        (Some(value), Some(first)) if name != reference && first > 0.0 => {
                            write!(f, " | {value:.2} (×{:.1})", value / first)?;
                        }
                        (Some(value), _) => write!(f, " | {value:.2}")?,
                    }
                }
                writeln!(f, " |")?;
            }
        }
        Ok(())
    }
}
