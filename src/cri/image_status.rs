//! ImageStatus: one image. None is an answer, not a failure: kubelet pulls then.

use super::backend::ImageService;
use super::require;
use crate::error::Failure;
use crate::proto::v1;

/// Serves ImageStatus.
pub(super) async fn answer<I: ImageService>(
    images: &I,
    request: v1::ImageStatusRequest,
) -> Result<v1::ImageStatusResponse, Failure> {
    let image = require::image("image", request.image)?;
    images.image_status(image, request.verbose).await
}
