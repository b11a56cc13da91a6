//! `pausa image check`: where a reference leads, without going there.
//!
//! The daemon explains what its configuration makes of the reference; whether there is a login for it is for this side to say,
//! because logins are those of whoever runs the command.

use serde::{Deserialize, Serialize};

use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, Table, harmless, print, print_json};
use crate::proto::admin::CheckRequest;

/// What the daemon says; `docs/operations.md` describes it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    given: String,
    references: Vec<Meaning>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meaning {
    reference: String,
    refused: Option<String>,
    blocked: bool,
    endpoints: Vec<Endpoint>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    url: String,
    repository: String,
    tag: Option<String>,
    role: String,
    asked: bool,
    condition: Option<String>,
    pull: bool,
    resolve: bool,
    file: Option<String>,
    key: Option<String>,
    rule: Option<String>,
    transport: String,
    certificates: Vec<String>,
    client_certificate: bool,
    headers: Vec<String>,
    dial_timeout_ms: Option<u64>,
    proxy: Option<String>,
}

/// Explains a reference; fails if nothing of what it may mean can be pulled.
pub(super) async fn run(daemon: &Daemon, reference: &str, format: Format) -> anyhow::Result<()> {
    let request = CheckRequest {
        reference: reference.to_owned(),
    };
    let answer = daemon.admin().check(request).await;
    let told = answer
        .map_err(daemon.failed("`image check`"))?
        .into_inner()
        .explanation;
    let document: Document = serde_json::from_str(&told)?;
    match format {
        Format::Json => print_json(&document)?,
        Format::Table => print(&page(&document))?,
    }
    if document
        .references
        .iter()
        .all(|meaning| meaning.refused.is_some())
    {
        return Err(CommandError::Some {
            failed: document.references.len(),
            all: document.references.len(),
        }
        .into());
    }
    Ok(())
}

fn page(document: &Document) -> String {
    let mut text = String::new();
    for (at, meaning) in document.references.iter().enumerate() {
        if at > 0 {
            text.push_str("\nif that is not there\n\n");
        }
        text.extend([&harmless(&meaning.reference), "\n"]);
        if let Some(refused) = &meaning.refused {
            let word = if meaning.blocked { "blocked" } else { "refused" };
            text.push_str(&format!("{word}: {}\n", harmless(refused)));
        }
        if !meaning.endpoints.is_empty() {
            text.push_str(&servers(&meaning.endpoints));
        }
    }
    text
}

fn servers(endpoints: &[Endpoint]) -> String {
    let mut table = Table::new(["SERVER", "ROLE", "ASKED FOR", "TRANSPORT", "BY", "NOTES"]);
    for endpoint in endpoints {
        let tag = endpoint
            .tag
            .as_ref()
            .map_or_else(String::new, |tag| format!(":{tag}"));
        table.row([
            endpoint.url.clone(),
            endpoint.role.clone(),
            format!("{}{tag}", endpoint.repository),
            endpoint.transport.clone(),
            endpoint.origin(),
            endpoint.notes().join("; "),
        ]);
    }
    table.render()
}

impl Endpoint {
    /// Which file says so.
    fn origin(&self) -> String {
        let parts = [&self.file, &self.rule, &self.key];
        let parts: Vec<_> = parts.into_iter().flatten().map(String::as_str).collect();
        if parts.is_empty() {
            "default".to_owned()
        } else {
            parts.join(" ")
        }
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.asked {
            let lacks = if self.pull { "resolve" } else { "pull" };
            notes.push(format!("not asked: lacks the capability {lacks}"));
        }
        notes.extend(self.condition.clone());
        if !self.certificates.is_empty() {
            notes.push(format!("certificates {}", self.certificates.join(", ")));
        }
        if self.client_certificate {
            notes.push("shows a client certificate".to_owned());
        }
        if !self.headers.is_empty() {
            notes.push(format!("headers {}", self.headers.join(", ")));
        }
        notes.extend(
            self.dial_timeout_ms
                .map(|limit| format!("connects within {limit} ms")),
        );
        notes.extend(self.proxy.as_ref().map(|proxy| format!("through {proxy}")));
        notes
    }
}

#[cfg(test)]
mod tests;
