//! Network configuration lists: what an administrator or a network add-on wrote.
//!
//! Pure parsing; [`dir`] reads the files. A single plugin configuration (the older `*.conf` form) becomes a list
//! of one, so that nothing behind this module knows the difference. Invariants of a [`NetworkConfigList`]: its name
//! is safe as part of a file name, it has at least one plugin, and every plugin's type is a plain file name.
//!
//! See <https://www.cni.dev/docs/spec/#section-1-network-configuration-format>.

pub(crate) mod dir;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::Error;
use crate::version::Version;

/// No sane list is longer; the limit keeps a bad file from starting thousands of processes.
const MAX_PLUGINS: usize = 64;

/// A network: the chain of plugins that an interface is made with.
#[derive(Debug, Clone, PartialEq)]
pub struct NetworkConfigList {
    name: String,
    version: Version,
    disable_check: bool,
    disable_gc: bool,
    plugins: Vec<PluginConfig>,
    bytes: Vec<u8>,
    origin: PathBuf,
}

/// One plugin of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginConfig {
    plugin_type: String,
    capabilities: BTreeSet<String>,
    object: Map<String, Value>,
}

impl NetworkConfigList {
    /// Parses a list, or a single plugin's configuration. `origin` is the file, for messages.
    ///
    /// # Errors
    /// Whatever CNI does not allow, with the file and the field.
    pub fn parse(bytes: &[u8], origin: &Path) -> Result<Self, Error> {
        let source = Source { origin };
        let object: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| Error::ParseConfig {
                path: origin.to_path_buf(),
                source: error,
            })?;
        if object.contains_key("plugins") {
            source.list(&object, bytes.to_vec())
        } else {
            let list = source.wrap(object)?;
            let bytes = Value::Object(list.clone()).to_string().into_bytes();
            source.list(&list, bytes)
        }
    }

    /// The network's name, also the first part of its cache files' names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest version that both the configuration and this crate allow.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Whether the administrator forbade CHECK.
    #[must_use]
    pub const fn disable_check(&self) -> bool {
        self.disable_check
    }

    /// Whether the administrator forbade GC (the network's state is shared with something else).
    #[must_use]
    pub const fn disable_gc(&self) -> bool {
        self.disable_gc
    }

    /// The plugins in the order of ADD.
    #[must_use]
    pub fn plugins(&self) -> &[PluginConfig] {
        &self.plugins
    }

    /// The list's JSON as read, for the result cache.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The file the list was read from.
    #[must_use]
    pub fn origin(&self) -> &Path {
        &self.origin
    }
}

impl PluginConfig {
    /// The plugin's type: the name of its binary.
    #[must_use]
    pub fn plugin_type(&self) -> &str {
        &self.plugin_type
    }

    /// Whether the configuration says that the plugin takes this capability argument.
    #[must_use]
    pub fn has_capability(&self, name: &str) -> bool {
        self.capabilities.contains(name)
    }

    /// The plugin's part of the configuration, as written.
    #[must_use]
    pub const fn object(&self) -> &Map<String, Value> {
        &self.object
    }
}

/// Where a configuration comes from: carries the file's name into every message.
struct Source<'a> {
    origin: &'a Path,
}

impl Source<'_> {
    fn invalid(&self, field: impl Into<String>, expected: &'static str) -> Error {
        Error::InvalidConfig {
            path: self.origin.to_path_buf(),
            field: field.into(),
            expected,
        }
    }

    fn wrap(&self, plugin: Map<String, Value>) -> Result<Map<String, Value>, Error> {
        if !plugin.contains_key("type") {
            return Err(self.invalid("type", "there, or `plugins` with a list"));
        }
        let mut list = Map::new();
        for field in ["name", "cniVersion", "cniVersions"] {
            if let Some(value) = plugin.get(field) {
                list.insert(field.to_owned(), value.clone());
            }
        }
        list.insert("plugins".to_owned(), Value::Array(vec![Value::Object(plugin)]));
        Ok(list)
    }

    fn list(&self, list: &Map<String, Value>, bytes: Vec<u8>) -> Result<NetworkConfigList, Error> {
        let expected = "letters, digits, `_`, `.` and `-`, beginning with a letter or digit";
        let name = list
            .get("name")
            .and_then(Value::as_str)
            .filter(|name| is_identifier(name))
            .ok_or_else(|| self.invalid("name", expected))?;
        let plugins = list
            .get("plugins")
            .and_then(Value::as_array)
            .filter(|plugins| !plugins.is_empty() && plugins.len() <= MAX_PLUGINS)
            .ok_or_else(|| self.invalid("plugins", "a list of 1 to 64 plugins"))?;
        let plugins = plugins
            .iter()
            .enumerate()
            .map(|(at, plugin)| self.plugin(at, plugin))
            .collect::<Result<_, _>>()?;
        Ok(NetworkConfigList {
            name: name.to_owned(),
            version: self.version(list)?,
            disable_check: self.boolean(list, "disableCheck")?,
            disable_gc: self.boolean(list, "disableGC")?,
            plugins,
            bytes,
            origin: self.origin.to_path_buf(),
        })
    }

    fn version(&self, list: &Map<String, Value>) -> Result<Version, Error> {
        let expected = "a version from 0.3.0 to 1.1.0";
        let mut best = None;
        if let Some(value) = list.get("cniVersion") {
            let text = value
                .as_str()
                .ok_or_else(|| self.invalid("cniVersion", expected))?;
            best = text.parse::<Version>().ok();
        }
        if let Some(value) = list.get("cniVersions") {
            let versions = value
                .as_array()
                .ok_or_else(|| self.invalid("cniVersions", "a list of versions"))?;
            let known = versions
                .iter()
                .filter_map(Value::as_str)
                .filter_map(|text| text.parse().ok());
            best = best.into_iter().chain(known).max();
        }
        best.ok_or_else(|| self.invalid("cniVersion", expected))
    }

    /// Some configurations in the field carry these flags as strings, and the reference library takes them.
    fn boolean(&self, list: &Map<String, Value>, field: &'static str) -> Result<bool, Error> {
        match list.get(field) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(self.invalid(field, "true or false")),
        }
    }

    fn plugin(&self, at: usize, value: &Value) -> Result<PluginConfig, Error> {
        let object = value
            .as_object()
            .ok_or_else(|| self.invalid(format!("plugins[{at}]"), "an object"))?;
        let plugin_type = object
            .get("type")
            .and_then(Value::as_str)
            .filter(|name| is_plain_file_name(name))
            .ok_or_else(|| {
                self.invalid(
                    format!("plugins[{at}].type"),
                    "the plain name of a plugin's binary",
                )
            })?;
        let capabilities = match object.get("capabilities") {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::Object(capabilities)) => capabilities
                .iter()
                .filter(|(_, on)| on.as_bool() == Some(true))
                .map(|(name, _)| name.clone())
                .collect(),
            Some(_) => {
                return Err(self.invalid(format!("plugins[{at}].capabilities"), "an object of booleans"));
            }
        };
        Ok(PluginConfig {
            plugin_type: plugin_type.to_owned(),
            capabilities,
            object: object.clone(),
        })
    }
}

/// CNI's rule for network names and container ids; it also makes them safe in a file name.
pub(crate) fn is_identifier(text: &str) -> bool {
    text.len() <= 200
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

/// Whether a plugin's type can only name a file of the plugin directory itself.
pub(crate) fn is_plain_file_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 255 && text != "." && text != ".." && !text.contains(['/', '\0'])
}
