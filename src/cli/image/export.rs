//! `pausa image export`: images as an archive that other tools, and `pausa image import`, read.
//!
//! Must never: leave a file under the wanted name that is not the whole archive.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, print, print_json, tell};
use crate::proto::admin::export_response::Part;
use crate::proto::admin::{ExportRequest, ExportedImage};

/// What to export, and where to.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The archive to write, an uncompressed tar; `-` is standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// References, ids or beginnings of ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Document {
    images: Vec<Exported>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Exported {
    id: String,
    exported_id: String,
    names: Vec<String>,
    exact: bool,
}

impl ExportArgs {
    fn to_stdout(&self) -> bool {
        self.file == Path::new("-")
    }

    /// An archive on a terminal helps nobody.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        if self.to_stdout() && std::io::stdout().is_terminal() {
            return Err(CommandError::Usage(
                "standard output is a terminal: name a file, or send the archive through a pipe".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Writes the archive, then says what it holds: on stderr where stdout is the archive.
pub(super) async fn run(daemon: &Daemon, args: &ExportArgs, format: Format) -> anyhow::Result<()> {
    let exported = if args.to_stdout() {
        let mut out = File::from_std(std::io::stdout().as_fd().try_clone_to_owned()?.into());
        receive(daemon, &args.images, &mut out).await?
    } else {
        to_file(daemon, args).await?
    };
    for image in exported.iter().filter(|image| !image.exact) {
        tell(&format!(
            "pausa: {} could not be made again byte for byte; its id in the archive is {}",
            image.id, image.exported_id
        ));
    }
    let images = exported.into_iter().map(Exported::from).collect();
    match format {
        Format::Json if !args.to_stdout() => print_json(&Document { images }),
        Format::Json => {
            tell(&serde_json::to_string_pretty(&Document { images })?);
            Ok(())
        }
        Format::Table if !args.to_stdout() => print(&lines(&images)),
        Format::Table => Ok(()),
    }
}

/// Beside the wanted file first: under its name there is the whole archive or what was there before.
async fn to_file(daemon: &Daemon, args: &ExportArgs) -> anyhow::Result<Vec<ExportedImage>> {
    let beside = beside(&args.file)?;
    let received = async {
        let mut file = File::create(&beside)
            .await
            .with_context(|| format!("cannot create {}", beside.display()))?;
        let exported = receive(daemon, &args.images, &mut file).await?;
        let done = async {
            file.sync_all().await?;
            tokio::fs::rename(&beside, &args.file).await
        };
        done.await
            .with_context(|| format!("cannot complete {}", args.file.display()))?;
        anyhow::Ok(exported)
    };
    let received = received.await;
    if received.is_err() {
        // Often it was never made.
        drop(tokio::fs::remove_file(&beside).await);
    }
    received
}

fn beside(file: &Path) -> anyhow::Result<PathBuf> {
    let name = file
        .file_name()
        .with_context(|| format!("{} is no name for a file", file.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    Ok(file.with_file_name(hidden))
}

async fn receive(
    daemon: &Daemon,
    images: &[String],
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> anyhow::Result<Vec<ExportedImage>> {
    let request = ExportRequest {
        images: images.to_vec(),
    };
    let failed = |status| daemon.failed("`image export`")(status).of_stored();
    let answer = daemon.admin().export(request).await;
    let mut stream = answer.map_err(failed)?.into_inner();
    while let Some(message) = stream.message().await.map_err(failed)? {
        match message.part {
            Some(Part::Chunk(chunk)) => to.write_all(&chunk).await.map_err(written)?,
            Some(Part::Done(done)) => {
                to.flush().await.map_err(written)?;
                return Ok(done.images);
            }
            // Of a newer daemon.
            None => {}
        }
    }
    Err(daemon.cut_short("`image export`").into())
}

/// Even a reader that went away is a failure here: half an archive is none.
fn written(error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("cannot write the archive")
}

impl From<ExportedImage> for Exported {
    fn from(image: ExportedImage) -> Self {
        Self {
            id: image.id,
            exported_id: image.exported_id,
            names: image.names,
            exact: image.exact,
        }
    }
}

/// As `image import` prints them.
fn lines(images: &[Exported]) -> String {
    let mut text = String::new();
    for image in images {
        if image.names.is_empty() {
            text.extend([&image.exported_id, "\n"]);
        }
        for name in &image.names {
            text.extend([&image.exported_id, " ", name, "\n"]);
        }
    }
    text
}

#[cfg(test)]
mod tests;
