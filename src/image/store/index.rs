//! The index of all images by id and name: an immutable snapshot that readers take without waiting.
//!
//! It keeps no image alive, so a reader never delays the removal of one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use pausa_distribution::{ImageId, Reference};

use super::content::{Content, ImageConfig, User};
use crate::image::error::{ImageError, shortened};

/// The size of an image in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// Config and all layers.
    pub(crate) total: u64,
    /// What removing only this image would free: config, and layers that no other image has. Never 0.
    pub(crate) freed: u64,
}

/// An image that lacks layers, or its config. CRI does not show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IncompleteImage {
    /// `sha256:` and 64 hex digits.
    pub(crate) id: String,
    /// Tags, then digests.
    pub(crate) names: Vec<String>,
    /// Diff ids of missing layers, or the id for a missing config.
    pub(crate) missing: Vec<String>,
}

/// An image as readers see it.
#[derive(Debug, Clone)]
pub(crate) struct IndexedImage {
    pub(crate) config: ImageConfig,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
    /// Hex digits of the manifests (and indexes) that led to it.
    pub(crate) manifests: Vec<String>,
    pub(crate) size: Size,
    pub(crate) user: User,
    /// Directories of its own layer on top; 0 without such a layer.
    pub(crate) implied_dirs: u64,
    pub(crate) content: Weak<Content>,
}

impl IndexedImage {
    /// `sha256:` and 64 hex digits.
    pub(crate) fn id(&self) -> String {
        self.config.id.to_string()
    }
}

/// An immutable snapshot of all images.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the hex digits of the id.
    images: BTreeMap<String, Arc<IndexedImage>>,
    /// Removed while leased. They are found only by their whole id, and only for leases.
    removed: BTreeMap<String, Arc<IndexedImage>>,
    /// Incomplete images, to be repaired or removed.
    incomplete: BTreeMap<String, IncompleteImage>,
    /// From `name:tag` and `name@digest` to the hex digits of the id.
    names: HashMap<String, String>,
}

impl Index {
    /// Adds an image. If an earlier one has the same name, this one takes it.
    pub(crate) fn insert(&mut self, image: IndexedImage, removed: bool) {
        let hex = image.config.id.hex().to_owned();
        for name in image.tags.iter().chain(&image.digests) {
            self.names.insert(name.clone(), hex.clone());
        }
        let images = if removed {
            &mut self.removed
        } else {
            &mut self.images
        };
        images.insert(hex, Arc::new(image));
    }

    pub(crate) fn insert_incomplete(&mut self, hex: String, image: IncompleteImage) {
        self.incomplete.insert(hex, image);
    }

    pub(crate) fn incomplete(&self) -> impl Iterator<Item = &IncompleteImage> {
        self.incomplete.values()
    }

    /// The hex digits of an incomplete image with this name or id.
    pub(crate) fn find_incomplete(&self, text: &str) -> Option<String> {
        if let Some(ImageId::Full(digest)) = ImageId::parse(text) {
            let hex = digest.hex();
            return self.incomplete.contains_key(hex).then(|| hex.to_owned());
        }
        let name = name_of(text)?;
        let named = self
            .incomplete
            .iter()
            .find(|(_, image)| image.names.contains(&name));
        named.map(|(hex, _)| hex.clone())
    }

    /// Whether an image has this layer.
    pub(crate) fn has_layer(&self, hex: &String) -> bool {
        let mut all = self.images.values().chain(self.removed.values());
        all.any(|image| image.config.diff_ids.contains(hex))
    }

    /// All directories in `tops/`.
    pub(crate) fn implied_dirs(&self) -> u64 {
        let all = self.images.values().chain(self.removed.values());
        all.filter(|image| image.implied_dirs > 0)
            .map(|image| image.implied_dirs + 1)
            .sum()
    }

    /// All complete images that are not removed, by id.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<IndexedImage>> {
        self.images.values()
    }

    /// The image that `text` names: a whole id, a reference, or the beginning of an id.
    ///
    /// A name takes precedence over the beginning of an id, because `cafe` may be a repository.
    pub(crate) fn find(&self, text: &str) -> Result<Option<&Arc<IndexedImage>>, ImageError> {
        let id = ImageId::parse(text);
        if let Some(ImageId::Full(digest)) = &id {
            return Ok(self.images.get(digest.hex()));
        }
        if let Some(hex) = name_of(text).and_then(|name| self.names.get(&name)) {
            return Ok(self.images.get(hex));
        }
        let Some(ImageId::Prefix(prefix)) = id else {
            return Ok(None);
        };
        let mut hits = self
            .images
            .range::<str, _>((Bound::Included(prefix.as_str()), Bound::Unbounded))
            .take_while(|(hex, _)| hex.starts_with(&prefix));
        match (hits.next(), hits.next()) {
            (Some(_), Some(_)) => Err(ImageError::Ambiguous {
                reference: shortened(text),
            }),
            (hit, _) => Ok(hit.map(|(_, image)| image)),
        }
    }

    /// An image that was removed while leased, by its whole id. For leases only.
    pub(crate) fn find_removed(&self, text: &str) -> Option<&Arc<IndexedImage>> {
        match ImageId::parse(text) {
            Some(ImageId::Full(digest)) => self.removed.get(digest.hex()),
            _ => None,
        }
    }
}

/// The name under which `text` would be in the index, or `None` if it is not a reference.
fn name_of(text: &str) -> Option<String> {
    let reference: Reference = text.parse().ok()?;
    Some(match reference.digest() {
        Some(digest) => digest_name(&reference, digest),
        None => tag_name(&reference)?,
    })
}

/// `name@digest`.
pub(crate) fn digest_name(reference: &Reference, digest: &pausa_distribution::Digest) -> String {
    format!("{}@{digest}", reference.name())
}

/// `name:tag`, or `None` for a reference with a digest.
pub(crate) fn tag_name(reference: &Reference) -> Option<String> {
    match reference.digest() {
        Some(_) => None,
        None => Some(format!("{}:{}", reference.name(), reference.tag()?)),
    }
}
