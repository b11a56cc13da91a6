//! The output of commands: tables for people, JSON for programs.
//!
//! Invariants: results go to stdout, everything else to stderr. If the reader closes the pipe, the command ends without a
//! failure. Text from images and registries cannot control the terminal.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::io::Interest;

use super::failure::ClosedPipe;
use crate::async_fd::register;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people; it may change with any version.
    #[default]
    Table,
    /// For programs: one document, which only ever gains fields.
    Json,
}

#[derive(Debug, Args)]
pub(super) struct OutputFlags {
    /// Format of the result: `table` for people, `json` for programs.
    #[arg(
        id = "output",
        long = "output",
        short = 'o',
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        hide_possible_values = true
    )]
    pub(super) format: Format,
}

pub(super) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    write_to(&mut out, text.as_bytes())
}

/// Prints a document and a newline.
pub(super) fn print_json<T: Serialize>(document: &T) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(document)?;
    text.push('\n');
    print(&text)
}

/// Prints a document as YAML.
pub(super) fn print_yaml<T: Serialize>(document: &T) -> anyhow::Result<()> {
    // Through JSON, so that the two have the same form.
    let document = serde_json::to_value(document)?;
    print(&serde_saphyr::to_string(&document)?)
}

/// Writes and flushes; a closed pipe becomes [`ClosedPipe`].
pub(super) fn write_to(out: &mut impl io::Write, bytes: &[u8]) -> anyhow::Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(ClosedPipe.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write the output")),
        Ok(()) => Ok(()),
    }
}

/// Waits until the reader of stdout has closed the pipe, for ever where it is no pipe: a command that seldom prints would not
/// notice it by printing.
pub(super) async fn closed() -> ClosedPipe {
    // Files cannot be registered: they have no reader.
    let stdout = io::stdout().as_fd().try_clone_to_owned().and_then(register);
    match stdout {
        Ok(stdout) if stdout.ready(Interest::ERROR).await.is_ok() => ClosedPipe,
        _ => std::future::pending().await,
    }
}

/// Prints a line to stderr. If that fails, nothing can report it.
pub(super) fn print_stderr(text: &str) {
    drop(writeln!(io::stderr(), "{text}"));
}

/// Between two columns of a table.
const GAP: &str = "   ";

/// Rows below a heading. Each column is as wide as its widest cell.
#[derive(Debug)]
pub(super) struct Table<const N: usize> {
    heading: [&'static str; N],
    rows: Vec<[String; N]>,
    hidden: [bool; N],
}

impl<const N: usize> Table<N> {
    /// A column whose heading ends in `>` is aligned to the right.
    pub(super) fn new(heading: [&'static str; N]) -> Self {
        Self {
            heading,
            rows: Vec::new(),
            hidden: [false; N],
        }
    }

    pub(super) fn row(&mut self, cells: [String; N]) {
        self.rows.push(cells.map(|cell| escape(&cell)));
    }

    /// Leaves out the columns that have `nothing` in every row.
    pub(super) fn hide_columns_of(&mut self, nothing: &str) {
        for (at, hidden) in self.hidden.iter_mut().enumerate() {
            *hidden |= self.rows.iter().all(|row| row[at] == nothing);
        }
    }

    /// Leaves out these columns.
    pub(super) fn hide(&mut self, names: &[&'static str]) {
        for (heading, hidden) in self.heading.iter().zip(&mut self.hidden) {
            *hidden |= names.contains(heading);
        }
    }

    /// Leaves out columns until the others fit into a width, as far as that is possible without those that are not named here:
    /// the first one named goes first.
    pub(super) fn fit(&mut self, width: usize, expendable: &[&'static str]) {
        let widths = self.widths();
        for name in expendable {
            let shown = widths.iter().zip(self.hidden).filter(|(_, hidden)| !hidden);
            let sum: usize = shown.map(|(width, _)| width + GAP.len()).sum();
            if sum.saturating_sub(GAP.len()) <= width {
                return;
            }
            if let Some(at) = self.heading.iter().position(|heading| heading == name) {
                self.hidden[at] = true;
            }
        }
    }

    fn widths(&self) -> [usize; N] {
        std::array::from_fn(|at| {
            let cells = self.rows.iter().map(|row| row[at].chars().count());
            let heading = self.heading[at].trim_end_matches('>').chars().count();
            cells.max().unwrap_or(0).max(heading)
        })
    }

    pub(super) fn render(&self) -> String {
        let heading = self.heading.map(|name| name.trim_end_matches('>').to_owned());
        let right = self.heading.map(|name| name.ends_with('>'));
        let widths = self.widths();
        let mut text = String::new();
        for cells in std::iter::once(&heading).chain(&self.rows) {
            let mut line = String::new();
            let mut gap = "";
            for (at, cell) in cells.iter().enumerate().filter(|(at, _)| !self.hidden[*at]) {
                let width = widths[at];
                // Writing to a String cannot fail.
                _ = if right[at] {
                    write!(line, "{gap}{cell:>width$}")
                } else {
                    write!(line, "{gap}{cell:<width$}")
                };
                gap = GAP;
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Lines of a key and its values. Empty values are left out.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) text: String,
    /// Of the keys, with the gap.
    width: usize,
}

impl Page {
    pub(super) fn new(width: usize) -> Self {
        let text = String::new();
        Self { text, width }
    }

    pub(super) fn line(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            let width = self.width;
            // Writing to a String cannot fail.
            _ = writeln!(self.text, "{key:<width$}{}", escape(value));
        }
    }

    pub(super) fn lines(&mut self, key: &str, values: &[String]) {
        for (at, value) in values.iter().enumerate() {
            self.line(if at == 0 { key } else { "" }, value);
        }
    }
}

/// Escapes control characters as in Rust's string literals, so that the text cannot control the terminal.
pub(super) fn escape(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            clean.extend(c.escape_default());
        } else {
            clean.push(c);
        }
    }
    clean
}

#[cfg(test)]
mod tests;
