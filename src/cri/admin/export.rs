//! Admin Export: images as one tar, sent while it is made.
//!
//! ```text
//!  a task makes the archive ──pipe──▶ chunk ▶ chunk ▶ … ▶ done, or a status if the task failed
//! ```
//!
//! Nothing is kept on disk, and no more in memory than the client is behind: a slow client slows the export, and one that
//! goes away ends it, because nobody empties the pipe any more.

use futures_util::stream;
use tokio::io::{AsyncReadExt, DuplexStream};
use tokio::task::JoinHandle;
use tonic::Status;

use crate::cri::status;
use crate::cri::stream::Messages;
use crate::error::{ErrorKind, Failure};
use crate::image::Images;
use crate::proto::admin;
use crate::proto::admin::export_response::Part;
use crate::require;

/// Bytes in one message at most.
const CHUNK: usize = 256 * 1024;

/// Begins to make the archive; the stream ends with it.
pub(super) fn begin(
    images: Images,
    request: admin::ExportRequest,
) -> Result<Messages<admin::ExportResponse>, Failure> {
    if request.images.is_empty() {
        return Err(require::invalid("the field images is required and empty"));
    }
    let (to, from) = tokio::io::duplex(CHUNK);
    let made = tokio::spawn(async move {
        let exported = images.export(&request.images, to).await?;
        Ok(exported.into_iter().map(Into::into).collect())
    });
    let sending = Some(Sending { from, made });
    Ok(Box::pin(stream::unfold(sending, async |sending| {
        Some(sending?.next().await)
    })))
}

struct Sending {
    from: DuplexStream,
    made: JoinHandle<Result<Vec<admin::ExportedImage>, Failure>>,
}

impl Sending {
    async fn next(mut self) -> (Result<admin::ExportResponse, Status>, Option<Self>) {
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK {
            let room = u64::try_from(CHUNK - chunk.len()).unwrap_or(u64::MAX);
            match (&mut self.from).take(room).read_buf(&mut chunk).await {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) => return (Err(failed(ErrorKind::Internal, &error)), None),
            }
        }
        if !chunk.is_empty() {
            return (part(Part::Chunk(chunk)), Some(self));
        }
        let end = match self.made.await {
            Ok(Ok(images)) => part(Part::Done(admin::ExportedImages { images })),
            Ok(Err(failure)) => Err(status::from_failure(failure)),
            Err(panic) => Err(failed(ErrorKind::Internal, &panic)),
        };
        (end, None)
    }
}

fn part(part: Part) -> Result<admin::ExportResponse, Status> {
    Ok(admin::ExportResponse { part: Some(part) })
}

fn failed(kind: ErrorKind, error: &(dyn std::error::Error + 'static)) -> Status {
    status::from_failure(Failure::from_error(kind, error))
}
