use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn container() -> v1::Container {
    v1::Container {
        id: "abc123".into(),
        pod_sandbox_id: "def456".into(),
        state: v1::ContainerState::ContainerRunning.into(),
        labels: labels(&[("app", "web"), ("tier", "front")]),
        ..Default::default()
    }
}

#[test]
fn an_empty_filter_matches_everything() {
    assert!(v1::ContainerFilter::default().matches(&container()));
    assert!(v1::PodSandboxFilter::default().matches(&v1::PodSandbox::default()));
}

#[test]
fn ids_match_by_prefix() {
    let with = |id: &str, pod: &str| v1::ContainerFilter {
        id: id.into(),
        pod_sandbox_id: pod.into(),
        ..Default::default()
    };
    assert!(with("abc", "").matches(&container()));
    assert!(with("abc123", "def").matches(&container()));
    assert!(!with("bc", "").matches(&container()));
    assert!(!with("abc1234", "").matches(&container()));
    assert!(!with("abc", "d4").matches(&container()));
}

#[test]
fn state_zero_is_a_condition_when_set() {
    let created = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue {
            state: v1::ContainerState::ContainerCreated.into(),
        }),
        ..Default::default()
    };
    assert!(!created.matches(&container()));
}

#[test]
fn all_labels_must_be_there_and_equal() {
    let with = |pairs: &[(&str, &str)]| v1::ContainerFilter {
        label_selector: labels(pairs),
        ..Default::default()
    };
    assert!(with(&[("app", "web")]).matches(&container()));
    assert!(!with(&[("app", "web"), ("tier", "back")]).matches(&container()));
    assert!(!with(&[("other", "")]).matches(&container()));
}
