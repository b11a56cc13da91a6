//! Metrics about the daemon in the format of OpenMetrics 1.0, for Prometheus.
//!
//! Other modules report events with the functions here, which do nothing in a process that serves no metrics. States, such as
//! pulls in flight, are collected when a client reads the metrics ([`States`]).
//!
//! Must never: have a label whose values come from outside (names of images, pods, hosts): each value stays in memory for ever.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

mod server;

pub(crate) use server::Listening;

/// Upper bounds, in seconds, of the buckets for RPCs and for the steps of operations.
const SHORT: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// Upper bounds, in seconds, of the buckets for pulls.
const LONG: [f64; 9] = [0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];

static METRICS: OnceLock<Metrics> = OnceLock::new();

type Label = (&'static str, &'static str);

/// States at the moment of a request for metrics.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct States {
    /// Pulls and imports in flight.
    pub(crate) pulls: u64,
    /// Complete layers of failed pulls that are kept for a retry.
    pub(crate) kept_layers: u64,
    /// Incomplete layers of failed pulls that are kept for a retry.
    pub(crate) kept_parts: u64,
    /// Of complete layers the bytes on disk, of incomplete ones the bytes received.
    pub(crate) kept_bytes: u64,
}

struct Metrics {
    registry: Registry,
    rpcs: Family<[Label; 2], Counter>,
    rpc_time: Family<[Label; 1], Histogram>,
    step_time: Family<[Label; 2], Histogram>,
    pulls: Family<[Label; 1], Counter>,
    pull_time: Histogram,
    pull_bytes: Counter,
    pulls_now: Gauge,
    subscribers_cut_off: Counter,
    kept: Family<[Label; 1], Gauge>,
    kept_bytes: Gauge,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("pausa"),
            rpcs: Family::default(),
            rpc_time: Family::new_with_constructor(|| Histogram::new(SHORT)),
            step_time: Family::new_with_constructor(|| Histogram::new(SHORT)),
            pulls: Family::default(),
            pull_time: Histogram::new(LONG),
            pull_bytes: Counter::default(),
            pulls_now: Gauge::default(),
            subscribers_cut_off: Counter::default(),
            kept: Family::default(),
            kept_bytes: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let build: Family<[Label; 1], Gauge> = Family::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
            .set(1);
        registry.register("build_info", "The version of the daemon", build);
        registry.register("rpcs", "Answered requests by gRPC code", self.rpcs.clone());
        let (time, help) = (self.rpc_time.clone(), "Time from request to answer");
        registry.register_with_unit("rpc_duration", help, Unit::Seconds, time);
        let (time, help) = (
            self.step_time.clone(),
            "Duration of the steps of operations on pods and containers",
        );
        registry.register_with_unit("step_duration", help, Unit::Seconds, time);
        registry.register("image_pulls", "Finished pulls by outcome", self.pulls.clone());
        let (time, help) = (self.pull_time.clone(), "Duration of finished pulls");
        registry.register_with_unit("image_pull_duration", help, Unit::Seconds, time);
        let (bytes, help) = (
            self.pull_bytes.clone(),
            "Compressed bytes of layers received from registries",
        );
        registry.register_with_unit("image_pull", help, Unit::Bytes, bytes);
        let help = "Pulls and imports in flight";
        registry.register("image_pulls_in_flight", help, self.pulls_now.clone());
        let (cut_off, help) = (
            self.subscribers_cut_off.clone(),
            "Clients of GetContainerEvents that were cut off because they did not keep up",
        );
        registry.register("event_subscribers_cut_off", help, cut_off);
        let help = "Layers of failed pulls that are kept for a retry";
        registry.register("image_kept_layers", help, self.kept.clone());
        let (bytes, help) = (
            self.kept_bytes.clone(),
            "Bytes of failed pulls that are kept for a retry",
        );
        registry.register_with_unit("image_kept", help, Unit::Bytes, bytes);
    }

    fn set(&self, states: States) {
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        self.pulls_now.set(number(states.pulls));
        self.kept_bytes.set(number(states.kept_bytes));
        let kept = |state| self.kept.get_or_create(&[("state", state)]);
        kept("complete").set(number(states.kept_layers));
        kept("part").set(number(states.kept_parts));
    }

    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        _ = text::encode(&mut text, &self.registry);
        text
    }
}

/// The metrics of this process. Events are counted from the first call on.
fn begin() -> &'static Metrics {
    METRICS.get_or_init(Metrics::new)
}

/// Counts a request that was answered with the gRPC code `code`.
pub(crate) fn rpc(rpc: &'static str, code: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.rpcs.get_or_create(&[("rpc", rpc), ("code", code)]).inc();
        metrics
            .rpc_time
            .get_or_create(&[("rpc", rpc)])
            .observe(took.as_secs_f64());
    }
}

/// Counts a step of an operation that has ended.
pub(super) fn step(operation: &'static str, step: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        let labels = [("operation", operation), ("step", step)];
        metrics
            .step_time
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

/// Counts a pull that has ended: `outcome` is `ok` or the name of an [`ErrorKind`](crate::error::ErrorKind).
pub(crate) fn pull(outcome: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.pulls.get_or_create(&[("outcome", outcome)]).inc();
        metrics.pull_time.observe(took.as_secs_f64());
    }
}

/// Counts a client of GetContainerEvents that did not keep up.
pub(crate) fn subscriber_cut_off() {
    if let Some(metrics) = METRICS.get() {
        metrics.subscribers_cut_off.inc();
    }
}

/// Counts bytes of a layer that a registry sent.
pub(crate) fn pulled(bytes: usize) {
    if let Some(metrics) = METRICS.get() {
        metrics.pull_bytes.inc_by(u64::try_from(bytes).unwrap_or(0));
    }
}
