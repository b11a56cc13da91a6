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
    /// systemd has not passed it.
    #[error(
        "the setting {key} is \"credential:{name}\", and systemd has not passed this credential; add \
         LoadCredential={name}:/path to the unit and restart it"
    )]
    Credential {
        /// The full key, with dots.
        key: &'static str,
        /// Of the credential.
        name: String,
    },
    /// What was valid alone is not with what the daemon keeps until its restart.
    #[error("the new configuration does not fit to what needs a restart to change; restart the daemon")]
    Merge {
        #[source]
        source: Box<toml::de::Error>,
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
