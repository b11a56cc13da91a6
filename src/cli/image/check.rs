//! `pausa image check`: where a reference leads. The daemon reads its configuration and contacts no registry.

use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, Table, escape, print, print_json};
use crate::proto::admin::{CheckRequest, CheckResponse, CheckedEndpoint};

/// Explains a reference. Fails if no image that it may mean can be pulled.
pub(super) async fn run(daemon: &Daemon, reference: &str, format: Format) -> anyhow::Result<()> {
    let request = CheckRequest {
        reference: reference.to_owned(),
    };
    let answer = daemon.admin().check(request).await;
    let checked = answer.map_err(daemon.failed("`image check`"))?.into_inner();
    match format {
        Format::Json => print_json(&checked)?,
        Format::Table => print(&page(&checked))?,
    }
    let references = &checked.references;
    if references.iter().all(|reference| reference.refused.is_some()) {
        return Err(CommandError::Some {
            failed: references.len(),
            all: references.len(),
        }
        .into());
    }
    Ok(())
}

fn page(checked: &CheckResponse) -> String {
    let mut text = String::new();
    for (at, reference) in checked.references.iter().enumerate() {
        if at > 0 {
            text.push_str("\nif that does not exist\n\n");
        }
        text.extend([&escape(&reference.reference), "\n"]);
        if let Some(refused) = &reference.refused {
            let word = if reference.blocked { "blocked" } else { "refused" };
            text.push_str(&format!("{word}: {}\n", escape(refused)));
        }
        if !reference.endpoints.is_empty() {
            text.push_str(&servers(&reference.endpoints));
        }
    }
    text
}

fn servers(endpoints: &[CheckedEndpoint]) -> String {
    let mut table = Table::new(["SERVER", "ROLE", "ASKED FOR", "TRANSPORT", "BY", "NOTES"]);
    for endpoint in endpoints {
        let tag = endpoint.tag.as_ref();
        let tag = tag.map_or_else(String::new, |tag| format!(":{tag}"));
        let source = [&endpoint.file, &endpoint.rule, &endpoint.key];
        let source: Vec<_> = source.into_iter().flatten().map(String::as_str).collect();
        table.row([
            endpoint.url.clone(),
            endpoint.role.clone(),
            format!("{}{tag}", endpoint.repository),
            endpoint.transport.clone(),
            match source.is_empty() {
                true => "default".to_owned(),
                false => source.join(" "),
            },
            notes(endpoint).join("; "),
        ]);
    }
    table.render()
}

fn notes(endpoint: &CheckedEndpoint) -> Vec<String> {
    let mut notes = Vec::new();
    if !endpoint.asked {
        let missing = if endpoint.pull { "resolve" } else { "pull" };
        notes.push(format!("not asked: lacks the capability {missing}"));
    }
    notes.extend(endpoint.condition.clone());
    if !endpoint.certificates.is_empty() {
        notes.push(format!("certificates {}", endpoint.certificates.join(", ")));
    }
    if endpoint.client_certificate {
        notes.push("has a client certificate".to_owned());
    }
    if !endpoint.headers.is_empty() {
        notes.push(format!("headers {}", endpoint.headers.join(", ")));
    }
    notes.extend(
        endpoint
            .dial_timeout_ms
            .map(|limit| format!("must connect within {limit} ms")),
    );
    notes.extend(endpoint.proxy.as_ref().map(|proxy| format!("through {proxy}")));
    notes
}

#[cfg(test)]
mod tests;
