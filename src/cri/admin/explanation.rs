//! The JSON of Check, as `docs/operations.md` describes it: fields are only ever added.

use pausa_distribution::{Explanation, Path, Step};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    given: &'a str,
    references: Vec<Meaning<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Meaning<'a> {
    reference: &'a str,
    refused: Option<&'a str>,
    blocked: bool,
    endpoints: Vec<Endpoint<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint<'a> {
    url: &'a str,
    repository: &'a str,
    tag: Option<&'a str>,
    role: &'a str,
    asked: bool,
    condition: Option<&'a str>,
    pull: bool,
    resolve: bool,
    file: Option<&'a str>,
    key: Option<&'a str>,
    rule: Option<&'a str>,
    transport: &'a str,
    certificates: &'a [String],
    client_certificate: bool,
    headers: &'a [String],
    dial_timeout_ms: Option<u64>,
    proxy: Option<&'a str>,
}

/// `told` as JSON.
pub(super) fn json(told: &Explanation) -> String {
    let document = Document {
        given: &told.given,
        references: told.references.iter().map(Meaning::from).collect(),
    };
    // Strings, numbers and lists: nothing that JSON could refuse.
    serde_json::to_string(&document).unwrap_or_default()
}

impl<'a> From<&'a Path> for Meaning<'a> {
    fn from(path: &'a Path) -> Self {
        Self {
            reference: &path.reference,
            refused: path.refused.as_deref(),
            blocked: path.blocked,
            endpoints: path.endpoints.iter().map(Endpoint::from).collect(),
        }
    }
}

impl<'a> From<&'a Step> for Endpoint<'a> {
    fn from(step: &'a Step) -> Self {
        Self {
            url: &step.url,
            repository: &step.repository,
            tag: step.tag.as_deref(),
            role: step.role,
            asked: step.asked,
            condition: step.condition,
            pull: step.pull,
            resolve: step.resolve,
            file: step.file.as_deref(),
            key: step.key.as_deref(),
            rule: step.rule.as_deref(),
            transport: step.transport,
            certificates: &step.certificates,
            client_certificate: step.client_certificate,
            headers: &step.headers,
            dial_timeout_ms: step.dial_timeout_ms,
            proxy: step.proxy.as_deref(),
        }
    }
}
