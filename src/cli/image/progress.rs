//! Shows the progress of a pull on stderr: a bar for each layer on a terminal, otherwise a line every few seconds.
//!
//! indicatif measures speeds (the daemon reports bytes only) and draws the bars. Sizes are in the units of [`units`].
//!
//! Must never: fail. If stderr cannot be written to, the pull continues without progress.

use std::fmt;
use std::io::Write as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressState, ProgressStyle};

use crate::cli::output::escape;
use crate::cli::units;
use crate::proto::admin::{LayerProgress, LayerState, PullProgress, PullStep};

/// Interval of the lines where bars cannot be drawn.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// Rows of a terminal that does not report its size.
const ROWS: usize = 24;
/// Rows of a terminal that layers cannot have: the summary, the count of hidden layers, and the cursor.
const OTHER_ROWS: usize = 3;

/// Shows one pull. The time counts from its creation.
#[derive(Debug)]
pub(super) struct Display {
    screen: MultiProgress,
    summary: ProgressBar,
    /// A bar for each layer of the pull, in its order.
    layers: Vec<ProgressBar>,
    /// The layers whose bars are on the screen, in order.
    shown: Vec<usize>,
    /// How many layers are not on the screen.
    hidden: ProgressBar,
    /// When the last line was written.
    line: Option<Instant>,
}

impl Display {
    pub(super) fn new() -> Self {
        Self::on(MultiProgress::new())
    }

    fn on(screen: MultiProgress) -> Self {
        let line = || ProgressBar::hidden().with_style(style("{wide_msg}"));
        Self {
            summary: screen.add(line()),
            layers: Vec::new(),
            shown: Vec::new(),
            hidden: line(),
            line: None,
            screen,
        }
    }

    /// Shows what the daemon reports.
    pub(super) fn show(&mut self, progress: &PullProgress) {
        let text = self.update(progress, rows());
        // Hidden means that stderr is not a terminal, or one without cursor movement.
        if self.screen.is_hidden() && self.line.is_none_or(|last| last.elapsed() >= LINE_INTERVAL) {
            self.line = Some(Instant::now());
            drop(writeln!(std::io::stderr(), "{text}"));
        }
    }

    /// Removes the bars from the terminal: the result follows.
    pub(super) fn clear(&self) {
        drop(self.screen.clear());
        // Bars draw once more when they are dropped.
        self.screen
            .set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }

    /// Draws the bars on a terminal with `rows` rows and returns the summary.
    fn update(&mut self, progress: &PullProgress, rows: usize) -> String {
        for layer in progress.layers.iter().skip(self.layers.len()) {
            let bar = ProgressBar::hidden().with_position(layer.bytes_done);
            // Bytes that were there before have no part in the speed.
            bar.tick();
            bar.reset_eta();
            self.layers.push(bar);
        }
        let shown = chosen(&progress.layers, rows.saturating_sub(OTHER_ROWS));
        let hidden = progress.layers.len() - shown.len();
        if shown != self.shown {
            for at in self.shown.drain(..) {
                self.screen.remove(&self.layers[at]);
            }
            self.screen.remove(&self.hidden);
            for at in &shown {
                self.screen.add(self.layers[*at].clone());
            }
            if hidden > 0 {
                self.screen.add(self.hidden.clone());
            }
            self.shown = shown;
        }
        self.hidden.set_message(format!("  … and {hidden} more"));
        let mut speed: u64 = 0;
        for (bar, layer) in self.layers.iter().zip(&progress.layers) {
            bar.set_style(style(template(layer.state())));
            bar.set_prefix(escape(&units::id(&layer.digest, false)));
            bar.set_message(layer.state().word());
            bar.set_length(layer.bytes_total);
            bar.set_position(layer.bytes_done);
            speed = speed.saturating_add(bytes_per_second(bar.per_sec()));
        }
        let text = summary(progress, speed, self.summary.elapsed());
        self.summary.set_message(text.clone());
        // Updates are drawn at a limited rate; the last one must not wait for the next.
        self.summary.force_draw();
        text
    }
}

/// At most `room` layers in their order. If there are more, those in transfer come first.
fn chosen(layers: &[LayerProgress], room: usize) -> Vec<usize> {
    let rank = |at: &usize| match layers[*at].state() {
        LayerState::Fetching | LayerState::Joined => 0,
        LayerState::Queued | LayerState::Unspecified => 1,
        LayerState::Done | LayerState::Present => 2,
    };
    let mut order: Vec<usize> = (0..layers.len()).collect();
    // Stable: layers of one rank stay in order.
    order.sort_by_key(rank);
    order.truncate(room);
    order.sort_unstable();
    order
}

fn template(state: LayerState) -> &'static str {
    match state {
        LayerState::Present => "{prefix:13}  {msg:8}  {sizes}",
        LayerState::Fetching => "{prefix:13}  {msg:8}  [{wide_bar}]  {sizes:>19}  {speed:>10}",
        _ => "{prefix:13}  {msg:8}  [{wide_bar}]  {sizes:>19}            ",
    }
}

fn style(template: &str) -> ProgressStyle {
    let style = ProgressStyle::with_template(template).expect("the template is well-formed");
    style
        .progress_chars("=> ")
        .with_key("sizes", |state: &ProgressState, text: &mut dyn fmt::Write| {
            let (done, total) = (state.pos(), state.len().unwrap_or_default());
            // Writing to indicatif's buffer cannot fail.
            _ = match done == total {
                true => text.write_str(&units::size(total)),
                false => write!(text, "{}/{}", units::size(done), units::size(total)),
            };
        })
        .with_key("speed", |state: &ProgressState, text: &mut dyn fmt::Write| {
            _ = write!(text, "{}/s", units::size(bytes_per_second(state.per_sec())));
        })
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "fractions of a byte do not matter, and casts from floats saturate"
)]
fn bytes_per_second(speed: f64) -> u64 {
    speed as u64
}

/// Rows of the terminal.
fn rows() -> usize {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_row > 0 => size.ws_row.into(),
        _ => ROWS,
    }
}

/// `docker.io/library/busybox:latest: 7/10 layers, 14.0 MiB/20.0 MiB (70%), 2.0 MiB/s, 5.0 s`, or the step in place of the
/// numbers while no layers are fetched.
fn summary(progress: &PullProgress, speed: u64, elapsed: Duration) -> String {
    let what = match progress.step() {
        PullStep::Layers => {
            let sums = Total::of(progress);
            let percent = sums.percent();
            let Total {
                ready,
                layers,
                done,
                total,
            } = sums;
            format!(
                "{ready}/{layers} layers, {}/{} ({percent}%), {}/s",
                units::size(done),
                units::size(total),
                units::size(speed)
            )
        }
        step => step.word().to_owned(),
    };
    let name = escape(&progress.reference);
    format!("{name}: {what}, {}", units::duration(elapsed))
}

/// Sums over the layers of a pull.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) struct Total {
    /// Layers in the store.
    pub(in crate::cli) ready: usize,
    pub(in crate::cli) layers: usize,
    /// Bytes fetched of layers that were not in the store before.
    pub(in crate::cli) done: u64,
    /// Bytes to fetch.
    pub(in crate::cli) total: u64,
}

impl Total {
    pub(in crate::cli) fn of(progress: &PullProgress) -> Self {
        let mut sum = Self {
            ready: 0,
            layers: progress.layers.len(),
            done: 0,
            total: 0,
        };
        for layer in &progress.layers {
            if matches!(layer.state(), LayerState::Done | LayerState::Present) {
                sum.ready += 1;
            }
            if layer.state() != LayerState::Present {
                sum.done = sum.done.saturating_add(layer.bytes_done);
                sum.total = sum.total.saturating_add(layer.bytes_total);
            }
        }
        sum
    }

    /// How much of the bytes is fetched.
    pub(in crate::cli) fn percent(self) -> u128 {
        let fetched = u128::from(self.done.min(self.total)) * 100;
        fetched.checked_div(self.total.into()).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests;
