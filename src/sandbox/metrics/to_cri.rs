//! Metrics in CRI's words.

use super::sample::{ContainerSample, PodSample, Sample};
use super::table::METRICS;
use crate::proto::v1;
use crate::sandbox::record::{PodName, PodRecord};

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

pub(super) fn pod(pod: &PodRecord, sample: &PodSample) -> v1::PodSandboxMetrics {
    let PodName { name, namespace, .. } = &pod.name();
    let id = pod.id.as_str();
    let mut rows = metrics(&sample.traffic, &[id, "", namespace, name, POD]);
    if let Some(total) = &sample.total {
        rows.extend(metrics(total, &[id, "", namespace, name, ""]));
    }
    let container = |one: &ContainerSample| v1::ContainerMetrics {
        container_id: one.id.to_string(),
        metrics: metrics(
            &one.sample,
            &[one.id.as_str(), &one.image, namespace, name, &one.name],
        ),
    };
    v1::PodSandboxMetrics {
        pod_sandbox_id: pod.id.to_string(),
        metrics: rows,
        container_metrics: sample.containers.iter().map(container).collect(),
    }
}

/// All metrics that a sample has.
fn metrics(sample: &Sample, subject: &Subject<'_>) -> Vec<v1::Metric> {
    let mut rows = Vec::with_capacity(METRICS.len());
    for metric in METRICS {
        rows.extend(metric.rows(sample).into_iter().map(|row| v1::Metric {
            name: metric.name.to_owned(),
            timestamp: sample.at,
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
