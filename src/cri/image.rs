//! ImageService: every RPC to its own file.
//!
//! Must never: do anything here but choose the file and name what the request is about, for the log.

use tonic::{Request, async_trait};

use super::backend::ImageService as Images;
use super::call::{Reply, call, call_with};
use super::stream::Messages;
use super::{ImageDoor, image_status, list_images, pull_image, remove_image, status};
use crate::proto::v1;
use crate::proto::v1::image_service_server::ImageService;

#[async_trait]
impl<I: Images> ImageService for ImageDoor<I> {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Reply<v1::ListImagesResponse> {
        let request = request.into_inner();
        call("ListImages", "", list_images::answer(&*self.images, request)).await
    }

    type StreamImagesStream = Messages<v1::StreamImagesResponse>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Reply<Self::StreamImagesStream> {
        let request = request.into_inner();
        call("StreamImages", "", list_images::stream(&*self.images, request)).await
    }

    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Reply<v1::ImageStatusResponse> {
        let request = request.into_inner();
        let subject = name(request.image.as_ref());
        call(
            "ImageStatus",
            &subject,
            image_status::answer(&*self.images, request),
        )
        .await
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Reply<v1::PullImageResponse> {
        let request = request.into_inner();
        let subject = name(request.image.as_ref());
        call_with(
            "PullImage",
            &subject,
            status::from_pull_failure,
            pull_image::answer(&*self.images, request),
        )
        .await
    }

    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Reply<v1::RemoveImageResponse> {
        let request = request.into_inner();
        let subject = name(request.image.as_ref());
        call(
            "RemoveImage",
            &subject,
            remove_image::answer(&*self.images, request),
        )
        .await
    }

    /// ImageFsInfo has nothing to decode: kubelet asks at its start whether it works at all.
    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Reply<v1::ImageFsInfoResponse> {
        call("ImageFsInfo", "", self.images.fs_info()).await
    }
}

fn name(image: Option<&v1::ImageSpec>) -> String {
    image.map_or_else(String::new, |image| image.image.clone())
}
