//! Credentials for what the daemon fetches by itself: damaged layers of an image that somebody pulled with a secret.
//!
//! Those of the last pull that worked are remembered by repository, in memory only: a secret is never written down here. A daemon
//! that has just started knows none; then a file that the node's owner configured is asked, which may name credential helpers.
//! They are used for the repository they were given for and nothing else, and never for a pull that somebody asks for.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pausa_distribution::{AuthFields, DockerConfig, Reference};

use crate::error::chain;

/// Repositories whose credentials are remembered.
const MAX: usize = 256;

/// What is known.
#[derive(Debug)]
pub(crate) struct PullCredentials {
    file: Option<PathBuf>,
    /// By repository, the latest last.
    known: Mutex<VecDeque<(String, AuthFields)>>,
}

impl PullCredentials {
    /// `file` is in the form of Docker's `config.json`.
    pub(crate) fn new(file: Option<PathBuf>) -> Self {
        Self {
            file,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<(String, AuthFields)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// With these `reference` was pulled. None were needed, if they are empty.
    pub(crate) fn remember(&self, reference: &Reference, fields: &AuthFields) {
        let repository = reference.name();
        let mut known = self.known();
        known.retain(|(other, _)| *other != repository);
        if fields.is_empty() {
            return;
        }
        if known.len() >= MAX {
            known.pop_front();
        }
        known.push_back((repository, fields.clone()));
    }

    /// What to fetch `reference` with; empty fields if nothing is known.
    pub(crate) async fn of(&self, reference: &Reference) -> AuthFields {
        let repository = reference.name();
        let known = self.known().iter().find(|(name, _)| *name == repository).cloned();
        if let Some((_, fields)) = known {
            return fields;
        }
        let Some(file) = &self.file else {
            return AuthFields::default();
        };
        let login = async { DockerConfig::load(file)?.login(reference).await };
        match login.await {
            Ok(login) => login.map(|login| login.fields).unwrap_or_default(),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "no credentials from images.auth_file");
                AuthFields::default()
            }
        }
    }
}
