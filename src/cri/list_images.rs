//! ListImages and StreamImages: all images, or the one a filter names.

use super::backend::ImageService;
use super::stream::{Messages, messages};
use crate::error::Failure;
use crate::proto::v1;

/// Serves ListImages.
pub(super) async fn answer<I: ImageService>(
    images: &I,
    request: v1::ListImagesRequest,
) -> Result<v1::ListImagesResponse, Failure> {
    let images = images.images(request.filter.unwrap_or_default()).await?;
    Ok(v1::ListImagesResponse { images })
}

/// Serves StreamImages.
pub(super) async fn stream<I: ImageService>(
    images: &I,
    request: v1::StreamImagesRequest,
) -> Result<Messages<v1::StreamImagesResponse>, Failure> {
    let items = images.images(request.filter.unwrap_or_default()).await?;
    Ok(messages(items, |images| v1::StreamImagesResponse { images }))
}
