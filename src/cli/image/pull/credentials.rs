//! What `pausa image pull` authenticates with: what the command line gives, else the login that whoever runs it has.
//!
//! Must never: print a secret, or send one to another registry than the reference's.

use std::io::Read as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use pausa_distribution::{DockerConfig, Reference};

use crate::cli::failure::CommandError;
use crate::proto::v1;

/// More is no user and password.
const LONGEST: u64 = 64 * 1024;

/// The flags about credentials.
#[derive(Args)]
pub(in crate::cli::image) struct CredentialArgs {
    /// User and password for the registry. Other users of the node can see a command line: with `-`, they are read from
    /// standard input.
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "auth")]
    creds: Option<String>,
    /// The same in base64, as docker's config.json has it; `-` likewise.
    #[arg(long, value_name = "BASE64")]
    auth: Option<String>,
    /// Use no login of docker's config.json, nor its credential helpers.
    #[arg(long, conflicts_with_all = ["creds", "auth"])]
    anonymous: bool,
}

impl std::fmt::Debug for CredentialArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialArgs").finish_non_exhaustive()
    }
}

/// What a command was given to authenticate with.
pub(in crate::cli::image) enum Auth {
    /// By the command line, for whatever registry.
    Given(Box<v1::AuthConfig>),
    /// Nothing: a login is looked up for each reference.
    Login,
    /// Nothing, and nothing is to be looked up.
    Anonymous,
}

impl Auth {
    /// What to send with a pull of `reference`.
    pub(super) async fn of(&self, reference: &str) -> anyhow::Result<Option<v1::AuthConfig>> {
        match self {
            Self::Given(auth) => Ok(Some((**auth).clone())),
            Self::Login => login(reference).await,
            Self::Anonymous => Ok(None),
        }
    }
}

impl CredentialArgs {
    /// What is given, read from standard input where that is asked for.
    pub(in crate::cli::image) fn read(&self) -> anyhow::Result<Auth> {
        let given = self.given()?;
        Ok(match given {
            Some(auth) => Auth::Given(Box::new(auth)),
            None if self.anonymous => Auth::Anonymous,
            None => Auth::Login,
        })
    }

    fn given(&self) -> anyhow::Result<Option<v1::AuthConfig>> {
        let stdin = || -> anyhow::Result<String> {
            let mut text = String::new();
            std::io::stdin().take(LONGEST).read_to_string(&mut text)?;
            Ok(text)
        };
        if let Some(creds) = given(self.creds.as_deref(), stdin)? {
            return Ok(Some(basic(&creds)?));
        }
        let Some(auth) = given(self.auth.as_deref(), stdin)? else {
            return Ok(None);
        };
        let decoded = STANDARD
            .decode(&auth)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        match decoded {
            Some(text) => Ok(Some(basic(text.trim_end_matches('\0'))?)),
            None => Err(CommandError::Usage("--auth is not base64 of USER:PASSWORD".to_owned()).into()),
        }
    }
}

/// A login for the registry of `reference`, as `docker login` leaves it: a file, or a helper that is asked. It is for that
/// registry only, which the daemon holds to.
async fn login(reference: &str) -> anyhow::Result<Option<v1::AuthConfig>> {
    // What is no reference has no registry; the daemon will say so.
    let Ok(reference) = reference.parse::<Reference>() else {
        return Ok(None);
    };
    let login = async { DockerConfig::load_default()?.login(&reference).await };
    let login = login.await.with_context(|| {
        format!(
            "cannot get the login for {}; --anonymous does without",
            reference.host()
        )
    })?;
    Ok(login.map(|login| v1::AuthConfig {
        username: login.fields.username,
        password: login.fields.password,
        auth: login.fields.auth,
        server_address: login.fields.server_address,
        identity_token: login.fields.identity_token,
        registry_token: login.fields.registry_token,
    }))
}

/// The flag's value, or what standard input has in its place, without the line's end.
fn given(
    flag: Option<&str>,
    stdin: impl FnOnce() -> anyhow::Result<String>,
) -> anyhow::Result<Option<String>> {
    match flag {
        Some("-") => Ok(Some(stdin()?.trim_end_matches(['\r', '\n']).to_owned())),
        other => Ok(other.map(str::to_owned)),
    }
}

fn basic(text: &str) -> Result<v1::AuthConfig, CommandError> {
    match text.split_once(':') {
        Some((user, password)) if !user.is_empty() => Ok(v1::AuthConfig {
            username: user.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        }),
        _ => Err(CommandError::Usage(
            "credentials must be USER:PASSWORD; use `-` to keep them out of the command line".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
