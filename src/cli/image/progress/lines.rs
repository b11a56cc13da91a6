//! One line that says all.

use std::time::Duration;

use super::meter::{Meter, Total};
use super::{bars, step};
use crate::cli::output::harmless;
use crate::cli::units;
use crate::proto::admin::{PullProgress, PullStep};

/// A line for a log: reference, step, layers, bytes, speed, time.
pub(super) fn line(progress: &PullProgress, meter: &Meter, elapsed: Duration) -> String {
    let name = harmless(&progress.reference);
    let rest = match progress.step() {
        PullStep::Layers => format!("{}, {}/s", summary(progress), units::size(meter.all())),
        other => step(other).to_owned(),
    };
    format!("{name}: {rest}, {}", units::duration(elapsed))
}

/// `7/10 layers, 14.0 MiB/20.0 MiB (70%)`.
pub(super) fn summary(progress: &PullProgress) -> String {
    let total = Total::of(progress);
    format!(
        "{}/{} layers, {}/{} ({}%)",
        total.ready,
        total.layers,
        units::size(total.done),
        units::size(total.total),
        bars::percent(total)
    )
}
