//! `pausa image rm`: removes images by any of their names, or all that nobody uses.

use clap::Args;
use serde::Serialize;

use super::view::{self, ImageView};
use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, print, print_json, tell};
use crate::error::chain;
use crate::proto::admin::{PruneRequest, PruneResponse, PrunedImage};
use crate::proto::v1;

/// What to remove.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// References, ids or beginnings of ids.
    #[arg(
        value_name = "IMAGE",
        required_unless_present = "prune",
        conflicts_with = "prune"
    )]
    images: Vec<String>,
    /// Every image that no container uses, except pinned ones.
    #[arg(long, visible_alias = "all")]
    prune: bool,
    /// Only say what would go.
    #[arg(long, requires = "prune")]
    dry_run: bool,
}

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    removed: Vec<Removed>,
    failed: Vec<Failed>,
    /// Images that `--prune` left because something uses them.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_use: Option<u64>,
    /// Images that `--prune` left because they are pinned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pinned: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Removed {
    id: String,
    repo_tags: Vec<String>,
    repo_digests: Vec<String>,
    size: u64,
}

#[derive(Debug, Serialize)]
struct Failed {
    image: String,
    error: String,
}

/// Removes what can be removed; fails if that is not everything.
pub(super) async fn run(daemon: &Daemon, args: &RemoveArgs, format: Format) -> anyhow::Result<()> {
    let (done, missing) = match args.prune {
        true => (prune(daemon, args.dry_run).await?, Vec::new()),
        false => named(daemon, &args.images).await?,
    };
    for failed in &done.failed {
        tell(&format!(
            "pausa: cannot remove {}: {}",
            failed.image, failed.error
        ));
    }
    match format {
        Format::Json => print_json(&done)?,
        Format::Table => print(&done.lines(args.dry_run))?,
    }
    match (done.failed.len(), missing.len()) {
        (0, 0) => Ok(()),
        (0, _) => Err(CommandError::NoImage { names: missing }.into()),
        (failed, missing) => Err(CommandError::Some {
            failed: failed + missing,
            all: failed + missing + done.removed.len(),
        }
        .into()),
    }
}

/// What went, and the names that nothing has.
async fn named(daemon: &Daemon, names: &[String]) -> Result<(Document, Vec<String>), CommandError> {
    let mut done = Document::default();
    let mut missing = Vec::new();
    for name in names {
        match remove(daemon, name).await {
            Ok(Some(image)) => done.removed.push(image.into()),
            Ok(None) => missing.push(name.clone()),
            // The others would fail in the same way.
            Err(error @ CommandError::Gone { .. }) => return Err(error),
            Err(error) => done.failed.push(Failed {
                image: name.clone(),
                error: chain(&error),
            }),
        }
    }
    Ok((done, missing))
}

async fn remove(daemon: &Daemon, name: &str) -> Result<Option<ImageView>, CommandError> {
    // CRI removes what is not there without a word; whoever mistypes a name wants to know.
    let Some((image, _)) = view::find(daemon, name, false).await? else {
        return Ok(None);
    };
    let request = v1::RemoveImageRequest {
        image: Some(view::spec(&image.id)),
    };
    let answer = daemon.images().remove_image(request).await;
    answer.map_err(daemon.failed("RemoveImage"))?;
    Ok(Some(image))
}

/// The daemon knows what is in use.
async fn prune(daemon: &Daemon, dry_run: bool) -> Result<Document, CommandError> {
    let answer = daemon.admin().prune(PruneRequest { dry_run }).await;
    let pruned = answer.map_err(daemon.failed("`image rm --prune`"))?.into_inner();
    Ok(pruned.into())
}

impl From<PruneResponse> for Document {
    fn from(pruned: PruneResponse) -> Self {
        let (removed, failed): (Vec<_>, Vec<_>) = pruned
            .images
            .into_iter()
            .partition(|image| image.error.is_empty());
        Self {
            removed: removed.into_iter().map(Removed::from).collect(),
            failed: failed
                .into_iter()
                .map(|image| Failed {
                    image: image.id,
                    error: image.error,
                })
                .collect(),
            in_use: Some(pruned.in_use),
            pinned: Some(pruned.pinned),
        }
    }
}

impl From<ImageView> for Removed {
    fn from(image: ImageView) -> Self {
        Self {
            id: image.id,
            repo_tags: image.repo_tags,
            repo_digests: image.repo_digests,
            size: image.size,
        }
    }
}

impl From<PrunedImage> for Removed {
    fn from(image: PrunedImage) -> Self {
        Self {
            id: image.id,
            repo_tags: image.repo_tags,
            repo_digests: image.repo_digests,
            size: image.size,
        }
    }
}

impl Document {
    /// A line for each name, one for the image, and one for what stays.
    fn lines(&self, dry_run: bool) -> String {
        let (untagged, removed) = match dry_run {
            false => ("untagged ", "removed "),
            true => ("would untag ", "would remove "),
        };
        let mut text = String::new();
        for image in &self.removed {
            for name in image.repo_tags.iter().chain(&image.repo_digests) {
                text.extend([untagged, name, "\n"]);
            }
            text.extend([removed, &image.id, "\n"]);
        }
        if let (Some(in_use), Some(pinned)) = (self.in_use, self.pinned) {
            text.push_str(&format!("kept {in_use} in use, {pinned} pinned\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests;
