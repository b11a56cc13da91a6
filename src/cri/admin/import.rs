//! Admin Import: stores the images of an archive that comes in pieces.

use futures_util::StreamExt;
use tonic::Streaming;

use crate::cri::backend::{ArchiveStream, ImageService};
use crate::error::Failure;
use crate::proto::admin;

/// Serves Import.
pub(super) async fn answer<I: ImageService>(
    images: &I,
    pieces: Streaming<admin::ImportRequest>,
) -> Result<admin::ImportResponse, Failure> {
    let archive: ArchiveStream = Box::pin(pieces.map(|piece| match piece {
        Ok(piece) => Ok(piece.chunk.into()),
        Err(status) => Err(std::io::Error::other(status)),
    }));
    let images = images.import(archive).await?;
    let images = images
        .into_iter()
        .map(|(id, names)| admin::ImportedImage { id, names })
        .collect();
    Ok(admin::ImportResponse { images })
}
