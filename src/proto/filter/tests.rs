use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

/// Whether a filter matches a certain running container.
fn matches(filter: &v1::ContainerFilter) -> bool {
    let labels = labels(&[("app", "web"), ("tier", "front")]);
    filter.matches("abc123", "def456", v1::ContainerState::ContainerRunning, &labels)
}

#[test]
fn an_empty_filter_matches_everything() {
    assert!(matches(&v1::ContainerFilter::default()));
    let state = v1::PodSandboxState::SandboxReady;
    assert!(v1::PodSandboxFilter::default().matches("", state, &labels(&[])));
}

#[test]
fn ids_match_by_prefix() {
    let with = |id: &str, pod: &str| v1::ContainerFilter {
        id: id.into(),
        pod_sandbox_id: pod.into(),
        ..Default::default()
    };
    assert!(matches(&with("abc", "")));
    assert!(matches(&with("abc123", "def")));
    assert!(!matches(&with("bc", "")));
    assert!(!matches(&with("abc1234", "")));
    assert!(!matches(&with("abc", "d4")));
}

#[test]
fn state_zero_is_a_condition_when_set() {
    let created = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue {
            state: v1::ContainerState::ContainerCreated.into(),
        }),
        ..Default::default()
    };
    assert!(!matches(&created));
}

#[test]
fn all_labels_must_be_there_and_equal() {
    let with = |pairs: &[(&str, &str)]| v1::ContainerFilter {
        label_selector: labels(pairs),
        ..Default::default()
    };
    assert!(matches(&with(&[("app", "web")])));
    assert!(!matches(&with(&[("app", "web"), ("tier", "back")])));
    assert!(!matches(&with(&[("other", "")])));
}
