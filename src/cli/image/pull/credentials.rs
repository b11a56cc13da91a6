//! What `pausa image pull` authenticates with.
//!
//! Must never: print a secret, or send one to another registry than the reference's.

use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;

use crate::cli::failure::CommandError;
use crate::proto::v1;

/// More is no user and password.
const LONGEST: u64 = 64 * 1024;

/// The flags about credentials.
#[derive(Args)]
pub(super) struct CredentialArgs {
    /// User and password for the registry. Other users of the node can see a command line: with `-`, they are read from
    /// standard input.
    #[arg(long, value_name = "USER:PASSWORD", conflicts_with = "auth")]
    creds: Option<String>,
    /// The same in base64, as docker's config.json has it; `-` likewise.
    #[arg(long, value_name = "BASE64")]
    auth: Option<String>,
}

impl std::fmt::Debug for CredentialArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialArgs").finish_non_exhaustive()
    }
}

impl CredentialArgs {
    /// The credentials given, if any.
    pub(super) fn read(&self) -> Result<Option<v1::AuthConfig>, anyhow::Error> {
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
