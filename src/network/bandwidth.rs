//! Bandwidth limits of a pod, from its annotations to CNI's `bandwidth` capability argument.
//!
//! Values are Kubernetes resource quantities in bits per second, from 1k to 1P as in kubelet.
//! See <https://www.cni.dev/docs/conventions/>.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::NetworkError;
use crate::quantity;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
const LEAST: u64 = 1_000;
const MOST: u64 = 1_000_000_000_000_000;
/// The plugin requires a burst; like other runtimes, pausa gives the largest.
const BURST: u32 = u32::MAX;

/// The capability argument, or nothing for a pod without limits.
pub(super) fn capability(annotations: &BTreeMap<String, String>) -> Result<Option<Value>, NetworkError> {
    let mut argument = Map::new();
    for (annotation, direction) in [(INGRESS, "ingress"), (EGRESS, "egress")] {
        let Some(text) = annotations.get(annotation) else {
            continue;
        };
        let rate = quantity::parse(text).filter(|rate| (LEAST..=MOST).contains(rate));
        let rate = rate.ok_or_else(|| NetworkError::InvalidPod {
            field: format!("annotation {annotation}"),
            value: text.clone(),
            expected: "a quantity of bits per second from 1k to 1P",
        })?;
        argument.insert(format!("{direction}Rate"), Value::from(rate));
        argument.insert(format!("{direction}Burst"), Value::from(BURST));
    }
    Ok(Some(argument)
        .filter(|argument| !argument.is_empty())
        .map(Value::Object))
}
