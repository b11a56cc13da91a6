//! A frame of bars: one line a layer, and one for all.

use std::time::Duration;

use super::meter::{Meter, Total};
use super::{lines, state};
use crate::cli::output::harmless;
use crate::cli::units;
use crate::proto::admin::{LayerProgress, LayerState, PullProgress};

/// What stands beside a bar: id, state, sizes, speed, and the gaps.
const BESIDE: usize = 13 + 2 + 8 + 2 + 2 + 2 + 19 + 2 + 10;
/// A bar is not drawn shorter, nor longer.
const BAR: std::ops::RangeInclusive<usize> = 8..=40;

/// The lines of a frame, none wider than the terminal and not more than it has, less one for the cursor.
pub(super) fn frame(
    progress: &PullProgress,
    meter: &Meter,
    elapsed: Duration,
    columns: usize,
    rows: usize,
) -> Vec<String> {
    let mut frame = vec![lines::line(progress, meter, elapsed)];
    let room = rows.saturating_sub(3);
    let (shown, hidden) = chosen(&progress.layers, room);
    frame.extend(shown.into_iter().map(|layer| bar(layer, meter, columns)));
    if hidden > 0 {
        frame.push(format!("  … and {hidden} more"));
    }
    // The last column stays free: some terminals wrap when it is written.
    let width = columns.saturating_sub(1);
    frame.into_iter().map(|line| cut(&line, width)).collect()
}

/// At most `room` layers in their order; where that is too few, those that move come first.
fn chosen(layers: &[LayerProgress], room: usize) -> (Vec<&LayerProgress>, usize) {
    if layers.len() <= room {
        return (layers.iter().collect(), 0);
    }
    let moving = |layer: &LayerProgress| match layer.state() {
        LayerState::Fetching | LayerState::Joined => 0,
        LayerState::Queued | LayerState::Unspecified => 1,
        LayerState::Done | LayerState::Present => 2,
    };
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|at| (moving(&layers[*at]), *at));
    order.truncate(room);
    order.sort_unstable();
    let hidden = layers.len() - order.len();
    (order.into_iter().map(|at| &layers[at]).collect(), hidden)
}

fn bar(layer: &LayerProgress, meter: &Meter, columns: usize) -> String {
    let id = harmless(&units::id(&layer.digest, false));
    let word = state(layer.state());
    let total = units::size(layer.bytes_total);
    if layer.state() == LayerState::Present {
        return format!("{id}  {word:<8}  {total}");
    }
    let wide = columns.saturating_sub(BESIDE + 1).clamp(*BAR.start(), *BAR.end());
    let filled = share(layer.bytes_done, layer.bytes_total, wide);
    let mut drawn = "=".repeat(filled);
    if filled < wide {
        drawn.push('>');
    }
    let sizes = match layer.state() {
        LayerState::Done => total,
        _ => format!("{}/{total}", units::size(layer.bytes_done)),
    };
    let speed = match layer.state() {
        LayerState::Fetching => format!("{}/s", units::size(meter.layer(&layer.digest))),
        _ => String::new(),
    };
    let line = format!("{id}  {word:<8}  [{drawn:<wide$.wide$}]  {sizes:>19}  {speed:>10}");
    line.trim_end().to_owned()
}

/// `done` of `total`, in parts of `wide`. A layer without bytes is all there.
fn share(done: u64, total: u64, wide: usize) -> usize {
    let parts = u128::try_from(wide).unwrap_or(0);
    let done = u128::from(done.min(total));
    let filled = (done * parts).checked_div(u128::from(total)).unwrap_or(parts);
    usize::try_from(filled).unwrap_or(wide)
}

fn cut(line: &str, width: usize) -> String {
    line.chars().take(width).collect()
}

/// What a pull is doing, as far as bytes can tell.
pub(super) fn percent(total: Total) -> u64 {
    u64::try_from(share(total.done, total.total, 100)).unwrap_or(100)
}
