use super::*;
use crate::error::Kinded as _;

const MIB: u64 = 1 << 20;

fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn handler(own: Option<&str>, pod: Option<&str>) -> Handler {
    Handler {
        writable_layer_limit: own.map(|text| text.parse().unwrap()),
        pod_writable_layer_limit: pod.map(|text| text.parse().unwrap()),
        ..Handler::default()
    }
}

/// The limit of the container `web`.
fn limit_of(handler: &Handler, pod: &[(&str, &str)], container: &[(&str, &str)]) -> Result<Limit, PodError> {
    let pod = v1::PodSandboxConfig {
        annotations: annotations(pod),
        ..Default::default()
    };
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "web".to_owned(),
            attempt: 0,
        }),
        annotations: annotations(container),
        ..Default::default()
    };
    limit(handler, &pod, &container)
}

#[test]
fn the_nearest_annotation_counts_and_the_handler_is_the_most() {
    let (none, ten) = (handler(None, None), handler(Some("10Mi"), None));
    let web = "writable-layer-limit.pausa.io/web";
    let other = "writable-layer-limit.pausa.io/other";
    for (handler, pod, container, expected) in [
        (&none, &[][..], &[][..], Limit::None),
        (&none, &[(other, "2Mi")], &[], Limit::None),
        (&none, &[(EACH, "2Mi")], &[], Limit::Own(2 * MIB)),
        (&none, &[(EACH, "2Mi"), (web, "3Mi")], &[], Limit::Own(3 * MIB)),
        (
            &none,
            &[(EACH, "2Mi"), (web, "3Mi")],
            &[(EACH, "4Mi")],
            Limit::Own(4 * MIB),
        ),
        (&none, &[(TOGETHER, "5Mi")], &[], Limit::Pod(5 * MIB)),
        (&ten, &[], &[], Limit::Own(10 * MIB)),
        (&ten, &[(web, "9Mi")], &[], Limit::Own(9 * MIB)),
        (&ten, &[(web, "1Ti")], &[], Limit::Own(10 * MIB)),
        (&ten, &[(TOGETHER, "9Mi")], &[], Limit::Pod(9 * MIB)),
        // One container could have all of it.
        (&ten, &[(TOGETHER, "11Mi")], &[], Limit::Pod(10 * MIB)),
    ] {
        let limit = limit_of(handler, pod, container).unwrap();
        assert_eq!(limit, expected, "{pod:?} {container:?}");
    }
    let together = handler(None, Some("20Mi"));
    assert_eq!(limit_of(&together, &[], &[]).unwrap(), Limit::Pod(20 * MIB));
    let lower = limit_of(&together, &[(TOGETHER, "1Mi")], &[]).unwrap();
    assert_eq!(lower, Limit::Pod(MIB));
    let higher = limit_of(&together, &[(TOGETHER, "1Gi")], &[]).unwrap();
    assert_eq!(higher, Limit::Pod(20 * MIB));
}

#[test]
fn a_file_counts_for_one_limit_only() {
    let together = handler(None, Some("20Mi"));
    for (handler, pod) in [
        (&handler(None, None), &[(EACH, "2Mi"), (TOGETHER, "5Mi")][..]),
        (&together, &[(EACH, "2Mi")]),
        (&together, &[("writable-layer-limit.pausa.io/web", "2Mi")]),
    ] {
        let error = limit_of(handler, pod, &[]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
}

#[test]
fn a_wrong_value_is_refused_by_the_name_of_its_annotation() {
    let named = "writable-layer-limit.pausa.io/other";
    for key in [EACH, TOGETHER, named] {
        for value in ["", "lots", "-1", "0", "1023Ki", "2Ei", "5GB"] {
            let pod = v1::PodSandboxConfig {
                annotations: annotations(&[(key, value)]),
                ..Default::default()
            };
            let error = check(&pod).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidArgument);
            let text = error.to_string();
            assert!(text.contains(key) && text.contains("500Mi"), "{text}");
        }
    }
    let error = limit_of(&handler(None, None), &[], &[(EACH, "x")]).unwrap_err();
    assert!(error.to_string().contains(EACH), "{error}");
    let others = v1::PodSandboxConfig {
        annotations: annotations(&[("pausa.io/other", "x"), (EACH, "1.5Gi")]),
        ..Default::default()
    };
    check(&others).unwrap();
}

/// proc has no quotas, on every machine; the layer itself is elsewhere.
fn without_quotas() -> Projects {
    Projects::open(Path::new("/proc")).unwrap()
}

#[test]
fn a_limit_that_cannot_be_enforced_is_refused_and_nothing_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("containers/c");
    for limit in [Limit::Own(MIB), Limit::Pod(MIB)] {
        let error = make(&without_quotas(), &kept, limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FailedPrecondition);
        assert!(error.text().contains("prjquota"), "{}", error.text());
    }
    assert!(!kept.exists());
}

#[test]
fn without_quotas_a_layer_is_made_and_removed_all_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let kept = directory.path().join("containers/c");
    let projects = without_quotas();
    make(&projects, &kept, Limit::None).unwrap();
    assert!(kept.join("upper").is_dir() && kept.join("work").is_dir());
    assert_eq!(usage(&projects, &kept), None);
    assert_eq!(describe(&projects, &kept), serde_json::Value::Null);
    remove_layers(&projects, directory.path()).unwrap();
    assert!(!kept.join("upper").exists() && !kept.join("work").exists());
}
