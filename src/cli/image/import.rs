//! `pausa image import`: streams an archive to the daemon over its socket.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context as _;
use serde::Serialize;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::client::Daemon;
use crate::cli::output::{Format, print, print_json};
use crate::proto::admin::{ImportRequest, ImportedImage};

/// How much of the archive goes into one message.
const CHUNK: usize = 256 * 1024;
/// Messages read ahead of the daemon.
const AHEAD: usize = 4;

/// What was stored.
#[derive(Serialize)]
struct Document {
    images: Vec<Imported>,
}

/// One image of the archive.
#[derive(Serialize)]
struct Imported {
    id: String,
    names: Vec<String>,
}

/// Imports `file`.
pub(super) async fn run(daemon: &Daemon, file: &Path, format: Format) -> anyhow::Result<()> {
    let archive = open(file)
        .await
        .with_context(|| format!("cannot open the archive {}", file.display()))?;
    let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
    let reader = tokio::spawn(read(archive, sender));
    let answer = daemon.admin().import(ReceiverStream::new(receiver)).await;
    // The daemon may give up early, or the file may fail: the file's error explains the daemon's.
    reader
        .await?
        .with_context(|| format!("cannot read the archive {}", file.display()))?;
    let images = answer
        .map_err(daemon.failed("`image import`"))
        .with_context(|| format!("the daemon did not import {}", file.display()))?
        .into_inner()
        .images;
    match format {
        Format::Table => print(&lines(&images)),
        Format::Json => {
            let images = images
                .into_iter()
                .map(|ImportedImage { id, names }| Imported { id, names });
            print_json(&Document {
                images: images.collect(),
            })
        }
    }
}

/// An id a line, with each of its names.
fn lines(images: &[ImportedImage]) -> String {
    let mut text = String::new();
    for image in images {
        if image.names.is_empty() {
            text.extend([&image.id, "\n"]);
        }
        for name in &image.names {
            text.extend([&image.id, " ", name, "\n"]);
        }
    }
    text
}

async fn open(file: &Path) -> std::io::Result<File> {
    if file == Path::new("-") {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
        return Ok(File::from_std(stdin.into()));
    }
    File::open(file).await
}

/// Reads the archive until its end, or until nobody wants more. A failed read ends the stream early, which
/// an archive cannot survive: the daemon finds it truncated.
async fn read(
    mut archive: impl AsyncRead + Unpin,
    to: tokio::sync::mpsc::Sender<ImportRequest>,
) -> std::io::Result<()> {
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            if (&mut archive)
                .take(u64::try_from(CHUNK - chunk.len()).unwrap_or(u64::MAX))
                .read_buf(&mut chunk)
                .await?
                == 0
            {
                break;
            }
        }
        if chunk.is_empty() || to.send(ImportRequest { chunk }).await.is_err() {
            return Ok(());
        }
    }
}
