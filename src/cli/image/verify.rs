//! `pausa image verify`: whether images are undamaged on disk.
//!
//! The daemon reads and compares them. With `--repair` it quarantines damaged layers, and the pull that follows fetches only
//! these.

use clap::Args;
use serde::Serialize;

use super::pull::{self, Auth, CredentialArgs};
use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, escape, print, print_json};
use crate::cli::units;
use crate::proto::admin::{IncompleteImage, IncompleteRequest, VerifyRequest, VerifyResponse};
use crate::proto::v1;

#[derive(Debug, Args)]
pub(super) struct VerifyArgs {
    /// References, ids or prefixes of ids; all images if none is given.
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
    /// Fetch damaged and missing parts again. Fails while a container uses a damaged layer.
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
struct Verified {
    #[serde(flatten)]
    report: VerifyResponse,
    /// Whether the image was damaged and has been fetched again.
    repaired: bool,
}

#[derive(Debug, Serialize)]
struct Incomplete {
    #[serde(flatten)]
    image: IncompleteImage,
    /// Whether the missing layers have been fetched.
    repaired: bool,
}

impl VerifyArgs {
    /// Credentials for the pulls of `--repair`.
    pub(super) fn credentials(&self) -> anyhow::Result<Auth> {
        self.credentials.read()
    }
}

/// Verifies images, repairs them if requested, and fails if damage remains.
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
        let mut verified = Verified {
            report,
            repaired: false,
        };
        if let Some(auth) = auth.filter(|_| !verified.report.whole) {
            verified.repaired = fetch(daemon, &verified.report.names, auth).await?;
        }
        if format == Format::Table {
            print(&verified.lines())?;
        }
        document.images.push(verified);
    }
    for image in incomplete(daemon).await? {
        if !all && !take_requested(&image, &mut missing) {
            continue;
        }
        let mut incomplete = Incomplete {
            image,
            repaired: false,
        };
        if let Some(auth) = auth {
            incomplete.repaired = fetch(daemon, &incomplete.image.names, auth).await?;
        }
        if format == Format::Table {
            print(&incomplete.line())?;
        }
        document.incomplete.push(incomplete);
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
        .filter(|image| !image.report.whole && !image.repaired)
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

/// Removes from `missing` the names of an incomplete image and returns whether there were any: CRI does not list it, so it
/// was taken for missing.
fn take_requested(image: &IncompleteImage, missing: &mut Vec<String>) -> bool {
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

/// Pulls an image, by a digest if it has one, because a tag may point to another image by now. Returns `false` if it has no
/// name to pull it by.
async fn fetch(daemon: &Daemon, names: &[String], auth: &Auth) -> anyhow::Result<bool> {
    let by_digest = names.iter().find(|name| name.contains('@'));
    let Some(name) = by_digest.or_else(|| names.first()) else {
        return Ok(false);
    };
    pull::fetch(daemon, name, auth, true).await?;
    Ok(true)
}

impl Verified {
    /// A line for the image, and one for each damaged part.
    fn lines(&self) -> String {
        let report = &self.report;
        let word = word(report.whole, self.repaired, "damaged");
        let bytes = report.layers.iter().map(|layer| layer.bytes).sum();
        let name = report.names.first().unwrap_or(&report.id);
        let mut text = format!(
            "{word:<10}{}: {} layers, {}\n",
            escape(name),
            report.layers.len(),
            units::size(bytes)
        );
        let documents = report
            .documents
            .iter()
            .map(|document| (document.kind.as_str(), &document.digest, &document.damage));
        let layers = report
            .layers
            .iter()
            .map(|layer| ("layer", &layer.diff_id, &layer.damage));
        for (kind, digest, damage) in documents.chain(layers) {
            if let Some(damage) = damage {
                text.push_str(&format!("          {kind} {digest}: {}\n", escape(damage)));
            }
        }
        text
    }
}

impl Incomplete {
    fn line(&self) -> String {
        let word = word(false, self.repaired, "incomplete");
        let name = self.image.names.first().unwrap_or(&self.image.id);
        format!(
            "{word:<10}{}: {} layers are missing\n",
            escape(name),
            self.image.missing.len()
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
