//! What an image is, apart from its names: config, layers, user. Parsed once from documents that are hostile.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use oci_spec::image::ImageConfiguration;
use pausa_distribution::{Algorithm, Digest};

use crate::image::error::{ImageError, shortened};
use crate::image::store::layers::Layer;
use crate::image::store::metadata::MetadataJob;

/// Largest image config.
pub(crate) const CONFIG_MAX: usize = 8 << 20;
/// As many layers as the kernel stacks (OVL_MAX_STACK).
pub(crate) const LAYERS_MAX: usize = 500;

/// An image config that was read, and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Its digest, which is the image's id.
    pub(crate) id: Digest,
    pub(crate) config: Arc<ImageConfiguration>,
    /// Hex digits, lowest layer first.
    pub(crate) diff_ids: Vec<String>,
    /// Its size in bytes.
    pub(crate) size: u64,
}

impl Config {
    /// Reads the config whose digest is `id`.
    pub(crate) fn parse(bytes: &[u8], id: Digest) -> Result<Self, ImageError> {
        let unusable = |reason: String| ImageError::Config {
            digest: id.to_string(),
            reason,
        };
        if id.algorithm() != Algorithm::Sha256 {
            return Err(unusable("only sha256 digests serve as image ids".to_owned()));
        }
        let config: ImageConfiguration =
            serde_json::from_slice(bytes).map_err(|error| unusable(shortened(&error.to_string())))?;
        let listed = config.rootfs().diff_ids();
        if listed.len() > LAYERS_MAX {
            return Err(unusable(format!("it has more than {LAYERS_MAX} layers")));
        }
        let mut diff_ids = Vec::with_capacity(listed.len());
        for text in listed {
            match text.parse::<Digest>() {
                Ok(digest) if digest.algorithm() == Algorithm::Sha256 => {
                    diff_ids.push(digest.hex().to_owned());
                }
                _ => return Err(unusable(format!("{:?} is no sha256 diff id", shortened(text)))),
            }
        }
        Ok(Self {
            id,
            config: Arc::new(config),
            diff_ids,
            size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        })
    }

    /// The chain id of the topmost layer (OCI image spec, config.md "Layer ChainID"); empty without layers.
    pub(crate) fn chain_id(&self) -> String {
        let mut chain = String::new();
        for hex in &self.diff_ids {
            let diff_id = format!("sha256:{hex}");
            chain = if chain.is_empty() {
                diff_id
            } else {
                Digest::sha256(format!("{chain} {diff_id}").as_bytes()).to_string()
            };
        }
        chain
    }
}

/// The user a config names, as CRI wants to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    Uid(i64),
    Name(String),
}

impl User {
    /// `user`, `user:group`, `uid` or `uid:gid`; nothing is root. What is no uid of Linux is a name, never another uid.
    pub(crate) fn parse(text: &str) -> Self {
        let user = text.split(':').next().unwrap_or_default();
        if user.is_empty() {
            return Self::Uid(0);
        }
        match user.parse::<u32>() {
            Ok(uid) if user.bytes().all(|b| b.is_ascii_digit()) => Self::Uid(i64::from(uid)),
            _ => Self::Name(user.to_owned()),
        }
    }
}

/// An image's data: as long as one of these lives, its layers and its record stay.
pub(crate) struct Content {
    pub(crate) config: Config,
    /// Lowest first.
    pub(crate) layers: Vec<Arc<Layer>>,
    /// Directories of the image's own layer on top.
    pub(crate) top: u64,
    pub(crate) generation: u64,
    /// Giving it up means nothing: what it held is in other hands.
    pub(crate) silent: bool,
    pub(crate) keeper: Sender<MetadataJob>,
    pub(crate) closing: Arc<AtomicBool>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({})", self.config.id)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if !self.silent && !self.closing.load(Ordering::Acquire) {
            let job = MetadataJob::Forget {
                hex: self.config.id.hex().to_owned(),
                generation: self.generation,
                layers: std::mem::take(&mut self.layers),
            };
            // Without its thread the store is closing anyway.
            drop(self.keeper.send(job));
        }
    }
}
