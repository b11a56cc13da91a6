//! Prints lines again and again at the same place of a terminal.
//!
//! A frame overwrites the one before, line by line and in one write, so that nothing flickers. It leaves the terminal as it
//! was: whoever interrupts or suspends the program has nothing to restore.

use std::fmt::Write as _;
use std::io;

use super::map::Line;

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

/// The lines as text.
pub(super) fn text(lines: &[Line], coloured: bool) -> String {
    let lines = lines.iter().map(|line| shown(&line.text, line, coloured) + "\n");
    lines.collect()
}

/// The lines as a frame that fits into the terminal. Without a newline at the end, which would scroll a full one.
pub(super) fn frame(lines: &[Line], size: Option<Size>, coloured: bool) -> String {
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

fn cut(text: &str, columns: usize) -> String {
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
