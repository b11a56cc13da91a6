use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::sandbox::metrics::table::tests::{Sample, arbitrary};

const SUBJECT_VALUES: Subject<'_> = ["id", "", "namespace", "pod", "container"];

fn decoded(sample: &Sample) -> Vec<v1::Metric> {
    let mut bytes = Vec::new();
    metrics(&sample.source(), &SUBJECT_VALUES, &mut bytes);
    let pod = v1::PodSandboxMetrics::decode(bytes.as_slice()).expect("a message");
    pod.metrics
}

proptest! {
    #[test]
    fn every_row_has_the_labels_of_its_descriptor_and_is_there_once(sample in arbitrary()) {
        let keys: HashMap<_, _> = descriptors().into_iter().map(|one| (one.name, one.label_keys)).collect();
        let mut seen = BTreeSet::new();
        for row in decoded(&sample) {
            prop_assert_eq!(row.label_values.len(), keys[&row.name].len(), "{}", row.name);
            prop_assert_eq!(&row.label_values[..5], &SUBJECT_VALUES);
            prop_assert_eq!(row.timestamp, sample.at);
            prop_assert!(seen.insert((row.name, row.label_values)));
        }
    }

    #[test]
    fn what_is_encoded_is_what_the_table_says(sample in arbitrary()) {
        let mut expected = Vec::new();
        let source = sample.source();
        for metric in METRICS {
            for row in metric.rows(&source) {
                let labels = SUBJECT_VALUES.map(str::to_owned).into_iter();
                expected.push(v1::Metric {
                    name: metric.name.to_owned(),
                    timestamp: sample.at,
                    metric_type: metric.kind.into(),
                    label_values: labels.chain(row.labels.iter().map(|label| label.to_string())).collect(),
                    value: Some(v1::UInt64Value { value: row.value }),
                });
            }
        }
        prop_assert_eq!(decoded(&sample), expected);
    }
}
