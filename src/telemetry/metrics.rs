//! Numbers about the daemon, for Prometheus and whoever reads its format.
//!
//! Rooms tell what happened by the functions here, which do nothing in a process that serves no metrics. What is a state and not
//! an event (pulls in flight) is asked for when somebody reads.
//!
//! Must never: have a label whose values come from outside (names of images, pods, hosts): each value stays in memory for ever.
//!
//! Format: OpenMetrics 1.0, which Prometheus reads.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

mod server;

pub use server::{Address, Listening};

/// Upper bounds in seconds of what an RPC or a step of it takes.
const SHORT: [f64; 11] = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0];
/// The same for pulls.
const LONG: [f64; 9] = [0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0];

static METRICS: OnceLock<Metrics> = OnceLock::new();

type Label = (&'static str, &'static str);

/// States at this moment.
#[derive(Debug, Clone, Copy, Default)]
pub struct States {
    /// Pulls and imports under way.
    pub pulls: u64,
    /// Complete layers that failed pulls have left for a retry.
    pub kept_layers: u64,
    /// Layers that are not complete, likewise.
    pub kept_parts: u64,
    /// Bytes of both, on disk or taken in.
    pub kept_bytes: u64,
}

/// All there is.
struct Metrics {
    registry: Registry,
    rpcs: Family<[Label; 2], Counter>,
    rpc_time: Family<[Label; 1], Histogram>,
    step_time: Family<[Label; 2], Histogram>,
    pulls: Family<[Label; 1], Counter>,
    pull_time: Histogram,
    pull_bytes: Counter,
    pulls_now: Gauge,
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
        let (time, help) = (self.rpc_time.clone(), "How long requests took to be answered");
        registry.register_with_unit("rpc_duration", help, Unit::Seconds, time);
        let (time, help) = (
            self.step_time.clone(),
            "How long the steps of operations on pods and containers took",
        );
        registry.register_with_unit("step_duration", help, Unit::Seconds, time);
        registry.register(
            "image_pulls",
            "Pulls that have ended, by outcome",
            self.pulls.clone(),
        );
        let (time, help) = (self.pull_time.clone(), "How long pulls took that have ended");
        registry.register_with_unit("image_pull_duration", help, Unit::Seconds, time);
        let (bytes, help) = (
            self.pull_bytes.clone(),
            "Compressed bytes of layers taken in from registries",
        );
        registry.register_with_unit("image_pull", help, Unit::Bytes, bytes);
        let help = "Pulls and imports in flight";
        registry.register("image_pulls_in_flight", help, self.pulls_now.clone());
        let help = "Layers that failed pulls have left for a retry";
        registry.register("image_kept_layers", help, self.kept.clone());
        let (bytes, help) = (
            self.kept_bytes.clone(),
            "Bytes that failed pulls have left for a retry",
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

/// From here on events are counted.
fn begin() -> &'static Metrics {
    METRICS.get_or_init(Metrics::new)
}

/// A request was answered with a gRPC code.
pub fn rpc(rpc: &'static str, code: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.rpcs.get_or_create(&[("rpc", rpc), ("code", code)]).inc();
        metrics
            .rpc_time
            .get_or_create(&[("rpc", rpc)])
            .observe(took.as_secs_f64());
    }
}

/// A step of an operation has ended.
pub(super) fn step(operation: &'static str, step: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        let labels = [("operation", operation), ("step", step)];
        metrics
            .step_time
            .get_or_create(&labels)
            .observe(took.as_secs_f64());
    }
}

/// A pull has ended: `outcome` is `ok` or a kind of failure.
pub fn pull(outcome: &'static str, took: Duration) {
    if let Some(metrics) = METRICS.get() {
        metrics.pulls.get_or_create(&[("outcome", outcome)]).inc();
        metrics.pull_time.observe(took.as_secs_f64());
    }
}

/// Bytes of a layer came from a registry.
pub fn pulled(bytes: usize) {
    if let Some(metrics) = METRICS.get() {
        metrics.pull_bytes.inc_by(u64::try_from(bytes).unwrap_or(0));
    }
}
