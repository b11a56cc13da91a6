//! Metrics about the daemon in the format of OpenMetrics 1.0, for Prometheus. `docs/metrics.md` lists them.
//!
//! ```text
//!   other modules ── rpc(), pull(), … ─▶ Metrics ─┐
//!                                                 ├─▶ answer to GET /metrics
//!   other modules ◀─ collected for each answer ── States
//! ```
//!
//! Other modules report events with the functions here, which do nothing in a process that serves no metrics. States, such as
//! pulls in flight, are collected when a client reads the metrics ([`States`]).
//!
//! Must never: have a label whose values come from images, pods or clients: each value stays in memory for ever. The types of
//! CNI plugins come from the administrator's configuration, and only the first [`PLUGINS_MAX`] are told apart.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

mod process;
mod server;
mod states;
mod table;

pub(crate) use server::Listening;
pub(crate) use states::{Build, CpuStates, ImageStates, PodStates, States, StreamingStates};

use crate::error::{ErrorKind, Kinded};
use table::{Labelled, Table};

/// Upper bounds, in seconds, of the buckets for RPCs, operations and their steps.
const SHORT: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Upper bounds, in seconds, of the buckets for pulls.
const LONG: [f64; 9] = [0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];
/// How many types of CNI plugins have a label of their own; the others are `other`.
const PLUGINS_MAX: usize = 32;
/// The outcome of what succeeded. Others are the names of [`ErrorKind`]s and [`ABORTED`].
const OK: &str = "ok";
/// The outcome of an operation that was given up, or panicked.
const ABORTED: &str = "aborted";

static METRICS: OnceLock<Metrics> = OnceLock::new();

/// What is counted from the start of the daemon on.
#[derive(Debug)]
struct Metrics {
    table: Table,

    rpcs: Labelled<Counter, 2>,
    rpc_time: Labelled<Histogram, 1>,
    rpcs_now: Labelled<Gauge, 1>,
    connections: Gauge,
    connections_closed: Labelled<Counter, 1>,
    requests_refused: Labelled<Counter, 1>,

    operations: Labelled<Counter, 2>,
    operation_time: Labelled<Histogram, 1>,
    operations_now: Labelled<Gauge, 1>,
    step_time: Labelled<Histogram, 2>,

    network_calls: Labelled<Counter, 3>,
    network_time: Labelled<Histogram, 2>,
    plugin_calls: Labelled<Counter, 3>,
    plugin_time: Labelled<Histogram, 2>,
    detaches_pending: Gauge,

    pulls: Labelled<Counter, 1>,
    pull_time: Histogram,
    pull_bytes: Counter,
    pull_layers: Labelled<Counter, 1>,
    pull_layer_bytes: Labelled<Counter, 1>,

    monitors_lost: Labelled<Counter, 1>,
    monitor_reconnects: Counter,
    container_starts: Counter,
    container_exits: Labelled<Counter, 1>,
    log_failures: Counter,
    log_dropped: Counter,
    cpu_shortages: Labelled<Counter, 1>,

    sessions: Labelled<Counter, 1>,
    sessions_refused: Labelled<Counter, 1>,
    subscribers_cut_off: Counter,
    scrapes_cut_off: Counter,

    rounds: Counter,
    round_time: Histogram,
    round_removals: Labelled<Counter, 1>,
    round_failures: Labelled<Counter, 1>,
    records_broken: Gauge,
    record_failures: Labelled<Counter, 1>,
}

impl Metrics {
    fn new() -> Self {
        let mut table = Table::default();
        let short = || Histogram::new(SHORT);
        Self {
            rpcs: table.counters("pausa_rpcs", ["rpc", "code"], "Answered requests by gRPC code"),
            rpc_time: table.histograms(
                "pausa_rpc_duration_seconds",
                ["rpc"],
                "Time from request to answer",
                short,
            ),
            rpcs_now: table.gauges(
                "pausa_rpcs_in_flight",
                ["rpc"],
                "Requests that wait for their answer",
            ),
            connections: table.gauge(
                "pausa_cri_connections",
                "Connections to the CRI socket, and to that for cAdvisor",
            ),
            connections_closed: table
                .counters(
                    "pausa_cri_connections_closed",
                    ["which"],
                    "Connections that were closed because there were too many",
                )
                .showing([["idle"], ["new"]]),
            requests_refused: table
                .counters(
                    "pausa_cri_requests_refused",
                    ["too_many"],
                    "Requests refused because a client, or all together, had too much in progress",
                )
                .showing([["requests"], ["bytes"]]),

            operations: table.counters(
                "pausa_operations",
                ["operation", "outcome"],
                "Operations on pods and containers that have ended, by outcome",
            ),
            operation_time: table.histograms(
                "pausa_operation_duration_seconds",
                ["operation"],
                "Duration of operations on pods and containers",
                short,
            ),
            operations_now: table.gauges(
                "pausa_operations_in_flight",
                ["operation"],
                "Operations on pods and containers under way",
            ),
            step_time: table.histograms(
                "pausa_step_duration_seconds",
                ["operation", "step"],
                "Duration of the steps of operations on pods and containers",
                short,
            ),

            network_calls: table.counters(
                "pausa_network_calls",
                ["backend", "command", "outcome"],
                "Calls of the node's network, a CNI list as a whole or the built-in bridge, by outcome",
            ),
            network_time: table.histograms(
                "pausa_network_call_duration_seconds",
                ["backend", "command"],
                "Duration of calls of the node's network",
                short,
            ),
            plugin_calls: table.counters(
                "pausa_cni_plugin_calls",
                ["plugin", "command", "outcome"],
                "Calls of single CNI plugins by outcome",
            ),
            plugin_time: table.histograms(
                "pausa_cni_plugin_call_duration_seconds",
                ["plugin", "command"],
                "Duration of calls of single CNI plugins",
                short,
            ),
            detaches_pending: table.gauge(
                "pausa_network_detaches_pending",
                "Stopped pods that could not be detached from their network, which is tried again",
            ),

            pulls: table.counters("pausa_image_pulls", ["outcome"], "Finished pulls by outcome"),
            pull_time: table.histogram(
                "pausa_image_pull_duration_seconds",
                "Duration of finished pulls",
                LONG,
            ),
            pull_bytes: table.counter(
                "pausa_image_pull_bytes",
                "Compressed bytes of layers received from registries",
            ),
            pull_layers: table
                .counters(
                    "pausa_image_pull_layers",
                    ["source"],
                    "Layers of pulls and imports by how they were had",
                )
                .showing(LAYER_SOURCES.map(|source| [source])),
            pull_layer_bytes: table
                .counters(
                    "pausa_image_pull_layer_bytes",
                    ["source"],
                    "Compressed sizes of the layers of pulls and imports by how they were had",
                )
                .showing(LAYER_SOURCES.map(|source| [source])),

            monitors_lost: table
                .counters(
                    "pausa_monitors_lost",
                    ["reason"],
                    "Monitors that died or did not answer a new daemon",
                )
                .showing([["died"], ["silent"]]),
            monitor_reconnects: table.counter(
                "pausa_monitor_reconnects",
                "Monitors that answered again after their connection was lost",
            ),
            container_starts: table.counter("pausa_container_starts", "Containers started"),
            container_exits: table
                .counters(
                    "pausa_container_exits",
                    ["reason"],
                    "Containers that ended, by the reason in their status",
                )
                .showing(["Completed", "Error", "OOMKilled", "StartError", "Unknown"].map(|reason| [reason])),
            log_failures: table.counter(
                "pausa_container_log_failures",
                "Reports of monitors that a container's log could not be written",
            ),
            log_dropped: table.counter(
                "pausa_container_log_dropped_bytes",
                "Output of containers that did not get into their logs",
            ),
            cpu_shortages: table
                .counters(
                    "pausa_cpu_shortages",
                    ["outcome"],
                    "Containers that could not have CPUs of their own, and were refused or share the pool",
                )
                .showing([["refused"], ["shared"]]),

            sessions: table
                .counters(
                    "pausa_streaming_sessions_started",
                    ["kind"],
                    "Sessions of exec, attach and port-forward that were begun",
                )
                .showing([["exec"], ["attach"], ["portforward"]]),
            sessions_refused: table
                .counters(
                    "pausa_streaming_refusals",
                    ["limit"],
                    "Sessions, URLs and connections of the streaming server that were refused, by the limit",
                )
                .showing([["pod"], ["node"], ["tickets"], ["connections"]]),
            subscribers_cut_off: table.counter(
                "pausa_event_subscribers_cut_off",
                "Clients of GetContainerEvents that were cut off because they did not keep up",
            ),
            scrapes_cut_off: table.counter(
                "pausa_metrics_clients_cut_off",
                "Clients of the metrics that took too long and were cut off",
            ),

            rounds: table.counter("pausa_reconciliations", "Finished reconciliations of the node"),
            round_time: table.histogram(
                "pausa_reconciliation_duration_seconds",
                "Duration of reconciliations",
                SHORT,
            ),
            round_removals: table
                .counters(
                    "pausa_reconciliation_removals",
                    ["kind"],
                    "What reconciliations removed because it belonged to no pod",
                )
                .showing([["attachment"], ["monitor"], ["directory"]]),
            round_failures: table
                .counters(
                    "pausa_reconciliation_failures",
                    ["step"],
                    "Steps of reconciliations that failed",
                )
                .showing([["network"], ["directories"]]),
            records_broken: table.gauge(
                "pausa_records_broken",
                "Records that could not be read when the daemon started",
            ),
            record_failures: table
                .counters(
                    "pausa_record_write_failures",
                    ["tree"],
                    "Records that could not be written",
                )
                .showing([["state"], ["root"]]),
            table,
        }
    }

    /// The answer to a client.
    fn text(&self, states: &States) -> String {
        let mut text = String::new();
        for registry in [&self.table.registry, &states.table().registry] {
            // Writing to a String cannot fail.
            text::encode_registry(&mut text, registry).ok();
        }
        text::encode_eof(&mut text).ok();
        text
    }
}

/// The metrics of this process. Events are counted from the first call on.
fn begin() -> &'static Metrics {
    METRICS.get_or_init(Metrics::new)
}

/// Counts a request from its begin until it is answered, or dropped because its client is gone.
#[derive(Debug)]
pub(crate) struct Rpc {
    rpc: &'static str,
    since: Instant,
}

impl Rpc {
    pub(crate) fn begin(rpc: &'static str) -> Self {
        if let Some(metrics) = METRICS.get() {
            metrics.rpcs_now.of([rpc]).inc();
        }
        let since = Instant::now();
        Self { rpc, since }
    }

    /// It was answered with the gRPC code `code`. Returns how long it took.
    pub(crate) fn end(self, code: &'static str) -> Duration {
        let took = self.since.elapsed();
        if let Some(metrics) = METRICS.get() {
            metrics.rpcs.of([self.rpc, code]).inc();
            metrics.rpc_time.of([self.rpc]).observe(took.as_secs_f64());
        }
        took
    }
}

impl Drop for Rpc {
    fn drop(&mut self) {
        if let Some(metrics) = METRICS.get() {
            metrics.rpcs_now.of([self.rpc]).dec();
        }
    }
}

/// Counts an operation until it is dropped.
#[derive(Debug)]
pub(crate) struct Operation {
    name: &'static str,
    since: Instant,
    outcome: &'static str,
}

impl Operation {
    pub(crate) fn begin(name: &'static str) -> Self {
        if let Some(metrics) = METRICS.get() {
            metrics.operations_now.of([name]).inc();
        }
        Self {
            name,
            since: Instant::now(),
            outcome: ABORTED,
        }
    }

    /// How it ended: well, or with a failure of this kind.
    pub(crate) fn ended(&mut self, failure: Option<ErrorKind>) {
        self.outcome = outcome(failure);
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Some(metrics) = METRICS.get() {
            let took = self.since.elapsed().as_secs_f64();
            metrics.operations_now.of([self.name]).dec();
            metrics.operations.of([self.name, self.outcome]).inc();
            metrics.operation_time.of([self.name]).observe(took);
        }
    }
}

/// Counts an operation that has no steps.
pub(crate) fn operation<T, E: Kinded>(
    name: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> impl Future<Output = Result<T, E>> {
    let mut counted = Operation::begin(name);
    async move {
        let outcome = work.await;
        counted.ended(outcome.as_ref().err().map(Kinded::kind));
        outcome
    }
}

fn outcome(failure: Option<ErrorKind>) -> &'static str {
    failure.map_or(OK, ErrorKind::name)
}

/// Counts a step of an operation that has ended.
pub(super) fn step(operation: &'static str, step: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        let time = metrics.step_time.of([operation, step]);
        time.observe(took.as_secs_f64());
    }
}

/// Counts a connection to the CRI socket, or that it has ended.
pub(crate) fn connection(is_open: bool) {
    if let Some(metrics) = METRICS.get() {
        match is_open {
            true => metrics.connections.inc(),
            false => metrics.connections.dec(),
        };
    }
}

/// Counts a connection that was closed because there were too many: an `idle` one, or the `new` one.
pub(crate) fn connection_closed(which: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.connections_closed.of([which]).inc();
    }
}

/// Counts a request that was refused because too many `requests` or `bytes` were in progress.
pub(crate) fn request_refused(too_many: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.requests_refused.of([too_many]).inc();
    }
}

/// Counts a call of the network as a whole: `backend` is `cni` or `bridge`, `command` one of CNI's.
pub(crate) fn network_call(
    backend: &'static str,
    command: &'static str,
    failure: Option<ErrorKind>,
    took: Duration,
) {
    if let Some(metrics) = METRICS.get() {
        let took = took.as_secs_f64();
        metrics
            .network_calls
            .of([backend, command, outcome(failure)])
            .inc();
        metrics.network_time.of([backend, command]).observe(took);
    }
}

/// Counts a call of a CNI plugin.
pub(crate) fn plugin_call(plugin: &str, command: &'static str, failure: Option<ErrorKind>, took: Duration) {
    static PLUGINS: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    if let Some(metrics) = METRICS.get() {
        let plugin = known(&mut PLUGINS.lock(), plugin);
        let took = took.as_secs_f64();
        metrics.plugin_calls.of([plugin, command, outcome(failure)]).inc();
        metrics.plugin_time.of([plugin, command]).observe(took);
    }
}

/// The label of a type of plugins.
fn known(plugins: &mut BTreeSet<&'static str>, plugin: &str) -> &'static str {
    match plugins.get(plugin) {
        Some(known) => known,
        None if plugins.len() >= PLUGINS_MAX => "other",
        None => {
            // Never freed, as no label is: there are few.
            let new: &'static str = plugin.to_owned().leak();
            plugins.insert(new);
            new
        }
    }
}

/// A pod that could not be detached from its network, until this is dropped.
#[derive(Debug)]
pub(crate) struct PendingDetach(());

impl PendingDetach {
    pub(crate) fn begin() -> Self {
        if let Some(metrics) = METRICS.get() {
            metrics.detaches_pending.inc();
        }
        Self(())
    }
}

impl Drop for PendingDetach {
    fn drop(&mut self) {
        if let Some(metrics) = METRICS.get() {
            metrics.detaches_pending.dec();
        }
    }
}

/// Counts a pull that has ended.
pub(crate) fn pull(failure: Option<ErrorKind>, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.pulls.of([outcome(failure)]).inc();
        metrics.pull_time.observe(took.as_secs_f64());
    }
}

/// Counts bytes of a layer that a registry sent.
pub(crate) fn pulled(bytes: usize) {
    if let Some(metrics) = METRICS.get() {
        metrics.pull_bytes.inc_by(u64::try_from(bytes).unwrap_or(0));
    }
}

const LAYER_SOURCES: [&str; 5] = ["present", "shared", "retained", "fetched", "imported"];

/// Counts a layer of a pull or an import, of so many compressed bytes: it was `present`, `shared` with another pull,
/// `retained` from a failed pull, `fetched`, or `imported` from an archive.
pub(crate) fn layer(source: &'static str, bytes: u64) {
    if let Some(metrics) = METRICS.get() {
        metrics.pull_layers.of([source]).inc();
        metrics.pull_layer_bytes.of([source]).inc_by(bytes);
    }
}

/// Counts a monitor that `died` or is `silent`.
pub(crate) fn monitor_lost(reason: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.monitors_lost.of([reason]).inc();
    }
}

/// Counts a monitor that answers again.
pub(crate) fn monitor_reconnected() {
    if let Some(metrics) = METRICS.get() {
        metrics.monitor_reconnects.inc();
    }
}

/// Counts a container that was started.
pub(crate) fn container_started() {
    if let Some(metrics) = METRICS.get() {
        metrics.container_starts.inc();
    }
}

/// Counts a container that has ended, for the reason that its status has.
pub(crate) fn container_exited(reason: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.container_exits.of([reason]).inc();
    }
}

/// Counts a report of output that did not get into a container's log.
pub(crate) fn log_dropped(bytes: u64) {
    if let Some(metrics) = METRICS.get() {
        metrics.log_failures.inc();
        metrics.log_dropped.inc_by(bytes);
    }
}

/// Counts a container for which there were not enough CPUs: it was `refused`, or is `shared`.
pub(crate) fn cpu_shortage(outcome: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.cpu_shortages.of([outcome]).inc();
    }
}

/// Counts a session of `exec`, `attach` or `portforward` that begins.
pub(crate) fn session(kind: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.sessions.of([kind]).inc();
    }
}

/// Counts a client of the streaming server that was refused because of the limit of sessions with its `pod` or on the `node`,
/// of `tickets`, or of `connections`.
pub(crate) fn session_refused(limit: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.sessions_refused.of([limit]).inc();
    }
}

/// Counts a client of GetContainerEvents that did not keep up.
pub(crate) fn subscriber_cut_off() {
    if let Some(metrics) = METRICS.get() {
        metrics.subscribers_cut_off.inc();
    }
}

/// Counts a reconciliation and how many of each kind of thing it removed.
pub(crate) fn reconciliation<const N: usize>(removed: [(&'static str, usize); N], took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.rounds.inc();
        metrics.round_time.observe(took.as_secs_f64());
        for (kind, count) in removed {
            let removals = metrics.round_removals.of([kind]);
            removals.inc_by(u64::try_from(count).unwrap_or(0));
        }
    }
}

/// Counts a step of a reconciliation that failed.
pub(crate) fn reconciliation_failed(step: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.round_failures.of([step]).inc();
    }
}

/// Records that could not be read.
pub(crate) fn records_broken(count: usize) {
    if let Some(metrics) = METRICS.get() {
        metrics
            .records_broken
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Counts a record that could not be written below `state` or `root`.
pub(crate) fn record_not_written(tree: &'static str) {
    if let Some(metrics) = METRICS.get() {
        metrics.record_failures.of([tree]).inc();
    }
}

#[cfg(test)]
mod tests;
