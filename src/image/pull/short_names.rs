//! What names mean on this node: registry configuration, and images found by the names it gives to short ones.
//!
//! kubelet asks for an image by the name in the pod, and pulls again what it does not find by that name. A short name that an
//! alias or a search registry has turned into a full one must therefore be found by the short one too.

use std::path::Path;
use std::sync::Arc;

use pausa_distribution::{ImageId, Reference, Registries};

use crate::config::DEFAULT_REGISTRIES_CONF;
use crate::image::Images;
use crate::image::error::ImageError;
use crate::image::store::index::{Index, IndexedImage};

/// The registry configuration of a node: `hosts.toml` in `hosts`, and the `registries.conf` at `conf`, empty for none. Only the
/// default one may be missing: a file that somebody names may forbid images.
pub fn registries(hosts: &Path, conf: &Path) -> Registries {
    let registries = Registries::new([hosts.to_owned()]);
    if conf.as_os_str().is_empty() {
        return registries;
    }
    registries.with_conf(conf.to_owned(), conf != Path::new(DEFAULT_REGISTRIES_CONF))
}

impl Images {
    /// The image that `text` names, short names as registry configuration has them.
    pub(crate) fn find<'a>(
        &self,
        index: &'a Index,
        text: &str,
    ) -> Result<Option<&'a Arc<IndexedImage>>, ImageError> {
        let meanings = self.meanings(text);
        for name in &meanings {
            if let Some(entry) = index.find(name)? {
                return Ok(Some(entry));
            }
        }
        // What configuration lets the name mean is all that it means, unless it is the beginning of an id.
        if meanings.is_empty() || ImageId::parse(text).is_some() {
            index.find(text)
        } else {
            Ok(None)
        }
    }

    /// The full names of a short one. None for others, and where configuration is broken: a pull will say why, and whatever is
    /// here stays reachable.
    fn meanings(&self, text: &str) -> Vec<String> {
        if !Reference::is_short(text) || text.starts_with("sha256:") {
            return Vec::new();
        }
        let names = self.inner.registries.names(text).unwrap_or_default();
        names.iter().map(ToString::to_string).collect()
    }
}
