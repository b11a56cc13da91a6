//! Images as CRI shows them.

use std::collections::BTreeMap;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use pausa_layer::Usage;

use super::error::{ImageError, io_error};
use crate::error::chain;
use crate::image::Images;
use crate::image::pull::fetch::blocking;
use crate::image::store::content::User;
use crate::image::store::files;
use crate::image::store::index::IndexedImage;
use crate::proto::v1;

/// What a directory of a layer on top occupies.
const BLOCK: u64 = 4096;

/// An image and, if asked for, its verbose `info`.
pub type Status = (v1::Image, BTreeMap<String, String>);

impl Images {
    /// All images, or those that `filter` names. What names none gives an empty list.
    pub fn images(&self, filter: Option<&v1::ImageSpec>) -> Vec<v1::Image> {
        let index = self.inner.index.load();
        match filter
            .map(|spec| spec.image.as_str())
            .filter(|image| !image.is_empty())
        {
            None => index.images().map(|entry| self.shown(entry)).collect(),
            Some(image) => match self.find(&index, image) {
                Ok(Some(entry)) => vec![self.shown(entry)],
                // A filter that fits nothing, or too much, is no failure of a list.
                Ok(None) | Err(_) => Vec::new(),
            },
        }
    }

    /// One image, `None` if it is not there; with `verbose` also its `info`.
    ///
    /// # Errors
    /// [`ImageError::Ambiguous`] for the beginning of more than one id.
    pub fn status(&self, spec: &v1::ImageSpec, verbose: bool) -> Result<Option<Status>, ImageError> {
        let index = self.inner.index.load();
        let Some(entry) = self.find(&index, &spec.image)? else {
            return Ok(None);
        };
        let mut info = BTreeMap::new();
        if verbose {
            let text = serde_json::json!({
                "chainID": entry.config.chain_id(),
                "imageSpec": &*entry.config.config,
                "sizes": {
                    "total": entry.size.total,
                    "shared": entry.size.total.saturating_sub(entry.size.freed),
                    "freed": entry.size.freed,
                },
            });
            info.insert("info".to_owned(), text.to_string());
        }
        Ok(Some((self.shown(entry), info)))
    }

    /// What layers occupy that are on their way in, or out: not in [`fs_info`](Self::fs_info) yet, or no more. Measured; most of
    /// the time there is nothing.
    pub async fn on_the_way(&self) -> Usage {
        let staging = self.inner.layout.staging();
        let measured = blocking("measuring layers on their way", move || {
            let dir = files::open_dir(&staging)?;
            let empty = dir.metadata().map_err(io_error("fstat", &staging))?;
            let all = pausa_layer::usage(dir.as_fd()).map_err(|source| ImageError::Unpack {
                diff_id: staging.display().to_string(),
                source: Box::new(source),
            })?;
            // The directory itself is there for good.
            Ok(Usage {
                bytes: all.bytes.saturating_sub(empty.blocks().saturating_mul(512)),
                inodes: all.inodes.saturating_sub(1),
            })
        });
        measured.await.unwrap_or_else(|error| {
            tracing::debug!(
                error = chain(&error),
                "layers on their way are not in ImageFsInfo"
            );
            Usage::default()
        })
    }

    /// What images occupy, and on the same file system `writable`: what the caller measured of containers' writable layers and of
    /// layers [on their way](Self::on_the_way).
    pub fn fs_info(&self, writable: Usage) -> v1::ImageFsInfoResponse {
        let mut layers = self.inner.layers.usage();
        let tops = self.inner.index.load().tops();
        layers.inodes = layers.inodes.saturating_add(tops);
        layers.bytes = layers.bytes.saturating_add(tops.saturating_mul(BLOCK));
        let usage = v1::FilesystemUsage {
            timestamp: crate::state::now(),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: self.inner.layout.base().display().to_string(),
            }),
            used_bytes: Some(v1::UInt64Value {
                value: layers.bytes.saturating_add(writable.bytes),
            }),
            inodes_used: Some(v1::UInt64Value {
                value: layers.inodes.saturating_add(writable.inodes),
            }),
        };
        // Equal tells kubelet that images and containers share one file system.
        v1::ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        }
    }

    fn shown(&self, entry: &Arc<IndexedImage>) -> v1::Image {
        let (uid, username) = match &entry.user {
            User::Uid(uid) => (Some(v1::Int64Value { value: *uid }), String::new()),
            User::Name(name) => (None, name.clone()),
        };
        v1::Image {
            id: entry.id(),
            repo_tags: entry.tags.clone(),
            repo_digests: entry.digests.clone(),
            // kubelet's garbage collection sums up what it removes until enough is free: only what would be freed is true.
            size: entry.size.freed,
            uid,
            username,
            spec: Some(v1::ImageSpec {
                image: entry.id(),
                ..Default::default()
            }),
            pinned: self.inner.pinned.covers(entry.tags.iter().chain(&entry.digests)),
        }
    }
}
