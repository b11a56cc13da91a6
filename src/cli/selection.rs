//! Which pods a command is about.

use std::collections::BTreeMap;

use clap::Args;

/// Digits of an id that are enough to mean a pod. Fewer may be a name by chance.
const ID_DIGITS: usize = 12;

#[derive(Debug, Default, Args)]
pub(super) struct Selection {
    /// Only pods of this namespace; may be given more than once.
    #[arg(long = "namespace", short, value_name = "NAMESPACE")]
    namespaces: Vec<String>,
    /// Only the pod with this name or id, or the first 12 or more digits of it; may be given more than once.
    #[arg(long = "pod", value_name = "POD")]
    pods: Vec<String>,
    /// Only pods with this label; of several, they have all.
    #[arg(long = "label", short, value_name = "KEY[=VALUE]")]
    labels: Vec<String>,
}

impl Selection {
    pub(super) fn has(
        &self,
        namespace: &str,
        name: &str,
        id: &str,
        labels: &BTreeMap<String, String>,
    ) -> bool {
        let is_pod = |given: &String| given == name || (given.len() >= ID_DIGITS && id.starts_with(given));
        let is_label = |given: &String| match given.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|set| set == value),
            None => labels.contains_key(given),
        };
        (self.namespaces.is_empty() || self.namespaces.iter().any(|given| given == namespace))
            && (self.pods.is_empty() || self.pods.iter().any(is_pod))
            && self.labels.iter().all(is_label)
    }
}

#[cfg(test)]
mod tests;
