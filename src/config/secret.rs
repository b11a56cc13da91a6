//! Files with secrets, which systemd may pass as credentials (systemd.exec(5), "Credentials").

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::ConfigError;

const PREFIX: &str = "credential:";
/// Where systemd puts them.
const DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// A file that holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretFile {
    /// A path.
    Path(PathBuf),
    /// The name of a credential that systemd passes to the daemon: `credential:NAME`.
    Credential(String),
}

/// A text that cannot be the name of a credential.
#[derive(Debug, thiserror::Error)]
#[error(
    "{text:?} is not credential: and the name of a credential: a file name without colons and control characters"
)]
pub struct CredentialNameError {
    text: String,
}

impl SecretFile {
    /// Where the file is.
    ///
    /// # Errors
    /// systemd has passed no such credential. `key` is the configuration's.
    pub fn path(&self, key: &'static str) -> Result<PathBuf, ConfigError> {
        self.path_in(key, std::env::var_os(DIRECTORY))
    }

    pub(super) fn path_in(
        &self,
        key: &'static str,
        directory: Option<OsString>,
    ) -> Result<PathBuf, ConfigError> {
        let name = match self {
            Self::Path(path) => return Ok(path.clone()),
            Self::Credential(name) => name,
        };
        let file = directory.map(|directory| Path::new(&directory).join(name));
        file.filter(|file| file.is_file())
            .ok_or_else(|| ConfigError::Credential {
                key,
                name: name.clone(),
            })
    }
}

impl TryFrom<String> for SecretFile {
    type Error = CredentialNameError;

    fn try_from(text: String) -> Result<Self, CredentialNameError> {
        let Some(name) = text.strip_prefix(PREFIX) else {
            return Ok(Self::Path(text.into()));
        };
        let plain = |c: char| c.is_ascii() && !c.is_ascii_control() && !matches!(c, '/' | ':');
        let valid = (1..=255).contains(&name.len()) && name.chars().all(plain) && !matches!(name, "." | "..");
        match valid {
            true => Ok(Self::Credential(name.to_owned())),
            false => Err(CredentialNameError { text }),
        }
    }
}

impl From<SecretFile> for String {
    fn from(file: SecretFile) -> Self {
        match file {
            SecretFile::Path(path) => path.display().to_string(),
            SecretFile::Credential(name) => format!("{PREFIX}{name}"),
        }
    }
}
