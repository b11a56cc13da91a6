//! `pausa image export`: writes images to an archive that other tools, and `pausa image import`, can read.
//!
//! Must never: leave an incomplete archive under the requested name.

use std::io::IsTerminal as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use tokio::fs::File;
use tokio::io::AsyncWriteExt as _;

use crate::cli::client::Daemon;
use crate::cli::failure::CommandError;
use crate::cli::output::{Format, print, print_json, print_stderr};
use crate::proto::admin::export_response::Part;
use crate::proto::admin::{ExportRequest, ExportedImage, ExportedImages};

#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The archive to write, an uncompressed tar; `-` is standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// References, ids or prefixes of ids.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<String>,
}

impl ExportArgs {
    fn to_stdout(&self) -> bool {
        self.file == Path::new("-")
    }

    /// Refuses to write an archive to a terminal.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        if self.to_stdout() && std::io::stdout().is_terminal() {
            return Err(CommandError::Usage(
                "standard output is a terminal: give the name of a file, or redirect the output".to_owned(),
            ));
        }
        Ok(())
    }
}

/// Writes the archive, then lists its images: on stderr if the archive goes to stdout.
pub(super) async fn run(daemon: &Daemon, args: &ExportArgs, format: Format) -> anyhow::Result<()> {
    let exported = if args.to_stdout() {
        let mut out = File::from_std(std::io::stdout().as_fd().try_clone_to_owned()?.into());
        receive(daemon, &args.images, &mut out).await?
    } else {
        to_file(daemon, args).await?
    };
    for image in exported.images.iter().filter(|image| !image.exact) {
        print_stderr(&format!(
            "pausa: the layers of {} could not be rebuilt byte for byte; its id in the archive is {}",
            image.id, image.exported_id
        ));
    }
    match format {
        Format::Json if args.to_stdout() => print_stderr(&serde_json::to_string_pretty(&exported)?),
        Format::Table if args.to_stdout() => {}
        Format::Json => print_json(&exported)?,
        Format::Table => print(&lines(&exported.images))?,
    }
    Ok(())
}

/// Writes to a partial file in the same directory and renames it when it is complete.
async fn to_file(daemon: &Daemon, args: &ExportArgs) -> anyhow::Result<ExportedImages> {
    let partial = partial(&args.file)?;
    let received = async {
        let mut file = File::create(&partial)
            .await
            .with_context(|| format!("cannot create {}", partial.display()))?;
        let exported = receive(daemon, &args.images, &mut file).await?;
        let completed = async {
            file.sync_all().await?;
            tokio::fs::rename(&partial, &args.file).await
        };
        completed
            .await
            .with_context(|| format!("cannot complete {}", args.file.display()))?;
        anyhow::Ok(exported)
    };
    let received = received.await;
    if received.is_err() {
        // It may not exist.
        drop(tokio::fs::remove_file(&partial).await);
    }
    received
}

fn partial(file: &Path) -> anyhow::Result<PathBuf> {
    let name = file
        .file_name()
        .with_context(|| format!("{} is not the name of a file", file.display()))?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}.partial", std::process::id()));
    Ok(file.with_file_name(hidden))
}

async fn receive(
    daemon: &Daemon,
    images: &[String],
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
) -> anyhow::Result<ExportedImages> {
    let request = ExportRequest {
        images: images.to_vec(),
    };
    let failed = |status| daemon.failed("`image export`")(status).for_stored_image();
    let answer = daemon.admin().export(request).await;
    let mut stream = answer.map_err(failed)?.into_inner();
    while let Some(message) = stream.message().await.map_err(failed)? {
        match message.part {
            Some(Part::Chunk(chunk)) => to.write_all(&chunk).await.map_err(written)?,
            Some(Part::Done(done)) => {
                to.flush().await.map_err(written)?;
                return Ok(done);
            }
            // Sent by a newer daemon.
            None => {}
        }
    }
    Err(daemon.truncated("`image export`").into())
}

/// A closed pipe is a failure here: an incomplete archive is useless.
fn written(error: std::io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("cannot write the archive")
}

/// In the form of `image import`.
fn lines(images: &[ExportedImage]) -> String {
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
