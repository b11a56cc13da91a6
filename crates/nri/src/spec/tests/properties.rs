//! What holds for all adjustments.

use super::*;

fn entries() -> impl Strategy<Value = ContainerAdjustment> {
    let key = prop_oneof![Just("A"), Just("B"), Just("C"), Just("D")];
    let entry = (key, any::<bool>(), "[a-z]{0,3}").prop_map(|(key, removed, value)| {
        let sign = if removed { "-" } else { "" };
        (key, sign, value)
    });
    prop::collection::vec(entry, 0..5).prop_map(|entries| ContainerAdjustment {
        annotations: entries
            .iter()
            .map(|(key, sign, value)| (format!("{sign}{key}"), value.clone()))
            .collect(),
        env: entries
            .iter()
            .map(|(key, sign, value)| KeyValue {
                key: format!("{sign}{key}"),
                value: value.clone(),
            })
            .collect(),
        mounts: entries
            .iter()
            .map(|(key, sign, value)| mount(&format!("{sign}/{key}"), &format!("/{value}"), &[]))
            .collect(),
        ..linux(LinuxContainerAdjustment {
            sysctl: entries
                .iter()
                .map(|(key, sign, value)| (format!("{sign}net.{key}"), value.clone()))
                .collect(),
            ..LinuxContainerAdjustment::default()
        })
    })
}

/// Without what order is about.
fn sorted(mut container: proto::Container) -> proto::Container {
    container.env.sort();
    container
        .mounts
        .sort_by(|a, b| (&a.destination, &a.source).cmp(&(&b.destination, &b.source)));
    container
}

proptest! {
    #[test]
    fn applying_it_again_changes_nothing(adjustment in entries()) {
        let mut once = spec();
        apply(&adjustment, &mut once, RULES).unwrap();
        let mut twice = once.clone();
        apply(&adjustment, &mut twice, RULES).unwrap();
        prop_assert_eq!(once, twice);
    }

    /// What the next plugin would see is what the container becomes.
    #[test]
    fn plugins_see_what_becomes_of_it(adjustments in prop::collection::vec(entries(), 0..4)) {
        let mut creation = crate::creation::Creation::new(proto::CreateContainerRequest {
            container: Some(proto::Container { annotations: pairs(&[("a", "1"), ("b", "2")]), ..container_message(&spec()) }),
            ..proto::CreateContainerRequest::default()
        });
        for (index, adjustment) in adjustments.into_iter().enumerate() {
            let adjust = Some(adjustment);
            let response = proto::CreateContainerResponse { adjust, ..proto::CreateContainerResponse::default() };
            if creation.apply(&format!("{index:02}-x"), response).is_err() {
                return Ok(());
            }
        }
        let seen = creation.request().container.clone().unwrap();
        let merged = creation.finish(Vec::new()).validation.adjust.unwrap();
        let mut spec = spec();
        apply(&merged, &mut spec, RULES).unwrap();
        let annotations = spec.annotations().clone().unwrap().into_iter().collect();
        let message = proto::Container { annotations, ..container_message(&spec) };
        prop_assert_eq!(sorted(message), sorted(seen));
    }

    #[test]
    fn odd_texts_do_not_hurt(text in "\\PC{0,12}|[-./=,:a0\0]{0,8}") {
        let adjustment = ContainerAdjustment {
            annotations: [(text.clone(), text.clone())].into(),
            ..env(&[(&text, &text)])
        };
        apply(&adjustment, &mut spec(), RULES).ok();
        apply(&mounts(&[mount(&text, &text, &[&text])]), &mut spec(), RULES).ok();
        let linux = linux(LinuxContainerAdjustment {
            sysctl: pairs(&[(&text, &text)]),
            ..LinuxContainerAdjustment::default()
        });
        apply(&linux, &mut spec(), RULES).ok();
    }
}
