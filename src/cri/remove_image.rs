//! RemoveImage: an image with all its names. Safe to repeat; an unknown image is removed.

use super::backend::ImageService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves RemoveImage.
pub(super) async fn answer<I: ImageService>(
    images: &I,
    request: v1::RemoveImageRequest,
) -> Result<v1::RemoveImageResponse, Failure> {
    let image = require::image("image", request.image)?;
    images.remove(image).await?;
    Ok(v1::RemoveImageResponse {})
}
