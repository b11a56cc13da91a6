use std::collections::{BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::sandbox::metrics::table::tests::arbitrary;

proptest! {
    #[test]
    fn every_row_has_the_labels_of_its_descriptor_and_is_there_once(sample in arbitrary()) {
        let keys: HashMap<_, _> = descriptors().into_iter().map(|one| (one.name, one.label_keys)).collect();
        let mut seen = BTreeSet::new();
        for row in metrics(&sample.source(), &["id", "image", "namespace", "pod", "container"]) {
            prop_assert_eq!(row.label_values.len(), keys[&row.name].len(), "{}", row.name);
            prop_assert_eq!(&row.label_values[..5], &keys[&row.name][..5]);
            prop_assert_eq!(row.timestamp, sample.at);
            prop_assert!(seen.insert((row.name, row.label_values)));
        }
    }
}
