//! The annotations of a spec, by which tools find a container's pod.
//!
//! Runtimes, monitors and security tools know the names from containerd. Annotations of the pod and the container are
//! not copied: users can write them, and some runtimes act on them.

use std::collections::HashMap;

use super::ContainerInput;

/// The annotations of a container's spec.
pub(crate) fn annotations(input: &ContainerInput<'_>) -> HashMap<String, String> {
    let container = input.config.metadata.clone().unwrap_or_default();
    let pod = input.pod.config.metadata.clone().unwrap_or_default();
    let image = input.config.image.clone().unwrap_or_default();
    let image_name = match image.user_specified_image.as_str() {
        "" => image.image,
        given => given.to_owned(),
    };
    [
        ("io.kubernetes.cri.container-type", "container".to_owned()),
        ("io.kubernetes.cri.container-name", container.name),
        ("io.kubernetes.cri.image-name", image_name),
        ("io.kubernetes.cri.sandbox-id", input.pod.id.to_owned()),
        ("io.kubernetes.cri.sandbox-name", pod.name),
        ("io.kubernetes.cri.sandbox-namespace", pod.namespace),
        ("io.kubernetes.cri.sandbox-uid", pod.uid),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}
