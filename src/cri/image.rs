//! ImageService: every RPC is one operation of [`crate::image`].

use std::sync::Arc;

use pausa_layer::Usage;
use prost::Message as _;
use tonic::{Request, async_trait};

use super::call::{Reply, call, call_with};
use super::stream::{Messages, messages};
use super::{Services, status};
use crate::error::Failure;
use crate::proto::lists::List;
use crate::proto::server::image_service_server::ImageService;
use crate::proto::v1;
use crate::require;
use crate::sandbox::Settings;

impl Services {
    /// The settings, with the runtime handlers that an image may be for.
    fn settings(&self) -> Arc<Settings> {
        self.pods.services().settings()
    }
}

#[async_trait]
impl ImageService for Services {
    /// All images, or the one that the filter names.
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Reply<v1::ListImagesResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async {
            if let Some(image) = &filter.image {
                require::known_handler("filter.image", image, &self.settings().handlers)?;
            }
            let images = self.pods.images().list(filter.image.as_ref());
            Ok::<_, Failure>(v1::ListImagesResponse { images })
        };
        call("ListImages", "", list).await
    }

    type StreamImagesStream = Messages<List>;

    async fn stream_images(
        &self,
        request: Request<v1::StreamImagesRequest>,
    ) -> Reply<Self::StreamImagesStream> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let list = async {
            if let Some(image) = &filter.image {
                require::known_handler("filter.image", image, &self.settings().handlers)?;
            }
            let images = self.pods.images().list(filter.image.as_ref());
            let images = images.iter().map(|image| image.encode_to_vec().into());
            Ok::<_, Failure>(messages(images.collect()))
        };
        call("StreamImages", "", list).await
    }

    /// An image that is absent is an answer, not a failure: kubelet pulls then.
    async fn image_status(&self, request: Request<v1::ImageStatusRequest>) -> Reply<v1::ImageStatusResponse> {
        let request = request.into_inner();
        let name = name(request.image.as_ref());
        let status = async {
            let image = require::image("image", request.image, &self.settings().handlers)?;
            let status = self.pods.images().status(&image, request.verbose)?;
            let found = |(image, info)| v1::ImageStatusResponse {
                image: Some(image),
                info,
            };
            Ok::<_, Failure>(status.map(found).unwrap_or_default())
        };
        call("ImageStatus", &name, status).await
    }

    /// The client sets no deadline, and credentials are never shown.
    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Reply<v1::PullImageResponse> {
        let request = request.into_inner();
        let name = name(request.image.as_ref());
        let pull = async {
            let image = require::image("image", request.image, &self.settings().handlers)?;
            let image_ref = self
                .pods
                .images()
                .pull(&image.image, request.auth.as_ref())
                .await?;
            Ok::<_, Failure>(v1::PullImageResponse { image_ref })
        };
        call_with("PullImage", &name, status::from_pull_failure, pull).await
    }

    /// Removes an image with all its names. An unknown one counts as removed.
    async fn remove_image(&self, request: Request<v1::RemoveImageRequest>) -> Reply<v1::RemoveImageResponse> {
        let request = request.into_inner();
        let name = name(request.image.as_ref());
        let removal = async {
            let image = require::image("image", request.image, &self.settings().handlers)?;
            self.pods.images().remove(&image.image).await?;
            Ok::<_, Failure>(v1::RemoveImageResponse {})
        };
        call("RemoveImage", &name, removal).await
    }

    /// What images and containers take on disk. kubelet asks at its start whether this works at all.
    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Reply<v1::ImageFsInfoResponse> {
        let info = async {
            let writable = self.pods.writable_usage().await;
            let unpacking = self.pods.images().staging_usage().await;
            Ok::<_, Failure>(self.pods.images().fs_info(Usage {
                bytes: writable.bytes.saturating_add(unpacking.bytes),
                inodes: writable.inodes.saturating_add(unpacking.inodes),
            }))
        };
        call("ImageFsInfo", "", info).await
    }
}

fn name(image: Option<&v1::ImageSpec>) -> String {
    image.map_or_else(String::new, |image| image.image.clone())
}
