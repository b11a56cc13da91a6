//! The room of images, as the door asks it.

use super::backend::{ArchiveSink, ArchiveStream, ImageService};
use pausa_layer::Usage;

use crate::error::Failure;
use crate::image::Images;
use crate::proto::{admin as wire, v1};
use crate::sandbox::Pods;

mod admin;
mod check;

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
        let writable = self.pods.writable_usage().await?;
        let way = self.images.on_the_way().await;
        Ok(self.images.fs_info(Usage {
            bytes: writable.bytes.saturating_add(way.bytes),
            inodes: writable.inodes.saturating_add(way.inodes),
        }))
    }

    async fn import(&self, archive: ArchiveStream) -> Result<Vec<(String, Vec<String>)>, Failure> {
        let reader = tokio_util::io::StreamReader::new(archive);
        let imported = self.images.import(reader).await?;
        Ok(imported
            .into_iter()
            .map(|image| (image.id, image.names))
            .collect())
    }

    fn pulls(&self) -> Vec<wire::PullProgress> {
        self.images.pulls().into_iter().map(Into::into).collect()
    }

    fn kept(&self) -> Vec<wire::KeptLayer> {
        self.images.kept().into_iter().map(Into::into).collect()
    }

    async fn check(&self, reference: String) -> Result<String, Failure> {
        Ok(check::json(&self.images.explain(&reference).await?))
    }

    async fn names(&self, reference: String) -> Vec<String> {
        // What is no name, or not to be pulled, means nothing.
        let told = self.images.explain(&reference).await;
        let references = told.map(|told| told.references).unwrap_or_default();
        references.into_iter().map(|path| path.reference).collect()
    }

    async fn verify(&self, image: String, repair: bool) -> Result<wire::VerifyResponse, Failure> {
        let report = match repair {
            true => self.images.repair(&image).await?,
            false => self.images.verify(&image).await?,
        };
        Ok(report.into())
    }

    fn incomplete(&self) -> Vec<wire::IncompleteImage> {
        self.images.incomplete().into_iter().map(Into::into).collect()
    }

    async fn export(
        &self,
        images: Vec<String>,
        to: ArchiveSink,
    ) -> Result<Vec<wire::ExportedImage>, Failure> {
        let exported = self.images.export(&images, to).await?;
        Ok(exported.into_iter().map(Into::into).collect())
    }

    async fn prune(&self, dry_run: bool) -> Result<wire::PruneResponse, Failure> {
        let report = self.images.prune(dry_run).await;
        let count = |images: usize| u64::try_from(images).unwrap_or(u64::MAX);
        Ok(wire::PruneResponse {
            images: report.images.into_iter().map(Into::into).collect(),
            in_use: count(report.in_use),
            pinned: count(report.pinned),
        })
    }
}
