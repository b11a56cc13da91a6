//! `pausa image import`: streams an archive to the daemon over its socket.

use std::io::Write as _;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};

use crate::proto::admin::ImportRequest;
use crate::proto::admin::admin_client::AdminClient;

/// How much of the archive goes into one message.
const CHUNK: usize = 256 * 1024;
/// Messages read ahead of the daemon.
const AHEAD: usize = 4;

/// Imports `file` into the daemon at `socket`.
pub(super) fn run(socket: &Path, file: &Path) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(import(socket, file))
}

async fn import(socket: &Path, file: &Path) -> anyhow::Result<()> {
    let archive = open(file)
        .await
        .with_context(|| format!("cannot open the archive {}", file.display()))?;
    let channel = connect(socket).await.with_context(|| {
        format!(
            "cannot reach the daemon at {}; is `pausa serve` running?",
            socket.display()
        )
    })?;
    let (sender, receiver) = tokio::sync::mpsc::channel(AHEAD);
    let reader = tokio::spawn(read(archive, sender));
    let mut client = AdminClient::new(channel);
    let answer = client.import(ReceiverStream::new(receiver)).await;
    // The daemon may give up early, or the file may fail: the file's error explains the daemon's.
    reader
        .await?
        .with_context(|| format!("cannot read the archive {}", file.display()))?;
    let images = answer
        .map_err(|status| anyhow::anyhow!("{}", status.message()))
        .with_context(|| format!("the daemon did not import {}", file.display()))?
        .into_inner()
        .images;
    let mut out = std::io::stdout().lock();
    for image in images {
        if image.names.is_empty() {
            writeln!(out, "{}", image.id)?;
        }
        for name in &image.names {
            writeln!(out, "{} {name}", image.id)?;
        }
    }
    Ok(())
}

async fn open(file: &Path) -> std::io::Result<File> {
    if file == Path::new("-") {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned()?;
        return Ok(File::from_std(stdin.into()));
    }
    File::open(file).await
}

async fn connect(socket: &Path) -> Result<Channel, tonic::transport::Error> {
    let socket = socket.to_owned();
    // The URL is not used; it becomes `:authority`.
    Endpoint::from_static("http://localhost")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        }))
        .await
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
