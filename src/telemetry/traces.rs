//! Traces for a collector of OpenTelemetry, sent by OTLP over gRPC: what a request waited for, down to CNI plugins and the
//! monitor.
//!
//! A request goes on with its client's trace, if the client sends one (`traceparent`, W3C Trace Context), as kubelet does
//! (KEP-2831). Spans wait in memory until they are sent, 2048 at most; further ones are dropped.
//!
//! Without a collector, spans are not made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::HeaderName;
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{Status, TracerProvider as _};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::Layer;
use tracing_subscriber::registry::LookupSpan;

use crate::config::Tracing;

/// How long the end of the daemon waits for the collector.
const PATIENCE: Duration = Duration::from_secs(2);

static ON: AtomicBool = AtomicBool::new(false);

/// Traces are being sent.
#[derive(Debug)]
pub(crate) struct Traces {
    provider: SdkTracerProvider,
}

impl Traces {
    /// To be called where tokio runs. Nothing is connected yet: a collector may come and go.
    pub(super) fn begin(settings: &Tracing) -> Result<Self, ExporterBuildError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&settings.endpoint)
            .build()?;
        let new = Sampler::TraceIdRatioBased(settings.sampling_ratio);
        let resource = Resource::builder()
            .with_service_name("pausa")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("host.name", host_name()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(Sampler::ParentBased(Box::new(new)))
            .with_resource(resource)
            .build();
        ON.store(true, Ordering::Relaxed);
        Ok(Self { provider })
    }

    /// Takes pausa's spans, and what is logged as a warning or an error within them.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let ours = filter_fn(|metadata| {
            let counts = metadata.is_span() || *metadata.level() <= tracing::Level::WARN;
            counts && metadata.target().starts_with("pausa")
        });
        tracing_opentelemetry::layer()
            .with_tracer(self.provider.tracer("pausa"))
            .with_context_activation(false)
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(ours)
    }

    /// Sends what has not been sent. Blocks, but not for long.
    pub(crate) fn end(self) {
        if let Err(error) = self.provider.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last traces could not be sent: the collector does not have them");
        }
    }
}

/// The trace that a request with these headers belongs to; none if there is none, or nobody wants to know.
pub(crate) fn of_client(headers: &HeaderMap) -> Option<Context> {
    if !ON.load(Ordering::Relaxed) || !headers.contains_key("traceparent") {
        return None;
    }
    // An empty context and not the current one: no trace but the client's.
    Some(TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers)))
}

/// Says that what the current span is about has failed.
pub(crate) fn failed(why: &str) {
    if ON.load(Ordering::Relaxed) {
        tracing::Span::current().set_status(Status::error(why.to_owned()));
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

fn host_name() -> String {
    let name = rustix::system::uname();
    name.nodename().to_string_lossy().into_owned()
}
