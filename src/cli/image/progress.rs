//! How far a pull is, for people: bars on a terminal, a line every few seconds elsewhere.
//!
//! [`Meter`] turns what the daemon tells into numbers (speeds are ours: the daemon tells bytes), `bars` and `lines` turn numbers
//! into text, [`Display`] puts the text on stderr. All but the last are pure and know neither clock nor terminal.
//!
//! Must never: fail. A stderr that is gone ends the showing, not the pull.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::proto::admin::{LayerState, PullProgress, PullStep};

mod bars;
mod lines;
mod meter;

pub(super) use meter::Total;

use meter::Meter;

/// How often a line is written where bars cannot be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Where the terminal does not say how large it is.
const SIZE: (usize, usize) = (80, 24);

/// Shows one pull on stderr.
#[derive(Debug)]
pub(super) struct Display {
    meter: Meter,
    began: Instant,
    terminal: bool,
    /// Lines of bars that stand on the terminal.
    drawn: usize,
    line_at: Option<Instant>,
}

impl Display {
    /// For a pull that begins now.
    pub(super) fn new() -> Self {
        Self {
            meter: Meter::default(),
            began: Instant::now(),
            terminal: std::io::stderr().is_terminal()
                && std::env::var_os("TERM").is_some_and(|term| term != "dumb"),
            drawn: 0,
            line_at: None,
        }
    }

    /// Shows what the daemon has told.
    pub(super) fn show(&mut self, progress: &PullProgress) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.began);
        self.meter.take(progress, elapsed);
        if self.terminal {
            let (columns, rows) = size();
            let frame = bars::frame(progress, &self.meter, elapsed, columns, rows);
            self.draw(&frame);
        } else if self
            .line_at
            .is_none_or(|last| now.duration_since(last) >= LINE_EVERY)
        {
            self.line_at = Some(now);
            let line = lines::line(progress, &self.meter, elapsed);
            drop(writeln!(std::io::stderr(), "{line}"));
        }
    }

    /// Takes the bars off the terminal again: what follows is the result.
    pub(super) fn clear(&mut self) {
        if self.terminal {
            self.draw(&[]);
        }
    }

    /// Puts `frame` in the place of the last one, in one write, so that nothing flickers.
    fn draw(&mut self, frame: &[String]) {
        let text = redraw(self.drawn, frame);
        let mut stderr = std::io::stderr().lock();
        drop(stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush()));
        self.drawn = frame.len();
    }
}

/// The escapes (ECMA-48) that put `frame` over `drawn` lines above the cursor, with the cursor behind it.
fn redraw(drawn: usize, frame: &[String]) -> String {
    let mut text = String::new();
    if drawn > 0 {
        text.push_str(&format!("\x1b[{drawn}A"));
    }
    for line in frame {
        text.extend(["\r\x1b[K", line, "\n"]);
    }
    // Whatever the last frame had below.
    text.push_str("\r\x1b[J");
    text
}

/// Columns and rows of the terminal.
fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => SIZE,
    }
}

/// A step in words.
pub(super) fn step(step: PullStep) -> &'static str {
    match step {
        PullStep::Unspecified => "working",
        PullStep::Resolving => "resolving",
        PullStep::Config => "configuration",
        PullStep::Layers => "layers",
        PullStep::Syncing => "syncing",
        PullStep::Recording => "recording",
    }
}

/// A state in words.
pub(super) fn state(state: LayerState) -> &'static str {
    match state {
        LayerState::Unspecified => "unknown",
        LayerState::Queued => "queued",
        LayerState::Joined => "joined",
        LayerState::Fetching => "fetching",
        LayerState::Done => "done",
        LayerState::Present => "present",
    }
}

#[cfg(test)]
mod tests;
