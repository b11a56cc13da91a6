//! Metrics in CRI's words, encoded: a pod has some 150, which have most of their labels in common. Tags are those of CRI's
//! `metrics.proto`.

use super::source::{FileSystem, Layer, Source, Spec};
use super::table::METRICS;
use crate::container::RunState;
use crate::proto::v1::MetricType;
use crate::proto::{encode, v1};
use crate::sandbox::record::{PodName, PodView};
use crate::sandbox::sampler::{PodCounters, PodSample};

/// The labels that say who a row is about. They come first.
const SUBJECT: [&str; 5] = ["id", "image", "namespace", "pod", "container"];

/// Their values.
type Subject<'a> = [&'a str; SUBJECT.len()];

/// The tag of `Metric.label_values`.
const LABEL_VALUES: u32 = 4;

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

/// An encoded `PodSandboxMetrics`.
pub(super) fn pod(view: &PodView, sample: &PodSample, filesystem: Option<&FileSystem>) -> Vec<u8> {
    let PodName { name, namespace, .. } = &view.pod.name();
    let id = view.pod.id.as_str();
    let mut pod = Vec::with_capacity(64 << 10);
    encode::text(1, id, &mut pod);
    let traffic = Source {
        at: sample.at,
        traffic: &sample.traffic,
        ..Source::default()
    };
    metrics(&traffic, &[id, "", namespace, name, POD], &mut pod);
    if let Some(PodCounters::Own(counters)) = &sample.counters {
        let total = Source {
            at: counters.at,
            counters: Some(counters),
            ..Source::default()
        };
        metrics(&total, &[id, "", namespace, name, ""], &mut pod);
    }
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
            let id = record.id.as_str();
            let mut container = Vec::with_capacity(32 << 10);
            encode::text(1, id, &mut container);
            let subject = [id, &record.image.name, namespace, name, &record.name().0];
            metrics(&source, &subject, &mut container);
            encode::bytes(3, &container, &mut pod);
        }
    }
    pod
}

/// Writes all metrics that are known, each a `Metric` in a list that has the tag 2.
fn metrics(source: &Source<'_>, subject: &Subject<'_>, buffer: &mut Vec<u8>) {
    // What all rows of a kind have in common.
    let shared = |kind: MetricType| {
        let mut shared = Vec::with_capacity(512);
        encode::integer(2, source.at.cast_unsigned(), &mut shared);
        encode::integer(3, i32::from(kind).cast_unsigned().into(), &mut shared);
        for value in subject {
            encode::bytes(LABEL_VALUES, value.as_bytes(), &mut shared);
        }
        shared
    };
    let (counter, gauge) = (shared(MetricType::Counter), shared(MetricType::Gauge));
    let (mut one, mut value) = (Vec::with_capacity(512), Vec::with_capacity(16));
    for metric in METRICS {
        for row in metric.rows(source) {
            one.clear();
            encode::text(1, metric.name, &mut one);
            one.extend_from_slice(match metric.kind {
                MetricType::Counter => &counter,
                MetricType::Gauge => &gauge,
            });
            for label in &row.labels {
                encode::bytes(LABEL_VALUES, label.as_bytes(), &mut one);
            }
            value.clear();
            encode::integer(1, row.value, &mut value);
            encode::bytes(5, &value, &mut one);
            encode::bytes(2, &one, buffer);
        }
    }
}

fn texts(first: &Subject<'_>, then: &[impl AsRef<str>]) -> Vec<String> {
    let then = then.iter().map(AsRef::as_ref);
    first.iter().copied().chain(then).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests;
