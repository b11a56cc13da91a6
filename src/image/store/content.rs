//! An image without its names: config, layers, user. Parsed once, from documents that may be hostile.

use std::fmt;
use std::sync::Arc;

use oci_spec::image::ImageConfiguration;
use pausa_distribution::{Algorithm, Digest};

use super::layers::Layer;
use crate::image::error::{ImageError, shortened};

/// Largest image config.
pub(crate) const CONFIG_MAX: usize = 8 << 20;
/// Most layers: the kernel does not stack more (OVL_MAX_STACK).
pub(crate) const LAYERS_MAX: usize = 500;

/// An image config, and what follows from it.
#[derive(Debug, Clone)]
pub(crate) struct ImageConfig {
    /// The digest of the config, which is the image's id.
    pub(crate) id: Digest,
    pub(crate) document: Arc<ImageConfiguration>,
    /// Hex digits, lowest layer first.
    pub(crate) diff_ids: Vec<String>,
    /// Size of the config in bytes.
    pub(crate) size: u64,
}

impl ImageConfig {
    /// Parses the config whose digest is `id`.
    pub(crate) fn parse(bytes: &[u8], id: Digest) -> Result<Self, ImageError> {
        let unusable = |reason: String| ImageError::Config {
            digest: id.to_string(),
            reason,
        };
        if id.algorithm() != Algorithm::Sha256 {
            return Err(unusable("only a sha256 digest can be an image id".to_owned()));
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
                _ => return Err(unusable(format!("{:?} is not a sha256 diff id", shortened(text)))),
            }
        }
        Ok(Self {
            id,
            document: Arc::new(config),
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

/// The user of an image config, as CRI reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum User {
    Uid(i64),
    Name(String),
}

impl User {
    /// Parses `user`, `user:group`, `uid` or `uid:gid`. An empty text is root. A number that is not a uid of
    /// Linux is a name, never another uid.
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

/// Takes the layers of a [`Content`] when its last holder is gone.
pub(crate) type Release = Box<dyn FnOnce(Vec<Arc<Layer>>) + Send + Sync>;

/// An image's data. Its layers and its record stay on disk as long as one of these lives.
pub(crate) struct Content {
    pub(crate) config: ImageConfig,
    /// Lowest first.
    pub(crate) layers: Vec<Arc<Layer>>,
    /// Directories of the image's own layer on top; 0 without such a layer.
    pub(crate) implied_dirs: u64,
    /// `None` once the layers have another owner.
    release: Option<Release>,
}

impl Content {
    pub(crate) fn new(
        config: ImageConfig,
        layers: Vec<Arc<Layer>>,
        implied_dirs: u64,
        release: Release,
    ) -> Self {
        Self {
            config,
            layers,
            implied_dirs,
            release: Some(release),
        }
    }

    /// The layers, without releasing the image.
    pub(crate) fn into_layers(mut self) -> Vec<Arc<Layer>> {
        self.release = None;
        std::mem::take(&mut self.layers)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({})", self.config.id)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release(std::mem::take(&mut self.layers));
        }
    }
}
