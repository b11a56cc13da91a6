//! Registry configuration, and the full names that it gives to short ones.
//!
//! kubelet looks up an image by the name in the pod, and pulls it again if it is not found by that name. So
//! an image must be found by a short name that an alias or a search registry has turned into its full name.

use std::path::Path;

use pausa_distribution::{Reference, Registries};

use crate::config::DEFAULT_REGISTRIES_CONF;

/// The registry configuration of a node: `hosts.toml` in `hosts`, and the `registries.conf` at `conf`, empty
/// for none. Only the default `registries.conf` may be missing: one that was configured may block registries.
pub(crate) fn registries(hosts: &Path, conf: &Path) -> Registries {
    let registries = Registries::new([hosts.to_owned()]);
    if conf.as_os_str().is_empty() {
        return registries;
    }
    registries.with_conf(conf.to_owned(), conf != Path::new(DEFAULT_REGISTRIES_CONF))
}

/// The full names of a short one. Empty for other names, and if configuration is broken: a pull then reports
/// that, and images in the store can still be found.
pub(crate) fn full_names(registries: &Registries, text: &str) -> Vec<String> {
    if !Reference::is_short(text) || text.starts_with("sha256:") {
        return Vec::new();
    }
    let names = registries.names(text).unwrap_or_default();
    names.iter().map(ToString::to_string).collect()
}
