//! The room of images, as the door asks it.

use super::backend::{ArchiveStream, ImageService};
use crate::error::Failure;
use crate::image::{ImageError, Images};
use crate::proto::v1;
use crate::sandbox::Pods;

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self::from_error(error.kind(), &error)
    }
}

/// Images, and the pods whose writable layers lie in the same file system.
#[derive(Debug)]
pub struct Storage {
    /// Images.
    pub images: Images,
    /// Pods.
    pub pods: Pods,
}

impl ImageService for Storage {
    async fn pull(
        &self,
        image: v1::ImageSpec,
        auth: Option<v1::AuthConfig>,
        _sandbox: Option<v1::PodSandboxConfig>,
    ) -> Result<String, Failure> {
        Ok(self.images.pull(&image.image, auth.as_ref()).await?)
    }

    async fn images(&self, filter: v1::ImageFilter) -> Result<Vec<v1::Image>, Failure> {
        Ok(self.images.images(filter.image.as_ref()))
    }

    async fn image_status(
        &self,
        image: v1::ImageSpec,
        verbose: bool,
    ) -> Result<v1::ImageStatusResponse, Failure> {
        Ok(match self.images.status(&image, verbose)? {
            Some((image, info)) => v1::ImageStatusResponse {
                image: Some(image),
                info,
            },
            None => v1::ImageStatusResponse::default(),
        })
    }

    async fn remove(&self, image: v1::ImageSpec) -> Result<(), Failure> {
        Ok(self.images.remove(&image.image).await?)
    }

    async fn fs_info(&self) -> Result<v1::ImageFsInfoResponse, Failure> {
        Ok(self.images.fs_info(self.pods.writable_usage().await?))
    }

    async fn import(&self, archive: ArchiveStream) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let reader = tokio_util::io::StreamReader::new(archive);
        let imported = self.images.import(reader).await?;
        Ok(imported
            .into_iter()
            .map(|image| (image.id, image.names))
            .collect())
    }
}
