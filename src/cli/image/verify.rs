//! `pausa image verify`: whether images are on the disk as they came.
//!
//! The daemon reads and judges; with `--repair` it sets damaged layers aside, and the pull that follows fetches only these.

use clap::Args;
use serde::Serialize;

use super::pull::{self, Auth, CredentialArgs};
use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, harmless, print, print_json};
use crate::cli::units;
use crate::proto::admin::{IncompleteImage, IncompleteRequest, VerifyMethod, VerifyRequest, VerifyResponse};
use crate::proto::v1;

/// What to verify.
#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// References, ids or beginnings of ids; none: all images.
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Fetch what is damaged or missing anew. Refused while a container uses a damaged layer.
    #[arg(long)]
    repair: bool,
    #[command(flatten)]
    credentials: CredentialArgs,
}

#[derive(Debug, Serialize)]
struct Document {
    images: Vec<Verified>,
    incomplete: Vec<Incomplete>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Verified {
    id: String,
    names: Vec<String>,
    whole: bool,
    /// Damaged, and fetched anew.
    repaired: bool,
    documents: Vec<Part>,
    layers: Vec<Layer>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    digest: String,
    kind: String,
    damage: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Layer {
    diff_id: String,
    bytes: u64,
    inodes: u64,
    method: &'static str,
    damage: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Incomplete {
    id: String,
    names: Vec<String>,
    missing: Vec<String>,
    repaired: bool,
}

impl VerifyArgs {
    /// What repairs authenticate with.
    pub(super) fn credentials(&self) -> anyhow::Result<Auth> {
        self.credentials.read()
    }
}

/// Verifies, repairs if asked to, and fails if something is damaged after that.
pub(super) async fn run(
    daemon: &Daemon,
    args: &VerifyArgs,
    auth: &Auth,
    format: Format,
) -> anyhow::Result<()> {
    let all = args.images.is_empty();
    let names = if all {
        ids(daemon).await?
    } else {
        args.images.clone()
    };
    let auth = args.repair.then_some(auth);
    let mut document = Document {
        images: Vec::new(),
        incomplete: Vec::new(),
    };
    let mut missing = Vec::new();
    for name in &names {
        let Some(report) = verify(daemon, name, args.repair).await? else {
            missing.push(name.clone());
            continue;
        };
        let mut verified = Verified::from(report);
        if let Some(auth) = auth.filter(|_| !verified.whole) {
            verified.repaired = fetch(daemon, &verified.names, auth).await?;
        }
        if format == Format::Table {
            print(&verified.lines())?;
        }
        document.images.push(verified);
    }
    let absent = incomplete(daemon).await?;
    for image in absent
        .into_iter()
        .filter(|image| all || asked_for(image, &mut missing))
    {
        let mut image = Incomplete::from(image);
        if let Some(auth) = auth {
            image.repaired = fetch(daemon, &image.names, auth).await?;
        }
        if format == Format::Table {
            print(&image.lines())?;
        }
        document.incomplete.push(image);
    }
    if format == Format::Json {
        print_json(&document)?;
    }
    verdict(&document, if all { Vec::new() } else { missing })
}

fn verdict(document: &Document, missing: Vec<String>) -> anyhow::Result<()> {
    let damaged = document
        .images
        .iter()
        .filter(|image| !image.whole && !image.repaired)
        .count()
        + document.incomplete.iter().filter(|image| !image.repaired).count();
    if damaged > 0 {
        return Err(CommandError::Damaged { images: damaged }.into());
    }
    if !missing.is_empty() {
        return Err(CommandError::NoImage { names: missing }.into());
    }
    Ok(())
}

async fn ids(daemon: &Daemon) -> Result<Vec<String>, CommandError> {
    let answer = daemon
        .images()
        .list_images(v1::ListImagesRequest::default())
        .await;
    let images = answer.map_err(daemon.failed("ListImages"))?.into_inner().images;
    Ok(images.into_iter().map(|image| image.id).collect())
}

/// `None` if there is no such image.
async fn verify(daemon: &Daemon, image: &str, repair: bool) -> Result<Option<VerifyResponse>, CommandError> {
    let request = VerifyRequest {
        image: image.to_owned(),
        repair,
    };
    match daemon.admin().verify(request).await {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(daemon.failed("`image verify`")(status)),
    }
}

async fn incomplete(daemon: &Daemon) -> Result<Vec<IncompleteImage>, CommandError> {
    let answer = daemon.admin().incomplete(IncompleteRequest {}).await;
    Ok(answer
        .map_err(daemon.failed("`image verify`"))?
        .into_inner()
        .images)
}

/// Whether an incomplete image is among those that no list has; it is taken from them.
fn asked_for(image: &IncompleteImage, missing: &mut Vec<String>) -> bool {
    let before = missing.len();
    missing.retain(|text| {
        let canonical = text
            .parse::<pausa_distribution::Reference>()
            .ok()
            .map(|name| name.to_string());
        let named = image
            .names
            .iter()
            .any(|name| name == text || canonical.as_ref() == Some(name));
        let digits = text.trim_start_matches("sha256:");
        let by_id = !digits.is_empty() && image.id.trim_start_matches("sha256:").starts_with(digits);
        !named && !by_id
    });
    missing.len() < before
}

/// Pulls an image by a digest if it has one, because a tag may mean another image by now. Without a name there is nothing to
/// pull.
async fn fetch(daemon: &Daemon, names: &[String], auth: &Auth) -> anyhow::Result<bool> {
    let by_digest = names.iter().find(|name| name.contains('@'));
    let Some(name) = by_digest.or_else(|| names.first()) else {
        return Ok(false);
    };
    pull::fetch(daemon, name, auth, true).await?;
    Ok(true)
}

fn said(damage: String) -> Option<String> {
    Some(damage).filter(|text| !text.is_empty())
}

impl From<VerifyResponse> for Verified {
    fn from(report: VerifyResponse) -> Self {
        let document = |part: crate::proto::admin::DocumentReport| Part {
            digest: part.digest,
            kind: part.kind,
            damage: said(part.damage),
        };
        let layer = |layer: crate::proto::admin::LayerReport| Layer {
            method: match layer.method() {
                VerifyMethod::Exact => "exact",
                VerifyMethod::Tree => "tree",
                VerifyMethod::Unspecified => "unknown",
            },
            diff_id: layer.diff_id,
            bytes: layer.bytes,
            inodes: layer.inodes,
            damage: said(layer.damage),
        };
        Self {
            id: report.id,
            names: report.names,
            whole: report.whole,
            repaired: false,
            documents: report.documents.into_iter().map(document).collect(),
            layers: report.layers.into_iter().map(layer).collect(),
        }
    }
}

impl Verified {
    /// A line for the image, and one for everything damaged.
    fn lines(&self) -> String {
        let word = word(self.whole, self.repaired, "damaged");
        let bytes = self.layers.iter().map(|layer| layer.bytes).sum();
        let name = self.names.first().unwrap_or(&self.id);
        let mut text = format!(
            "{word:<10}{}: {} layers, {}\n",
            harmless(name),
            self.layers.len(),
            units::size(bytes)
        );
        let documents = self
            .documents
            .iter()
            .map(|part| (part.kind.as_str(), &part.digest, &part.damage));
        let layers = self
            .layers
            .iter()
            .map(|layer| ("layer", &layer.diff_id, &layer.damage));
        for (kind, digest, damage) in documents.chain(layers) {
            if let Some(damage) = damage {
                text.push_str(&format!("          {kind} {digest}: {}\n", harmless(damage)));
            }
        }
        text
    }
}

impl From<IncompleteImage> for Incomplete {
    fn from(image: IncompleteImage) -> Self {
        Self {
            id: image.id,
            names: image.names,
            missing: image.missing,
            repaired: false,
        }
    }
}

impl Incomplete {
    fn lines(&self) -> String {
        let word = word(false, self.repaired, "incomplete");
        let name = self.names.first().unwrap_or(&self.id);
        format!(
            "{word:<10}{}: {} layers are missing\n",
            harmless(name),
            self.missing.len()
        )
    }
}

fn word(whole: bool, repaired: bool, otherwise: &'static str) -> &'static str {
    match (whole, repaired) {
        (true, _) => "whole",
        (false, true) => "repaired",
        (false, false) => otherwise,
    }
}

#[cfg(test)]
mod tests;
