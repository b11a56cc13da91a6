//! `pausa image import`: streams an archive to the daemon over its socket.

use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context as _;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio_stream::wrappers::ReceiverStream;

use crate::cli::client::Daemon;
use crate::cli::output::{Format, print, print_json};
use crate::proto::admin::{ImportRequest, ImportedImage};

/// Bytes of the archive in one message.
const CHUNK: usize = 256 * 1024;
/// Messages that are read before the daemon takes them.
const READ_AHEAD: usize = 4;

/// Imports `file`, or standard input if it is `-`.
pub(super) async fn run(daemon: &Daemon, file: &Path, format: Format) -> anyhow::Result<()> {
    let archive = open(file)
        .await
        .with_context(|| format!("cannot open the archive {}", file.display()))?;
    let (sender, receiver) = tokio::sync::mpsc::channel(READ_AHEAD);
    let reader = tokio::spawn(read(archive, sender));
    let answer = daemon.admin().import(ReceiverStream::new(receiver)).await;
    // If both failed, the file's error explains the daemon's.
    reader
        .await?
        .with_context(|| format!("cannot read the archive {}", file.display()))?;
    let imported = answer
        .map_err(daemon.failed("`image import`"))
        .with_context(|| format!("the daemon did not import {}", file.display()))?
        .into_inner();
    match format {
        Format::Table => print(&lines(&imported.images)),
        Format::Json => print_json(&imported),
    }
}

/// A line for each name, with the id before it.
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

/// Sends the archive to its end, or until the daemon takes no more. If reading fails, the stream ends early, and the daemon
/// finds the archive truncated.
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
