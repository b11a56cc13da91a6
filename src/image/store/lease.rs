//! A lease keeps an image's layers on disk while a container or an image volume uses them, even if the image
//! is removed.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use super::content::Content;
use super::implied_dirs;
use super::index::IndexedImage;
use super::layout::Layout;
use crate::image::error::ImageError;
use crate::image::overlay;

/// An image in use. If the image was removed meanwhile, its data is removed when the last lease is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    content: Arc<Content>,
    layout: Layout,
    reference: String,
    name: String,
}

impl Lease {
    /// `asked` is the name or id that the image was found by.
    pub(crate) fn new(layout: &Layout, image: &IndexedImage, content: Arc<Content>, asked: &str) -> Self {
        Self {
            content,
            layout: layout.clone(),
            reference: image.digests.first().cloned().unwrap_or_else(|| image.id()),
            name: image.tags.first().cloned().unwrap_or_else(|| asked.to_owned()),
        }
    }

    /// `sha256:` and 64 hex digits.
    pub(crate) fn id(&self) -> String {
        self.content.config.id.to_string()
    }

    /// The first repo digest, or the id: CRI's `image_ref`.
    pub(crate) fn reference(&self) -> &str {
        &self.reference
    }

    /// The first repo tag, or the name or id that the image was found by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn config(&self) -> &ImageConfiguration {
        &self.content.config.document
    }

    /// The directories to stack, lowest first. Never empty.
    pub(crate) fn layers(&self) -> Vec<PathBuf> {
        let visible = implied_dirs::visible(&self.content.layers).iter();
        let mut paths: Vec<PathBuf> = visible
            .map(|layer| self.layout.layer_fs(&layer.record().diff_id))
            .collect();
        if self.content.implied_dirs > 0 {
            paths.push(self.layout.implied_dirs_of(self.content.config.id.hex()));
        }
        if paths.is_empty() {
            paths.push(self.layout.empty());
        }
        paths
    }

    /// A detached read-only mount of the image.
    ///
    /// # Errors
    /// As [`overlay::mount_readonly`].
    pub(crate) fn mount_readonly(
        &self,
        users: Option<BorrowedFd<'_>>,
        label: Option<&str>,
    ) -> Result<OwnedFd, ImageError> {
        let mut layers = self.layers();
        // The kernel wants at least two layers if none is writable.
        if layers.len() == 1 && layers != [self.layout.empty()] {
            layers.insert(0, self.layout.empty());
        }
        overlay::mount_readonly(&layers, users, label)
    }
}
