//! What can be wrong with a configuration.

use std::path::PathBuf;

/// A configuration nobody can start with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file or directory cannot be read.
    #[error("cannot read the configuration {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file is not TOML, or a value has the wrong type.
    #[error("the configuration {} does not parse", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A key that means nothing.
    #[error("unknown key {key:?} in {}{}", path.display(), hint(nearest.as_deref()))]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The whole key, with dots.
        key: String,
        /// The known key that looks most like it, if one does.
        nearest: Option<String>,
    },
    /// A value that cannot be used.
    #[error("the setting {key} is {value:?}, but must be {expected}")]
    Value {
        /// The whole key, with dots.
        key: &'static str,
        /// What is set.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// The configuration cannot be shown.
    #[error("cannot print the configuration as TOML")]
    Print {
        /// Why.
        #[source]
        source: toml::ser::Error,
    },
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |key| format!("; did you mean {key:?}?"))
}
