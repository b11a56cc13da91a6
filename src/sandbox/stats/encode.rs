//! The items of lists, encoded: what [`to_cri`] makes messages of, without a copy of all labels and
//! annotations. Tags are those of CRI's `stats.proto`.

use std::collections::BTreeMap;

use prost::Message as _;

use super::to_cri;
use crate::container::ContainerRecord;
use crate::proto::encode;
use crate::sandbox::record::PodView;
use crate::sandbox::sampler::{ContainerSample, PodSample};

/// `ContainerStats`.
pub(super) fn container(
    record: &ContainerRecord,
    sample: Option<&ContainerSample>,
    mountpoint: &str,
) -> Vec<u8> {
    let mut stats = Vec::with_capacity(1024);
    let config = &record.config;
    let attributes = attributes(
        record.id.as_str(),
        config.metadata.as_ref(),
        &config.labels,
        &config.annotations,
    );
    encode::bytes(1, &attributes, &mut stats);
    // A message goes on where another one has ended.
    stats.extend(to_cri::container_usage(sample, mountpoint).encode_to_vec());
    stats
}

/// `PodSandboxStats`.
pub(super) fn pod(view: &PodView, sample: &PodSample, mountpoint: &str) -> Vec<u8> {
    let mut linux = to_cri::pod_usage(sample).encode_to_vec();
    for record in view.containers.values() {
        let stats = container(record, sample.containers.get(&record.id), mountpoint);
        encode::bytes(5, &stats, &mut linux);
    }
    let config = &view.pod.config;
    let attributes = attributes(
        view.pod.id.as_str(),
        config.metadata.as_ref(),
        &config.labels,
        &config.annotations,
    );
    let mut stats = Vec::with_capacity(attributes.len() + linux.len() + 16);
    encode::bytes(1, &attributes, &mut stats);
    encode::bytes(2, &linux, &mut stats);
    stats
}

/// `ContainerAttributes` and `PodSandboxAttributes`, which have the same tags.
fn attributes(
    id: &str,
    metadata: Option<&impl prost::Message>,
    labels: &BTreeMap<String, String>,
    annotations: &BTreeMap<String, String>,
) -> Vec<u8> {
    let mut attributes = Vec::with_capacity(512);
    encode::text(1, id, &mut attributes);
    encode::message(2, metadata, &mut attributes);
    encode::map(3, labels, &mut attributes);
    encode::map(4, annotations, &mut attributes);
    attributes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::proto::v1;
    use crate::sandbox::sampler::{Counters, Interface, PodCounters};
    use crate::sandbox::tests::{container_record, pod_record};

    #[test]
    fn what_is_encoded_is_the_message() {
        let labels = BTreeMap::from([("a".to_owned(), String::new()), (String::new(), "b".to_owned())]);
        let pod = pod_record(v1::PodSandboxConfig {
            metadata: Some(v1::PodSandboxMetadata {
                name: "web".into(),
                ..Default::default()
            }),
            labels: labels.clone(),
            ..Default::default()
        });
        let config = v1::ContainerConfig {
            annotations: labels,
            ..Default::default()
        };
        let record = Arc::new(container_record(&pod.id, config));
        let view = PodView::new(Arc::new(pod), [(record.id.clone(), Arc::clone(&record))].into());
        let sample = PodSample {
            counters: Some(PodCounters::Own(Counters::now())),
            at: 7,
            traffic: vec![Interface {
                name: "eth0".to_owned(),
                ..Interface::default()
            }],
            ..PodSample::default()
        };
        let decoded = v1::PodSandboxStats::decode(super::pod(&view, &sample, "/m").as_slice());
        assert_eq!(decoded, Ok(to_cri::pod(&view, Some(&sample), "/m")));
        let decoded = v1::ContainerStats::decode(super::container(&record, None, "/m").as_slice());
        assert_eq!(decoded, Ok(to_cri::container(&record, None, "/m")));
    }
}
