//! Which images there are and what they are called: an immutable snapshot that readers take without waiting.
//!
//! It holds no image alive, so that a reader can never delay the removal of one.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Weak};

use pausa_distribution::{ImageId, Reference};

use super::content::{Config, Content, User};
use super::error::{ImageError, shortened};

/// An image as readers see it.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) config: Config,
    pub(super) tags: Vec<String>,
    pub(super) digests: Vec<String>,
    pub(super) size: u64,
    pub(super) user: User,
    pub(super) content: Weak<Content>,
}

impl Entry {
    /// `sha256:` and 64 hex digits.
    pub(super) fn id(&self) -> String {
        self.config.id.to_string()
    }
}

/// All images.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// By the hex digits of the id.
    images: BTreeMap<String, Arc<Entry>>,
    /// Removed while leased: found by their whole id, for leases only.
    retired: BTreeMap<String, Arc<Entry>>,
    /// `name:tag` and `name@digest`.
    names: HashMap<String, String>,
}

impl Index {
    /// Adds an image. The later one of two with the same name has it.
    pub(super) fn insert(&mut self, entry: Entry, retired: bool) {
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

    /// All images but the retired ones, by id.
    pub(super) fn images(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.images.values()
    }

    /// The image that `text` names: a whole id, a reference, or the beginning of an id.
    ///
    /// A name goes before the beginning of an id, because `cafe` may be a repository.
    pub(super) fn find(&self, text: &str) -> Result<Option<&Arc<Entry>>, ImageError> {
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

    /// As [`find`](Self::find), and retired images by their whole id.
    pub(super) fn find_for_lease(&self, text: &str) -> Result<Option<&Arc<Entry>>, ImageError> {
        if let Some(entry) = self.find(text)? {
            return Ok(Some(entry));
        }
        match ImageId::parse(text) {
            Some(ImageId::Full(digest)) => Ok(self.retired.get(digest.hex())),
            _ => Ok(None),
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
pub(super) fn digest_name(reference: &Reference, digest: &pausa_distribution::Digest) -> String {
    format!("{}@{digest}", reference.name())
}

/// `name:tag`, `None` where a digest decides.
pub(super) fn tag_name(reference: &Reference) -> Option<String> {
    match reference.digest() {
        Some(_) => None,
        None => Some(format!("{}:{}", reference.name(), reference.tag()?)),
    }
}
