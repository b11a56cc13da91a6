//! Which images there are and what they are called: an immutable snapshot that readers take without waiting.
//!
//! It holds no image alive, so that a reader can never delay the removal of one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use pausa_distribution::{ImageId, Reference};
use serde::Serialize;

use crate::image::error::{ImageError, shortened};
use crate::image::store::content::{Config, Content, User};

/// What an image occupies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    /// All its layers and its config.
    pub(crate) total: u64,
    /// What removing it alone would free: layers that no other image has. Never 0.
    pub(crate) freed: u64,
}

/// An image that lacks layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incomplete {
    /// `sha256:` and 64 hex digits.
    pub id: String,
    /// Tags, then digests.
    pub names: Vec<String>,
    /// Diff ids of the layers that are not there.
    pub missing: Vec<String>,
}

/// An image as readers see it.
#[derive(Debug, Clone)]
pub(crate) struct IndexedImage {
    pub(crate) config: Config,
    pub(crate) tags: Vec<String>,
    pub(crate) digests: Vec<String>,
    /// Hex digits of the manifests that led here.
    pub(crate) manifests: Vec<String>,
    pub(crate) size: Size,
    pub(crate) user: User,
    /// Directories of its layer on top.
    pub(crate) top: u64,
    pub(crate) content: Weak<Content>,
}

impl IndexedImage {
    /// `sha256:` and 64 hex digits.
    pub(crate) fn id(&self) -> String {
        self.config.id.to_string()
    }
}

/// All images.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// By the hex digits of the id.
    images: BTreeMap<String, Arc<IndexedImage>>,
    /// Removed while leased: found by their whole id, for leases only.
    retired: BTreeMap<String, Arc<IndexedImage>>,
    /// Known by name but not whole: for those who mend or remove them.
    incomplete: BTreeMap<String, Incomplete>,
    /// `name:tag` and `name@digest`.
    names: HashMap<String, String>,
}

impl Index {
    /// Adds an image. The later one of two with the same name has it.
    pub(crate) fn insert(&mut self, entry: IndexedImage, retired: bool) {
        let hex = entry.config.id.hex().to_owned();
        for name in entry.tags.iter().chain(&entry.digests) {
            self.names.insert(name.clone(), hex.clone());
        }
        let map = if retired {
            &mut self.retired
        } else {
            &mut self.images
        };
        map.insert(hex, Arc::new(entry));
    }

    /// Adds an image that is not whole.
    pub(crate) fn insert_incomplete(&mut self, hex: String, image: Incomplete) {
        self.incomplete.insert(hex, image);
    }

    /// Images that are not whole.
    pub(crate) fn incomplete(&self) -> impl Iterator<Item = &Incomplete> {
        self.incomplete.values()
    }

    /// The hex digits of an image that is known by this name or id, but not whole.
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
        let mut all = self.images.values().chain(self.retired.values());
        all.any(|entry| entry.config.diff_ids.contains(hex))
    }

    /// Directories of all layers on top: each is an inode and a block.
    pub(crate) fn tops(&self) -> u64 {
        let all = self.images.values().chain(self.retired.values());
        all.filter(|entry| entry.top > 0).map(|entry| entry.top + 1).sum()
    }

    /// All images but the retired ones, by id.
    pub(crate) fn images(&self) -> impl Iterator<Item = &Arc<IndexedImage>> {
        self.images.values()
    }

    /// The image that `text` names: a whole id, a reference, or the beginning of an id.
    ///
    /// A name goes before the beginning of an id, because `cafe` may be a repository.
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
            (hit, _) => Ok(hit.map(|(_, entry)| entry)),
        }
    }

    /// A retired image by its whole id: for leases only.
    pub(crate) fn find_retired(&self, text: &str) -> Option<&Arc<IndexedImage>> {
        match ImageId::parse(text) {
            Some(ImageId::Full(digest)) => self.retired.get(digest.hex()),
            _ => None,
        }
    }
}

/// The name under which `text` would be in the index, `None` where it is no reference.
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

/// `name:tag`, `None` where a digest decides.
pub(crate) fn tag_name(reference: &Reference) -> Option<String> {
    match reference.digest() {
        Some(_) => None,
        None => Some(format!("{}:{}", reference.name(), reference.tag()?)),
    }
}
