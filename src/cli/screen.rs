//! Prints lines, once or again and again at the same place of a terminal.
//!
//! A frame overwrites the one before, line by line and in one write, so that nothing flickers. It leaves the terminal as it
//! was: whoever interrupts or suspends the program has nothing to restore.
//!
//! Must never: be given text that controls the terminal; see [`escape`](super::output::escape).

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::num::NonZeroU32;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{Format, print};

/// A line, and how a terminal shows it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) text: String,
    /// The parameters of the escape sequence (SGR, ECMA-48 8.3.117); empty for none.
    pub(super) style: &'static str,
}

impl Line {
    pub(super) fn plain(text: String) -> Self {
        Self { text, style: "" }
    }

    /// The lines of a table: the heading, then one for each style.
    pub(super) fn of_table(table: &str, styles: impl IntoIterator<Item = &'static str>) -> Vec<Self> {
        let styles = std::iter::once("").chain(styles);
        let lines = table.lines().zip(styles);
        lines
            .map(|(text, style)| Self {
                text: text.to_owned(),
                style,
            })
            .collect()
    }
}

/// What can be done with stdout.
#[derive(Debug)]
pub(super) struct Output {
    /// Whether it is a terminal that understands escape sequences.
    is_terminal: bool,
    pub(super) coloured: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        let is = |name, value: &str| std::env::var_os(name).is_some_and(|set| set == value);
        let is_terminal = io::stdout().is_terminal() && !is("TERM", "dumb");
        // https://no-color.org: unless it is set, and not empty.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty());
        Self {
            is_terminal,
            coloured: is_terminal && !refused,
        }
    }
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Size {
    /// Of the terminal on stdout; none if it does not say.
    pub(super) fn of_stdout() -> Option<Self> {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
        let known = size.ws_row > 0 && size.ws_col > 0;
        known.then(|| Self {
            rows: size.ws_row.into(),
            columns: size.ws_col.into(),
        })
    }
}

/// Prints documents until interrupted: on a terminal at the same place, elsewhere one below the other, as JSON one a line.
/// `lines` may make use of a terminal's columns.
pub(super) async fn watch<D: Serialize>(
    format: Format,
    mut next: impl AsyncFnMut() -> anyhow::Result<D>,
    lines: impl Fn(&D, Option<Size>) -> Vec<Line>,
) -> anyhow::Result<()> {
    let output = Output::new();
    let in_place = format == Format::Table && output.is_terminal;
    if in_place {
        // What is on the screen scrolls up, and is not lost.
        let rows = Size::of_stdout().map_or(0, |size| size.rows);
        print(&"\n".repeat(rows))?;
    }
    let prints = async {
        loop {
            let document = next().await?;
            print(&match format {
                Format::Json => serde_json::to_string(&document)? + "\n",
                Format::Table if in_place => {
                    let size = Size::of_stdout();
                    frame(&lines(&document, size), size, output.coloured)
                }
                Format::Table => text(&lines(&document, None), output.coloured) + "\n",
            })?;
        }
    };
    let ended = tokio::select! {
        ended = prints => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.map_err(Into::into),
    };
    if in_place {
        // Out of the last line of the frame.
        print("\n")?;
    }
    ended
}

/// As [`watch`], with a document at once and then one every `interval` seconds.
pub(super) async fn watch_every<D: Serialize>(
    interval: NonZeroU32,
    format: Format,
    ask: impl AsyncFn() -> anyhow::Result<D>,
    lines: impl Fn(&D, Option<Size>) -> Vec<Line>,
) -> anyhow::Result<()> {
    let mut pause = Duration::ZERO;
    let next = async || {
        tokio::time::sleep(pause).await;
        pause = Duration::from_secs(interval.get().into());
        ask().await
    };
    watch(format, next, lines).await
}

/// Prints a text, through a pager where it is longer than the terminal.
///
/// The pager is `$PAUSA_PAGER`, else `$PAGER`, a command of the shell; else less(1). None if it is empty or cannot be run.
pub(super) async fn page(text: &str) -> anyhow::Result<()> {
    let rows = Size::of_stdout().map_or(usize::MAX, |size| size.rows);
    if !io::stdout().is_terminal() || text.lines().count() < rows {
        return print(text);
    }
    let given = ["PAUSA_PAGER", "PAGER"].into_iter().find_map(std::env::var_os);
    let pager = given.unwrap_or_else(|| "less".into());
    // From here on an interrupt is for the pager, which restores the terminal.
    let _interrupts = signal(SignalKind::interrupt())?;
    let mut command = tokio::process::Command::new("/bin/sh");
    command.arg("-c").arg(&pager).stdin(Stdio::piped());
    if std::env::var_os("LESS").is_none() {
        // Ends at once if all fits, shows colours, leaves the text on the screen.
        command.env("LESS", "FRX");
    }
    let spawned = (!pager.is_empty()).then(|| command.spawn());
    let Some(Ok(mut child)) = spawned else {
        return print(text);
    };
    if let Some(mut stdin) = child.stdin.take() {
        // Fails when the reader has seen enough.
        drop(stdin.write_all(text.as_bytes()).await);
    }
    let status = child.wait().await?;
    // Those of the shell: it cannot be run, or found.
    if matches!(status.code(), Some(126 | 127)) {
        return print(text);
    }
    Ok(())
}

/// The lines as text.
pub(super) fn text(lines: &[Line], coloured: bool) -> String {
    let lines = lines.iter().map(|line| shown(&line.text, line, coloured) + "\n");
    lines.collect()
}

/// The lines as a frame that fits into the terminal. Without a newline at the end, which would scroll a full one.
fn frame(lines: &[Line], size: Option<Size>, coloured: bool) -> String {
    const HOME: &str = "\x1b[H";
    const ERASE_LINE: &str = "\x1b[K";
    const ERASE_BELOW: &str = "\x1b[J";
    let rows = size.map_or(usize::MAX, |size| size.rows);
    let columns = size.map_or(usize::MAX, |size| size.columns);
    let (visible, hidden) = match lines.split_at_checked(rows) {
        Some((_, [_, ..])) => lines.split_at(rows - 1),
        _ => (lines, [].as_slice()),
    };
    let mut text = HOME.to_owned();
    let mut newline = "";
    for line in visible {
        let cut = cut(&line.text, columns);
        // Writing to a String cannot fail.
        _ = write!(text, "{newline}{}{ERASE_LINE}", shown(&cut, line, coloured));
        newline = "\n";
    }
    if !hidden.is_empty() {
        let note = format!("… {} more lines", hidden.len());
        _ = write!(text, "{newline}{}{ERASE_LINE}", cut(&note, columns));
    }
    text + ERASE_BELOW
}

pub(super) fn cut(text: &str, columns: usize) -> String {
    match text.chars().count() > columns {
        true => text.chars().take(columns - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn shown(text: &str, line: &Line, coloured: bool) -> String {
    match line.style {
        style if coloured && !style.is_empty() => format!("\x1b[{style}m{text}\x1b[0m"),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
