//! `pausa image rm`: removes images by name or id, or all that are unused.

use clap::Args;
use clap_complete::ArgValueCompleter;

use super::view::{self, ImageView};
use crate::cli::client::Daemon;
use crate::cli::complete;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, print, print_json, print_stderr};
use crate::error::chain;
use crate::proto::admin::{FailedRemoval, PruneRequest, PruneResponse, RemovedImage};
use crate::proto::v1;

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// References, ids or prefixes of ids.
    #[arg(
        value_name = "IMAGE",
        required_unless_present = "prune",
        conflicts_with = "prune",
        add = ArgValueCompleter::new(complete::images)
    )]
    images: Vec<String>,
    /// Remove every image that no container uses and that is not pinned.
    #[arg(long, visible_alias = "all")]
    prune: bool,
    /// Only print what would be removed.
    #[arg(long, requires = "prune")]
    dry_run: bool,
}

/// Removes as many of the images as possible, and fails if that is not all of them.
pub(super) async fn run(daemon: &Daemon, args: &RemoveArgs, format: Format) -> anyhow::Result<()> {
    let (done, missing) = match args.prune {
        true => {
            let request = PruneRequest {
                dry_run: args.dry_run,
            };
            let answer = daemon.admin().prune(request).await;
            let done = answer.map_err(daemon.failed("`image rm --prune`"))?.into_inner();
            (done, Vec::new())
        }
        false => remove_named(daemon, &args.images).await?,
    };
    for failed in &done.failed {
        print_stderr(&format!(
            "pausa: cannot remove {}: {}",
            failed.image, failed.error
        ));
    }
    match format {
        Format::Json => print_json(&done)?,
        Format::Table => print(&lines(&done, args.dry_run))?,
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

/// Also returns the names that no image has.
async fn remove_named(
    daemon: &Daemon,
    names: &[String],
) -> Result<(PruneResponse, Vec<String>), CommandError> {
    let mut done = PruneResponse::default();
    let mut missing = Vec::new();
    for name in names {
        match remove(daemon, name).await {
            Ok(Some(image)) => done.removed.push(image.into()),
            Ok(None) => missing.push(name.clone()),
            // The other calls would fail too.
            Err(error @ CommandError::Gone { .. }) => return Err(error),
            Err(error) => done.failed.push(FailedRemoval {
                image: name.clone(),
                error: chain(&error),
            }),
        }
    }
    Ok((done, missing))
}

async fn remove(daemon: &Daemon, name: &str) -> Result<Option<ImageView>, CommandError> {
    // CRI's RemoveImage succeeds for an image that does not exist, but users want to know of a mistyped name.
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

impl From<ImageView> for RemovedImage {
    fn from(image: ImageView) -> Self {
        Self {
            id: image.id,
            repo_tags: image.repo_tags,
            repo_digests: image.repo_digests,
            size: image.size,
        }
    }
}

/// A line for each name, one for each image, and one for the images that stay.
fn lines(done: &PruneResponse, dry_run: bool) -> String {
    let (untagged, removed) = match dry_run {
        false => ("untagged ", "removed "),
        true => ("would untag ", "would remove "),
    };
    let mut text = String::new();
    for image in &done.removed {
        for name in image.repo_tags.iter().chain(&image.repo_digests) {
            text.extend([untagged, name, "\n"]);
        }
        text.extend([removed, &image.id, "\n"]);
    }
    if let (Some(in_use), Some(pinned)) = (done.in_use, done.pinned) {
        text.push_str(&format!("kept {in_use} in use, {pinned} pinned\n"));
    }
    text
}

#[cfg(test)]
mod tests;
