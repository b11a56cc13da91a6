//! Names of devices, `vendor.com/class=device`, and the annotations that ask for them.
//!
//! The rules are those of the reference implementation, which are less strict than the specification. It has no limit of
//! lengths; here, the specification's limit for vendors is one for all parts.

use std::collections::BTreeMap;

use crate::error::CdiError;

/// Most bytes of a vendor, a class and a device.
const LONGEST: usize = 253;
/// Annotations with this prefix have devices, separated by commas.
const ANNOTATION_PREFIX: &str = "cdi.k8s.io/";

/// All devices that annotations ask for, in the order of the annotations' keys.
///
/// # Errors
/// One of them is no fully qualified name.
pub fn annotated_devices(annotations: &BTreeMap<String, String>) -> Result<Vec<String>, CdiError> {
    let ours = annotations
        .iter()
        .filter(|(key, _)| key.starts_with(ANNOTATION_PREFIX));
    let names = ours.flat_map(|(key, value)| value.split(',').map(move |name| (key, name)));
    names
        .map(|(key, name)| match split(name) {
            Some(_) => Ok(name.to_owned()),
            None => Err(CdiError::Annotation {
                key: key.clone(),
                name: name.chars().take(64).collect(),
            }),
        })
        .collect()
}

/// Kind and device of a fully qualified name.
pub(crate) fn split(name: &str) -> Option<(&str, &str)> {
    name.split_once('=')
        .filter(|(kind, device)| is_kind(kind) && is_device(device))
}

/// Whether this is `vendor/class`, each beginning with a letter.
pub(crate) fn is_kind(kind: &str) -> bool {
    let part = |part: &str| part.starts_with(|c: char| c.is_ascii_alphabetic()) && is_word(part, "_-.");
    kind.split_once('/')
        .is_some_and(|(vendor, class)| part(vendor) && part(class))
}

/// Whether this is the name of a device within its kind.
pub(crate) fn is_device(name: &str) -> bool {
    is_word(name, "_-.:")
}

/// Whether a text begins and ends with a letter or digit and has only these and `others` in between.
fn is_word(text: &str, others: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    text.len() <= LONGEST
        && text.starts_with(plain)
        && text.ends_with(plain)
        && text.chars().all(|c| plain(c) || others.contains(c))
}

#[cfg(test)]
mod tests;
