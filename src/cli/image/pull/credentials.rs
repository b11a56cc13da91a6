//! Credentials of `pausa image pull`: from the command line, otherwise the login of the user who runs it.
//!
//! Must never: print a secret, or send a login to a registry other than the reference's.

use std::io::Read as _;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use pausa_distribution::{DockerConfig, Reference};

use crate::cli::failure::CommandError;
use crate::proto::v1;

/// Limit for credentials on standard input, in bytes.
const INPUT_MAX: u64 = 64 * 1024;

#[derive(Args)]
pub(in crate::cli::image) struct CredentialArgs {
    /// User and password for the registry; `-` reads them from standard input. Other users of the node can see the command
    /// line.
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "auth")]
    creds: Option<String>,
    /// User and password in base64, as in docker's config.json; `-` reads them from standard input.
    #[arg(long, value_name = "BASE64")]
    auth: Option<String>,
    /// Use neither the logins in docker's config.json nor its credential helpers.
    #[arg(long, conflicts_with_all = ["creds", "auth"])]
    anonymous: bool,
}

impl std::fmt::Debug for CredentialArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialArgs").finish_non_exhaustive()
    }
}

/// How a command authenticates.
pub(in crate::cli) enum Auth {
    /// With these credentials, whatever the registry.
    Given(Box<v1::AuthConfig>),
    /// With the login for the registry of the reference, if there is one.
    Login,
    Anonymous,
}

impl Auth {
    /// Credentials for a pull of `reference`.
    pub(super) async fn of(&self, reference: &str) -> anyhow::Result<Option<v1::AuthConfig>> {
        match self {
            Self::Given(auth) => Ok(Some((**auth).clone())),
            Self::Login => login(reference).await,
            Self::Anonymous => Ok(None),
        }
    }
}

impl CredentialArgs {
    /// Reads standard input if a flag says so.
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
            std::io::stdin().take(INPUT_MAX).read_to_string(&mut text)?;
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
            None => Err(CommandError::Usage("--auth must be USER:PASSWORD in base64".to_owned()).into()),
        }
    }
}

/// The login for the registry of `reference`, as `docker login` stores it: in a file or with a credential helper. The daemon
/// sends it to that registry only.
async fn login(reference: &str) -> anyhow::Result<Option<v1::AuthConfig>> {
    // The daemon refuses a text that is not a reference.
    let Ok(reference) = reference.parse::<Reference>() else {
        return Ok(None);
    };
    let login = async { DockerConfig::load_default()?.login(&reference).await };
    let login = login.await.with_context(|| {
        format!(
            "cannot get the login for {}; use --anonymous to pull without a login",
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

/// The flag's value. For `-`, standard input without the line end.
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
            "credentials must be USER:PASSWORD; use `-` to read them from standard input".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests;
