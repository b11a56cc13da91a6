//! Leases: while a container has one, the image's layers stay where they are, whatever becomes of the image's names.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;

use crate::image::Images;
use crate::image::error::{ImageError, shortened};
use crate::image::overlay;
use crate::image::store::content::Content;
use crate::image::store::implied_dirs;
use crate::image::store::index::{Index, IndexedImage};
use crate::image::store::layout::Layout;

/// An image in use. Dropping it gives the image free; if the image was removed meanwhile, its data goes then.
#[derive(Debug)]
pub struct Lease {
    content: Arc<Content>,
    layout: Layout,
    reference: String,
    name: String,
}

impl Lease {
    /// `sha256:` and 64 hex digits.
    pub fn id(&self) -> String {
        self.content.config.id.to_string()
    }

    /// The first repo digest, or the id: CRI's `image_ref`.
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The first repo tag, or what was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The image config.
    pub fn config(&self) -> &ImageConfiguration {
        &self.content.config.config
    }

    /// The directories to stack, lowest first; never empty.
    pub fn layers(&self) -> Vec<PathBuf> {
        let shown = implied_dirs::shown(&self.content.layers).iter();
        let mut paths: Vec<PathBuf> = shown
            .map(|layer| self.layout.layer_fs(&layer.record().diff_id))
            .collect();
        paths.extend(implied_dirs::path(
            &self.layout,
            self.content.config.id.hex(),
            self.content.top,
        ));
        if paths.is_empty() {
            vec![self.layout.empty()]
        } else {
            paths
        }
    }

    /// A detached read-only mount of the image; see [`overlay::mount_readonly`].
    ///
    /// # Errors
    /// As [`overlay::mount_readonly`].
    pub fn mount_readonly(&self, users: Option<BorrowedFd<'_>>) -> Result<OwnedFd, ImageError> {
        let mut layers = self.layers();
        // The kernel wants two where nothing is writable.
        if layers.len() == 1 && layers != [self.layout.empty()] {
            layers.insert(0, self.layout.empty());
        }
        overlay::mount_readonly(&layers, users)
    }
}

impl Images {
    /// Whether anybody holds a lease on an image at this moment, by its id.
    pub fn is_leased(&self, id: &str) -> bool {
        let index = self.inner.index.load();
        let entry = index.find(id).ok().flatten();
        // One reference is the store's own. A moment's more, as while the index is rebuilt, errs on the safe side.
        entry.is_some_and(|entry| entry.content.strong_count() > 1)
    }

    /// Takes a lease on an image by any name or id. Images that were removed while leased are found by their whole id.
    ///
    /// # Errors
    /// [`ImageError::NotFound`], [`ImageError::Ambiguous`].
    pub fn lease(&self, reference_or_id: &str) -> Result<Lease, ImageError> {
        let index = self.inner.index.load();
        let (entry, content) = self.hold(&index, reference_or_id)?;
        let first = |names: &[String], other: String| names.first().cloned().unwrap_or(other);
        Ok(Lease {
            layout: self.inner.layout.clone(),
            reference: first(&entry.digests, entry.id()),
            name: first(&entry.tags, reference_or_id.to_owned()),
            content,
        })
    }

    /// The image that `text` names, be it retired, with a hold on what it consists of.
    pub(crate) fn hold<'a>(
        &self,
        index: &'a Index,
        text: &str,
    ) -> Result<(&'a Arc<IndexedImage>, Arc<Content>), ImageError> {
        let entry = match self.find(index, text)? {
            Some(entry) => Some(entry),
            None => index.find_retired(text),
        };
        let held = entry.and_then(|entry| Some((entry, entry.content.upgrade()?)));
        held.ok_or_else(|| ImageError::NotFound {
            reference: shortened(text),
        })
    }
}
