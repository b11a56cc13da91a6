//! Docker's `config.json`, in which `docker login` stores credentials: for the command line, and for repairs by the daemon itself
//! of images that kubelet pulled. With each pull kubelet sends the credentials.
//!
//! Understands `auths` (with `identitytoken`, and names with namespaces as in containers-auth.json(5)), `credHelpers` and
//! `credsStore`. Helpers are programs called `docker-credential-NAME`; they get only the server's name on standard input,
//! and have [`HELPER_TIME`] to answer.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use crate::credentials::{AuthFields, server_host};
use crate::error::Error;
use crate::hosts::{is_absent, read};
use crate::reference::{DEFAULT_HOST, Reference};
use crate::text::excerpt;

#[cfg(test)]
mod tests;

/// How long a helper may take; some ask a cloud's metadata service.
const HELPER_TIME: Duration = Duration::from_secs(30);
const MAX_ANSWER: u64 = 64 * 1024;
/// Docker Hub's name in this file and for helpers.
const HUB: &str = "https://index.docker.io/v1/";
/// The user name with which a helper says that the secret is an identity token.
const TOKEN_USER: &str = "<token>";

/// Credentials for a registry and their source.
#[derive(Clone, Debug)]
pub struct Login {
    /// Fit for CRI's `AuthConfig`; the server address is the registry's host.
    pub fields: AuthFields,
    /// The file or the helper, for messages.
    pub from: String,
}

/// Logins and credential helpers of docker's `config.json`.
#[derive(Clone, Default)]
pub struct DockerConfig {
    path: PathBuf,
    file: File,
    helper_dir: Option<PathBuf>,
}

impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Default, Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    #[serde(default, rename = "credsStore")]
    store: String,
    #[serde(default, rename = "credHelpers")]
    helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    auth: String,
    #[serde(default)]
    identitytoken: String,
    #[serde(default)]
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl DockerConfig {
    /// The file that `REGISTRY_AUTH_FILE` names, else `config.json` in `DOCKER_CONFIG`, else that in `~/.docker`. A missing file
    /// is empty.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load_default() -> Result<Self, Error> {
        let dir = |name: &str| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let named = dir("REGISTRY_AUTH_FILE");
        let docker = || dir("DOCKER_CONFIG").map(|dir| dir.join("config.json"));
        let home = || dir("HOME").map(|home| home.join(".docker/config.json"));
        match named.or_else(docker).or_else(home) {
            Some(path) => Self::load(&path),
            None => Ok(Self::default()),
        }
    }

    /// The file at `path`; a missing file is empty.
    ///
    /// # Errors
    /// If the file cannot be read or parsed.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let bytes = match read(path) {
            Ok(bytes) => bytes,
            Err(Error::ConfigRead { source, .. }) if is_absent(&source) => return Ok(Self::default()),
            Err(error) => return Err(error),
        };
        // The parser's message may quote a secret.
        let file = serde_json::from_slice(&bytes).map_err(|error| Error::ConfigSyntax {
            path: path.to_owned(),
            line: error.line(),
            reason: "it is not a Docker config.json".to_owned(),
        })?;
        Ok(Self {
            path: path.to_owned(),
            file,
            helper_dir: None,
        })
    }

    /// Credentials for `reference`: of the helper for its host, the store of all hosts, or the file, in this order.
    ///
    /// # Errors
    /// If a helper does not answer as it should.
    pub async fn login(&self, reference: &Reference) -> Result<Option<Login>, Error> {
        let host = reference.host();
        let own = self
            .file
            .helpers
            .iter()
            .find(|(name, _)| server_host(name) == host)
            .map(|(_, helper)| helper);
        let store = Some(&self.file.store).filter(|store| !store.is_empty());
        if let Some(helper) = own.or(store)
            && let Some(mut fields) = self.ask(helper, host).await?
        {
            host.clone_into(&mut fields.server_address);
            let from = format!("docker-credential-{helper}");
            return Ok(Some(Login { fields, from }));
        }
        Ok(self.written(reference).map(|entry| Login {
            fields: AuthFields {
                username: entry.username.clone(),
                password: entry.password.clone(),
                auth: entry.auth.clone(),
                identity_token: entry.identitytoken.clone(),
                registry_token: entry.registrytoken.clone(),
                server_address: host.to_owned(),
            },
            from: self.path.display().to_string(),
        }))
    }

    /// The entry of the longest name that `reference` begins with, else one of the host alone in any spelling.
    fn written(&self, reference: &Reference) -> Option<&Entry> {
        let name = reference.name();
        let mut rest = name.as_str();
        while let Some((shorter, _)) = rest.rsplit_once('/') {
            if let Some(entry) = self.file.auths.get(rest).filter(|entry| entry.is_some()) {
                return Some(entry);
            }
            rest = shorter;
        }
        let mut entries = self.file.auths.iter();
        let own = |name: &str| {
            let path = name.split_once("://").map_or(name, |(_, path)| path);
            let path = path
                .split_once('/')
                .map_or("", |(_, path)| path)
                .trim_end_matches('/');
            server_host(name) == reference.host() && matches!(path, "" | "v1" | "v2")
        };
        entries
            .find(|(name, entry)| own(name) && entry.is_some())
            .map(|(_, entry)| entry)
    }

    async fn ask(&self, helper: &str, host: &str) -> Result<Option<AuthFields>, Error> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let failed = |reason: String| Error::Helper {
            program: format!("docker-credential-{}", excerpt(helper.as_bytes())),
            host: host.to_owned(),
            reason,
        };
        if !helper.chars().all(plain) {
            return Err(failed(
                "its name has characters that are not allowed in a helper's name".to_owned(),
            ));
        }
        let name = format!("docker-credential-{helper}");
        let program = self
            .helper_dir
            .as_ref()
            .map_or_else(|| PathBuf::from(&name), |dir| dir.join(&name));
        let server = if host == DEFAULT_HOST { HUB } else { host };
        let answered = tokio::time::timeout(HELPER_TIME, run(&program, server)).await;
        let (success, said) = answered
            .map_err(|_| failed(format!("it did not answer in {} s", HELPER_TIME.as_secs())))?
            .map_err(|error| failed(format!("it cannot be run: {error}")))?;
        if !success {
            let words = excerpt(&said);
            let none = words.contains("credentials not found");
            return if none {
                Ok(None)
            } else {
                Err(failed(format!("it failed and says \"{words}\"")))
            };
        }
        let answer: Answer =
            serde_json::from_slice(&said).map_err(|_| failed("its answer is not a credential".to_owned()))?;
        Ok(Some(if answer.username == TOKEN_USER {
            AuthFields {
                identity_token: answer.secret,
                ..AuthFields::default()
            }
        } else {
            AuthFields {
                username: answer.username,
                password: answer.secret,
                ..AuthFields::default()
            }
        }))
    }
}

impl Entry {
    /// Stores leave empty entries behind.
    fn is_some(&self) -> bool {
        [
            &self.username,
            &self.auth,
            &self.identitytoken,
            &self.registrytoken,
        ]
        .iter()
        .any(|field| !field.is_empty())
    }
}

/// Whether the helper succeeded, and its output. It is killed if the future is dropped.
async fn run(program: &Path, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A helper may close its input without reading it.
        drop(input.write_all(server.as_bytes()).await);
    }
    let mut said = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX_ANSWER).read_to_end(&mut said).await?;
    }
    Ok((child.wait().await?.success(), said))
}
