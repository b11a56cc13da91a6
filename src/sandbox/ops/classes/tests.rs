use super::*;

const CONTAINER: &str = "io.kubernetes.cri.blockio-class";
const NAMED: &str = "blockio.resources.beta.kubernetes.io/container.web";
const OTHER: &str = "blockio.resources.beta.kubernetes.io/container.db";
const POD: &str = "blockio.resources.beta.kubernetes.io/pod";

fn class_of(of_container: &[(&str, &str)], of_pod: &[(&str, &str)]) -> Option<String> {
    let map = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let pod = v1::PodSandboxConfig {
        annotations: map(of_pod),
        ..Default::default()
    };
    let container = v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata {
            name: "web".to_owned(),
            attempt: 0,
        }),
        annotations: map(of_container),
        ..Default::default()
    };
    class("blockio", &pod, &container).map(str::to_owned)
}

#[test]
fn the_most_particular_annotation_counts() {
    let named = [(NAMED, "named"), (POD, "pod"), (OTHER, "other")];
    let all = class_of(&[(CONTAINER, "own")], &named);
    assert_eq!(all.as_deref(), Some("own"));
    assert_eq!(class_of(&[], &named).as_deref(), Some("named"));
    let of_pod = [(POD, "pod"), (OTHER, "other")];
    assert_eq!(class_of(&[], &of_pod).as_deref(), Some("pod"));
    assert_eq!(class_of(&[], &[(OTHER, "other")]), None);
    // What says nothing takes the container out of the pod's class.
    assert_eq!(class_of(&[(CONTAINER, "")], &named), None);
    assert_eq!(class_of(&[], &[(NAMED, ""), (POD, "pod")]), None);
    // On the wrong object.
    assert_eq!(class_of(&[(POD, "pod")], &[(CONTAINER, "own")]), None);
}
