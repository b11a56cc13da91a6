//! Errors of a configuration.

use std::path::PathBuf;

/// The daemon cannot use its configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read the configuration {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    /// A file is not TOML, or a value has a wrong type.
    #[error("cannot parse the configuration {}", path.display())]
    Parse {
        path: PathBuf,
        #[source]
        source: Box<toml::de::Error>,
    },
    #[error("unknown key {key:?} in {}{}", path.display(), hint(nearest.as_deref()))]
    UnknownKey {
        path: PathBuf,
        /// The full key, with dots.
        key: String,
        /// The most similar known key, if one is similar.
        nearest: Option<String>,
    },
    #[error("the setting {key} is {value:?}, but it must be {expected}")]
    Value {
        /// The full key, with dots.
        key: &'static str,
        value: String,
        /// Valid values, in words.
        expected: &'static str,
    },
    #[error("cannot print the configuration as TOML")]
    Print {
        #[source]
        source: toml::ser::Error,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}
