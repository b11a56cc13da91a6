//! List filters: which items a client asked for.
//!
//! All given conditions must hold. An id may be a prefix, as crictl sends it; an id that nothing has gives an
//! empty list and never an error, nor does one that several things have. Label selectors are exact pairs.

use std::collections::BTreeMap;

use super::v1;

impl v1::PodSandboxFilter {
    /// Whether `pod` is asked for.
    pub fn matches(&self, pod: &v1::PodSandbox) -> bool {
        pod.id.starts_with(&self.id)
            && self.state.is_none_or(|wanted| wanted.state == pod.state)
            && has_labels(&self.label_selector, &pod.labels)
    }
}

impl v1::ContainerFilter {
    /// Whether `container` is asked for.
    pub fn matches(&self, container: &v1::Container) -> bool {
        container.id.starts_with(&self.id)
            && container.pod_sandbox_id.starts_with(&self.pod_sandbox_id)
            && self.state.is_none_or(|wanted| wanted.state == container.state)
            && has_labels(&self.label_selector, &container.labels)
    }
}

impl v1::PodSandboxStatsFilter {
    /// Whether the statistics of the pod with this id and labels are asked for.
    pub fn matches(&self, id: &str, labels: &BTreeMap<String, String>) -> bool {
        id.starts_with(&self.id) && has_labels(&self.label_selector, labels)
    }
}

impl v1::ContainerStatsFilter {
    /// Whether the statistics of the container with this id, pod and labels are asked for.
    pub fn matches(&self, id: &str, pod_id: &str, labels: &BTreeMap<String, String>) -> bool {
        id.starts_with(&self.id)
            && pod_id.starts_with(&self.pod_sandbox_id)
            && has_labels(&self.label_selector, labels)
    }
}

fn has_labels(wanted: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

#[cfg(test)]
mod tests;
