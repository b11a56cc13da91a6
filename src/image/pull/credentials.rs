//! Credentials for repairs: the daemon itself fetches damaged layers of an image that was pulled with a
//! secret.
//!
//! The credentials of the last successful pull are remembered for each repository, in memory only; a secret
//! is never stored here. After a restart, `images.auth_file` is used instead, which may name credential
//! helpers. Credentials are used only for the repository they were given for, and never for a pull that a
//! client requests.

use std::collections::VecDeque;
use std::path::Path;

use parking_lot::Mutex;
use pausa_distribution::{AuthFields, DockerConfig, Reference};

use crate::error::chain;

/// Most repositories whose credentials are remembered.
const MAX: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct PullCredentials {
    /// By repository, latest last.
    known: Mutex<VecDeque<(String, AuthFields)>>,
}

impl PullCredentials {
    /// Remembers that `reference` was pulled with `fields`, which are empty for an anonymous pull.
    pub(crate) fn remember(&self, reference: &Reference, fields: &AuthFields) {
        let repository = reference.name();
        let mut known = self.known.lock();
        known.retain(|(other, _)| *other != repository);
        if fields.is_empty() {
            return;
        }
        if known.len() >= MAX {
            known.pop_front();
        }
        known.push_back((repository, fields.clone()));
    }

    /// The credentials for `reference`; empty if none are known. `file` has the format of Docker's `config.json`.
    pub(crate) async fn find(&self, reference: &Reference, file: Option<&Path>) -> AuthFields {
        let repository = reference.name();
        let known = self
            .known
            .lock()
            .iter()
            .find(|(name, _)| *name == repository)
            .cloned();
        if let Some((_, fields)) = known {
            return fields;
        }
        let Some(file) = file else {
            return AuthFields::default();
        };
        let login = async { DockerConfig::load(file)?.login(reference).await };
        match login.await {
            Ok(login) => login.map(|login| login.fields).unwrap_or_default(),
            Err(error) => {
                tracing::warn!(
                    path = %file.display(),
                    image = %reference,
                    error = chain(&error),
                    "cannot take credentials from images.auth_file; repairing the image without any"
                );
                AuthFields::default()
            }
        }
    }
}
