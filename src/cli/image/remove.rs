//! `pausa image rm`: removes images by any of their names.

use clap::Args;
use serde::Serialize;

use super::view::{self, ImageView};
use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, print, print_json, tell};
use crate::error::chain;
use crate::proto::v1;

/// What to remove.
#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// References, ids or beginnings of ids.
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Document {
    removed: Vec<ImageView>,
    failed: Vec<Failed>,
}

#[derive(Debug, Serialize)]
struct Failed {
    image: String,
    error: String,
}

/// Removes what can be removed; fails if that is not everything.
pub(super) async fn run(daemon: &Daemon, args: &RemoveArgs, format: Format) -> anyhow::Result<()> {
    let mut done = Document {
        removed: Vec::new(),
        failed: Vec::new(),
    };
    let mut missing = Vec::new();
    for name in &args.images {
        match remove(daemon, name).await {
            Ok(image) => done.removed.push(image),
            Err(CommandError::NoImage { names }) => missing.extend(names),
            // The others would fail in the same way.
            Err(error @ (CommandError::Gone { .. } | CommandError::Unreachable { .. })) => {
                return Err(error.into());
            }
            Err(error) => done.failed.push(Failed {
                image: name.clone(),
                error: chain(&error),
            }),
        }
    }
    let failures = done.failed.len();
    for failed in &done.failed {
        tell(&format!(
            "pausa: cannot remove {}: {}",
            failed.image, failed.error
        ));
    }
    match format {
        Format::Json => print_json(&done)?,
        Format::Table => print(&lines(&done.removed))?,
    }
    match (failures, missing.is_empty()) {
        (0, true) => Ok(()),
        (0, false) => Err(CommandError::NoImage { names: missing }.into()),
        (failures, _) => Err(CommandError::Some {
            failed: failures + missing.len(),
            all: args.images.len(),
        }
        .into()),
    }
}

async fn remove(daemon: &Daemon, name: &str) -> Result<ImageView, CommandError> {
    // CRI removes what is not there without a word; whoever mistypes a name wants to know.
    let Some((image, _)) = view::find(daemon, name, false).await? else {
        return Err(CommandError::NoImage {
            names: vec![name.to_owned()],
        });
    };
    let request = v1::RemoveImageRequest {
        image: Some(view::spec(&image.id)),
    };
    let answer = daemon.images().remove_image(request).await;
    answer.map_err(daemon.failed("RemoveImage"))?;
    Ok(image)
}

/// A line for each name, and one for the image.
fn lines(removed: &[ImageView]) -> String {
    let mut text = String::new();
    for image in removed {
        for name in image.repo_tags.iter().chain(&image.repo_digests) {
            text.extend(["untagged ", name, "\n"]);
        }
        text.extend(["removed ", &image.id, "\n"]);
    }
    text
}
