//! Bandwidth limits of a pod, from its annotations to CNI's `bandwidth` capability argument.
//!
//! Values are Kubernetes resource quantities in bits per second, from 1k to 1P as in kubelet.
//! See <https://www.cni.dev/docs/conventions/>.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::error::NetworkError;

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
        let rate = parse_quantity(text).filter(|rate| (LEAST..=MOST).contains(rate));
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

/// Parses a resource quantity (`10M`, `1.5Gi`, `2e6`), rounded up to a whole number.
fn parse_quantity(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || whole.len() + fraction.len() > 18 {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (times, divided) = scale(suffix)?;
    let decimals = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let value = digits
        .checked_mul(times)?
        .div_ceil(divided.checked_mul(decimals)?);
    u64::try_from(value).ok()
}

fn scale(suffix: &str) -> Option<(u128, u128)> {
    let power = |base: u128, exponent: u32| base.checked_pow(exponent).map(|times| (times, 1));
    match suffix {
        "m" => Some((1, 1000)),
        "" => Some((1, 1)),
        "k" => power(1000, 1),
        "M" => power(1000, 2),
        "G" => power(1000, 3),
        "T" => power(1000, 4),
        "P" => power(1000, 5),
        "E" => power(1000, 6),
        "Ki" => power(1024, 1),
        "Mi" => power(1024, 2),
        "Gi" => power(1024, 3),
        "Ti" => power(1024, 4),
        "Pi" => power(1024, 5),
        "Ei" => power(1024, 6),
        _ => power(
            10,
            suffix
                .strip_prefix(['e', 'E'])?
                .parse::<u32>()
                .ok()
                .filter(|exponent| *exponent <= 18)?,
        ),
    }
}
