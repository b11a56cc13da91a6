//! List filters: whether an item is among those that a client asks for.
//!
//! All conditions of a filter must hold. An id may be a prefix, as crictl sends it, and match any number of items: a list may
//! be empty but never fails. Label selectors are pairs that an item must have.

use std::collections::BTreeMap;

use super::v1;

impl v1::PodSandboxFilter {
    pub(crate) fn matches(
        &self,
        id: &str,
        state: v1::PodSandboxState,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        id.starts_with(&self.id)
            && self.state.is_none_or(|wanted| wanted.state == i32::from(state))
            && has_labels(&self.label_selector, labels)
    }
}

impl v1::ContainerFilter {
    pub(crate) fn matches(
        &self,
        id: &str,
        pod_id: &str,
        state: v1::ContainerState,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        id.starts_with(&self.id)
            && pod_id.starts_with(&self.pod_sandbox_id)
            && self.state.is_none_or(|wanted| wanted.state == i32::from(state))
            && has_labels(&self.label_selector, labels)
    }
}

impl v1::PodSandboxStatsFilter {
    pub(crate) fn matches(&self, id: &str, labels: &BTreeMap<String, String>) -> bool {
        id.starts_with(&self.id) && has_labels(&self.label_selector, labels)
    }
}

impl v1::ContainerStatsFilter {
    pub(crate) fn matches(&self, id: &str, pod_id: &str, labels: &BTreeMap<String, String>) -> bool {
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
