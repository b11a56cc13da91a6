//! PullImage: fetches an image; the answer is its id. There is no deadline, and credentials are never shown.

use super::backend::ImageService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves PullImage.
pub(super) async fn answer<I: ImageService>(
    images: &I,
    request: v1::PullImageRequest,
) -> Result<v1::PullImageResponse, Failure> {
    let image = require::image("image", request.image)?;
    let image_ref = images.pull(image, request.auth, request.sandbox_config).await?;
    Ok(v1::PullImageResponse { image_ref })
}
