//! `pausa image inspect`: images with their configuration.

use serde::Serialize;
use serde_json::{Map, Value};

use super::view::{self, ImageView};
use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, Page, print, print_json};
use crate::cli::units;

#[derive(Debug, Serialize)]
struct Document {
    images: Vec<Inspected>,
}

#[derive(Debug, Serialize)]
struct Inspected {
    #[serde(flatten)]
    image: ImageView,
    /// The verbose information of CRI's ImageStatus: `chainID`, `imageSpec` (the OCI configuration) and further fields.
    info: Map<String, Value>,
}

/// Shows images. If one does not exist, the command fails after it has shown the others.
pub(super) async fn run(daemon: &Daemon, names: &[String], format: Format) -> anyhow::Result<()> {
    let mut images = Vec::new();
    let mut missing = Vec::new();
    for name in names {
        match view::find(daemon, name, true).await? {
            Some((image, response)) => images.push(Inspected {
                info: info(response.info.get("info").map_or("", String::as_str)),
                image,
            }),
            None => missing.push(name.clone()),
        }
    }
    match format {
        Format::Json => print_json(&Document { images })?,
        Format::Table => {
            let texts: Vec<_> = images.iter().map(describe).collect();
            print(&texts.join("\n"))?;
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(CommandError::NoImage { names: missing }.into())
}

fn info(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// Lines of `key  value`; empty values are left out.
fn describe(inspected: &Inspected) -> String {
    let mut page = Page::new(13);
    let image = &inspected.image;
    page.line("Id", &image.id);
    page.lines("Tags", &image.repo_tags);
    page.lines("Digests", &image.repo_digests);
    page.line("Size", &units::size(image.size));
    page.line("Pinned", if image.pinned { "yes" } else { "no" });
    let spec = inspected.info.get("imageSpec").unwrap_or(&Value::Null);
    page.line("Created", text(&spec["created"]));
    let platform = ["os", "architecture", "variant"].map(|key| text(&spec[key]));
    let platform: Vec<_> = platform.into_iter().filter(|part| !part.is_empty()).collect();
    page.line("Platform", &platform.join("/"));
    page.line("Author", text(&spec["author"]));
    let config = &spec["config"];
    page.line("User", text(&config["User"]));
    page.line("Entrypoint", &words(&config["Entrypoint"]));
    page.line("Command", &words(&config["Cmd"]));
    page.line("Directory", text(&config["WorkingDir"]));
    page.line("Stop signal", text(&config["StopSignal"]));
    page.lines("Environment", &strings(&config["Env"]));
    page.lines("Ports", &keys(&config["ExposedPorts"]));
    page.lines("Volumes", &keys(&config["Volumes"]));
    let labels = config["Labels"].as_object().into_iter().flatten();
    let labels: Vec<_> = labels
        .map(|(key, value)| format!("{key}={}", text(value)))
        .collect();
    page.lines("Labels", &labels);
    page.lines("Layers", &strings(&spec["rootfs"]["diff_ids"]));
    page.text
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn strings(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn keys(value: &Value) -> Vec<String> {
    value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, _)| key.clone())
        .collect()
}

/// A command in JSON, which separates its words clearly.
fn words(value: &Value) -> String {
    match value.as_array() {
        Some(list) if !list.is_empty() => value.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
