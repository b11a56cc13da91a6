//! Metrics in CRI's words.

use super::source::{FileSystem, Layer, Source, Spec};
use super::table::METRICS;
use crate::container::RunState;
use crate::proto::v1;
use crate::sandbox::record::{PodName, PodView};
use crate::sandbox::sampler::{PodCounters, PodSample};

/// The labels that say who a row is about. They come first.
const SUBJECT: [&str; 5] = ["id", "image", "namespace", "pod", "container"];

/// Their values.
type Subject<'a> = [&'a str; SUBJECT.len()];

/// The `container` of a pod's traffic.
const POD: &str = "POD";

pub(super) fn descriptors() -> Vec<v1::MetricDescriptor> {
    let descriptors = METRICS.iter().map(|metric| v1::MetricDescriptor {
        name: metric.name.to_owned(),
        help: metric.help.to_owned(),
        label_keys: texts(&SUBJECT, metric.labels()),
    });
    descriptors.collect()
}

pub(super) fn pod(
    view: &PodView,
    sample: &PodSample,
    filesystem: Option<&FileSystem>,
) -> v1::PodSandboxMetrics {
    let PodName { name, namespace, .. } = &view.pod.name();
    let id = view.pod.id.as_str();
    let traffic = Source {
        at: sample.at,
        traffic: &sample.traffic,
        ..Source::default()
    };
    let mut rows = metrics(&traffic, &[id, "", namespace, name, POD]);
    if let Some(PodCounters::Own(counters)) = &sample.counters {
        let total = Source {
            at: counters.at,
            counters: Some(counters),
            ..Source::default()
        };
        rows.extend(metrics(&total, &[id, "", namespace, name, ""]));
    }
    let mut containers = Vec::new();
    for record in view.containers.values() {
        if let RunState::Running { started_at, .. } = record.run
            && let Some(sample) = sample.containers.get(&record.id)
            && let Some(counters) = sample.counters()
        {
            let source = Source {
                at: counters.at,
                counters: Some(counters),
                layer: filesystem.map(|filesystem| Layer::new(filesystem, sample.layer.as_ref())),
                processes: sample.processes,
                spec: Some(Spec::from(&record.resources)),
                started_at: Some(started_at),
                ..Source::default()
            };
            let subject = [
                record.id.as_str(),
                &record.image.name,
                namespace,
                name,
                &record.name().0,
            ];
            containers.push(v1::ContainerMetrics {
                container_id: record.id.to_string(),
                metrics: metrics(&source, &subject),
            });
        }
    }
    v1::PodSandboxMetrics {
        pod_sandbox_id: id.to_owned(),
        metrics: rows,
        container_metrics: containers,
    }
}

/// All metrics that are known.
fn metrics(source: &Source<'_>, subject: &Subject<'_>) -> Vec<v1::Metric> {
    let mut rows = Vec::with_capacity(METRICS.len());
    for metric in METRICS {
        rows.extend(metric.rows(source).into_iter().map(|row| v1::Metric {
            name: metric.name.to_owned(),
            timestamp: source.at,
            metric_type: metric.kind.into(),
            label_values: texts(subject, &row.labels),
            value: Some(v1::UInt64Value { value: row.value }),
        }));
    }
    rows
}

fn texts(first: &Subject<'_>, then: &[impl AsRef<str>]) -> Vec<String> {
    let then = then.iter().map(AsRef::as_ref);
    first.iter().copied().chain(then).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
