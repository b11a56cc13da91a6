//! A sample as lines of text: the sum, what the daemon is doing, then pods with their containers.
//!
//! Must never: have text of a container's that controls the terminal.

use std::time::Duration;

use super::sample::{Document, Pressure, Row, Usage};
use crate::cli::image::Total;
use crate::cli::output::Table;
use crate::cli::screen::{Line, cut};
use crate::cli::units;
use crate::proto::admin::{Operation, PullProgress, PullStep};

/// From this time on a step is worth a look, as it is worth a line in the daemon's log.
const SLOW: Duration = Duration::from_secs(5);
/// What is not known.
const NOTHING: &str = "-";
/// Columns that a narrow terminal does without, the first one first.
const EXPENDABLE: [&str; 13] = [
    "AGE>",
    "RESTARTS>",
    "PIDS>",
    "SENT/S>",
    "RECEIVED/S>",
    "IO WAIT>",
    "MEMORY WAIT>",
    "CPU WAIT>",
    "WRITE/S>",
    "READ/S>",
    "LIMIT>",
    "STATE",
    "MEMORY>",
];

/// How much room there is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Of a line.
    width: usize,
    /// Of the name of a pod, a container or an image.
    name: usize,
    /// How many operations are shown. The rest of the screen is for pods.
    operations: usize,
}

impl Limits {
    pub(super) const NONE: Self = Self {
        width: usize::MAX,
        name: usize::MAX,
        operations: usize::MAX,
    };

    pub(super) fn of(rows: usize, columns: usize) -> Self {
        Self {
            width: columns,
            name: (columns / 3).max(24),
            operations: (rows / 4).max(1),
        }
    }
}

/// Everything that is to be printed; `all` includes what does not run.
pub(super) fn lines(document: &Document, all: bool, limits: Limits) -> Vec<Line> {
    let mut lines = vec![Line::plain(summary(document))];
    for section in [operations(document, limits), pods(document, all, limits)] {
        if !section.is_empty() {
            lines.push(Line::plain(String::new()));
            lines.extend(section);
        }
    }
    lines
}

/// Of the pods that are shown.
fn summary(document: &Document) -> String {
    let usages = || document.pods.iter().map(|pod| &pod.row.usage);
    let sum = |value: fn(&Usage) -> Option<u64>| usages().filter_map(value).sum::<u64>();
    let containers = document.pods.iter().map(|pod| pod.containers.len()).sum();
    format!(
        "{}, {}, {} CPUs and {} of memory in use",
        count(document.pods.len(), "pod"),
        count(containers, "container"),
        cores(sum(|usage| usage.cpu_nano_cores)),
        units::size(sum(|usage| usage.working_set_bytes)),
    )
}

/// The time from `since`, in nanoseconds since the epoch, to the sample.
fn age(document: &Document, since: i64) -> Duration {
    let age = document.time.saturating_sub(since);
    Duration::from_nanos(u64::try_from(age).unwrap_or(0))
}

fn count(number: usize, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// Those that are longest in their step first: they are the ones that hang.
fn operations(document: &Document, limits: Limits) -> Vec<Line> {
    let age = |since| age(document, since);
    let of_pods = document.operations.iter().map(|operation| {
        let step = operation.step.clone();
        let since = operation.step_since.unwrap_or(operation.started);
        let name = operation.operation.clone();
        (
            age(since),
            age(operation.started),
            [name, object(operation), step.unwrap_or_default()],
        )
    });
    let of_images = document.pulls.iter().map(|pull| {
        let name = "Pull".to_owned();
        (
            age(pull.step_since),
            age(pull.started),
            [name, pull.reference.clone(), step(pull)],
        )
    });
    let mut all: Vec<_> = of_pods.chain(of_images).collect();
    if all.is_empty() {
        return Vec::new();
    }
    all.sort_by_key(|(in_step, ..)| std::cmp::Reverse(*in_step));
    let hidden = all.len().saturating_sub(limits.operations);
    all.truncate(limits.operations);
    let mut table = Table::new(["OPERATION", "OBJECT", "STEP", "IN STEP>", "IN ALL>"]);
    let mut styles = Vec::new();
    for (in_step, in_all, [name, object, step]) in all {
        styles.push(if in_step >= SLOW { "33" } else { "" });
        let [in_step, in_all] = [in_step, in_all].map(units::duration);
        table.row([name, cut(&object, limits.name), step, in_step, in_all]);
    }
    table.fit(limits.width, &["IN ALL>"]);
    let mut lines = Line::of_table(&table.render(), styles);
    if hidden > 0 {
        lines.push(Line::plain(format!("… {}", count(hidden, "more operation"))));
    }
    lines
}

fn object(operation: &Operation) -> String {
    let Operation { namespace, pod, .. } = operation;
    match &operation.container {
        Some(container) => format!("{namespace}/{pod}/{container}"),
        None => format!("{namespace}/{pod}"),
    }
}

fn step(pull: &PullProgress) -> String {
    match pull.step() {
        PullStep::Layers => {
            let sums = Total::of(pull);
            format!("layers {}/{}, {} %", sums.ready, sums.layers, sums.percent())
        }
        step => step.word().to_owned(),
    }
}

fn pods(document: &Document, all: bool, limits: Limits) -> Vec<Line> {
    if document.pods.is_empty() {
        return Vec::new();
    }
    let mut table = Table::new([
        "NAME",
        "STATE",
        "CPU>",
        "MEMORY>",
        "LIMIT>",
        "READ/S>",
        "WRITE/S>",
        "RECEIVED/S>",
        "SENT/S>",
        "CPU WAIT>",
        "MEMORY WAIT>",
        "IO WAIT>",
        "PIDS>",
        "RESTARTS>",
        "AGE>",
    ]);
    let mut styles = Vec::new();
    let mut add = |name: String, row: &Row, style: &'static str| {
        let Usage {
            cpu_nano_cores,
            working_set_bytes,
            memory_limit_bytes,
            read_bytes_per_second,
            write_bytes_per_second,
            receive_bytes_per_second,
            send_bytes_per_second,
            pids,
            cpu_pressure,
            memory_pressure,
            io_pressure,
        } = &row.usage;
        let state = if all { row.state } else { NOTHING };
        table.row([
            cut(&name, limits.name),
            state.to_owned(),
            known(*cpu_nano_cores, cores),
            known(*working_set_bytes, units::size),
            known(*memory_limit_bytes, units::size),
            known(*read_bytes_per_second, units::size),
            known(*write_bytes_per_second, units::size),
            known(*receive_bytes_per_second, units::size),
            known(*send_bytes_per_second, units::size),
            percent(cpu_pressure.as_ref()),
            percent(memory_pressure.as_ref()),
            percent(io_pressure.as_ref()),
            known(*pids, |pids| pids.to_string()),
            row.attempt.to_string(),
            units::duration(age(document, row.created_at)),
        ]);
        styles.push(if is_nearly_full(&row.usage) { "33" } else { style });
    };
    for pod in &document.pods {
        add(format!("{}/{}", pod.namespace, pod.name), &pod.row, "1");
        for container in &pod.containers {
            add(format!("  {}", container.name), &container.row, "");
        }
    }
    table.hide_columns_of(NOTHING);
    table.fit(limits.width, &EXPENDABLE);
    Line::of_table(&table.render(), styles)
}

/// Whether more than nine tenths of the memory that there may be are in use.
fn is_nearly_full(usage: &Usage) -> bool {
    let both = usage.working_set_bytes.zip(usage.memory_limit_bytes);
    both.is_some_and(|(used, limit)| u128::from(used) * 10 > u128::from(limit) * 9)
}

fn known<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NOTHING.to_owned(), text)
}

/// Hundredths of a CPU, rounded.
fn cores(nano_cores: u64) -> String {
    let hundredths = nano_cores.saturating_add(5_000_000) / 10_000_000;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

/// Of the last ten seconds in which some task waited.
fn percent(pressure: Option<&Pressure>) -> String {
    known(pressure.and_then(|pressure| pressure.some), |some| {
        format!("{some:.1} %")
    })
}

#[cfg(test)]
mod tests;
