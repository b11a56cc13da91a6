//! Credentials of a caller, and their form in CRI's `AuthConfig`.
//!
//! Invariants: no secret is ever printed (Debug shows only the kind); credentials are sent only in answer to a challenge, so a
//! server that requires none never sees them.
//!
//! Without a server address they are for the reference's host and the mirrors that the node's administrator configured for it,
//! as in containerd; with a server address they are for that server only. The target of a redirect never gets them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::endpoint::{Endpoint, Role};
use crate::error::Error;
use crate::reference::DEFAULT_HOST;

#[cfg(test)]
mod tests;

/// How to authenticate at a registry.
#[derive(Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names say what the fields are")]
#[non_exhaustive]
pub enum Credentials {
    /// No credentials; a token server may still issue an anonymous token.
    #[default]
    Anonymous,
    /// User name and password, for the registry or its token server.
    Basic { username: String, password: String },
    /// An OAuth2 refresh token for the registry's token server.
    IdentityToken(String),
    /// A bearer token for the registry itself.
    RegistryToken(String),
    /// Credentials for one host: other hosts, mirrors included, get none.
    Only {
        /// As in a reference.
        host: String,
        credentials: Box<Self>,
    },
}

impl Credentials {
    /// The credentials for `endpoint`. A server that the credentials name gets them, whether registry or mirror.
    pub(crate) fn at(&self, endpoint: &Endpoint) -> &Self {
        match self {
            Self::Only { host, credentials } => {
                let own = canonical(&endpoint.host()) == host;
                let its = endpoint.role == Role::Registry && canonical(&endpoint.registry) == host;
                if own || its { credentials } else { &Self::Anonymous }
            }
            other => other,
        }
    }

    /// The parts that must not be shown.
    pub(crate) fn secrets(&self) -> Vec<String> {
        match self {
            Self::Anonymous => Vec::new(),
            Self::Basic { username, password } => {
                vec![
                    STANDARD.encode(format!("{username}:{password}")),
                    password.clone(),
                ]
            }
            Self::IdentityToken(token) | Self::RegistryToken(token) => vec![token.clone()],
            Self::Only { credentials, .. } => credentials.secrets(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic { .. }",
            Self::IdentityToken(_) => "IdentityToken(..)",
            Self::RegistryToken(_) => "RegistryToken(..)",
            Self::Only { .. } => "Only { .. }",
        })
    }
}

/// The fields of CRI's `AuthConfig` as on the wire: empty means not given.
#[derive(Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of the CRI message")]
pub struct AuthFields {
    pub username: String,
    pub password: String,
    /// Base64 of `user:password`.
    pub auth: String,
    /// The registry they are for; empty means any that is asked.
    pub server_address: String,
    pub identity_token: String,
    pub registry_token: String,
}

impl fmt::Debug for AuthFields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthFields")
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}

impl AuthFields {
    /// The credentials in these fields. With a server address they are for that server only: the registry of that name, or a
    /// mirror at that address. Without one they are for every endpoint of the reference.
    ///
    /// # Errors
    /// If `auth` is not base64 of `user:password`.
    pub fn credentials(&self) -> Result<Credentials, Error> {
        let credentials = self.unbound()?;
        if self.server_address.is_empty() || credentials == Credentials::Anonymous {
            return Ok(credentials);
        }
        Ok(Credentials::Only {
            host: server_host(&self.server_address).to_owned(),
            credentials: Box::new(credentials),
        })
    }

    /// Whether the fields hold no credentials.
    pub fn is_empty(&self) -> bool {
        let secrets = [
            &self.username,
            &self.password,
            &self.auth,
            &self.identity_token,
            &self.registry_token,
        ];
        secrets.iter().all(|field| field.is_empty())
    }

    fn unbound(&self) -> Result<Credentials, Error> {
        if !self.username.is_empty() {
            return Ok(Credentials::Basic {
                username: self.username.clone(),
                password: self.password.clone(),
            });
        }
        if !self.identity_token.is_empty() {
            return Ok(Credentials::IdentityToken(self.identity_token.clone()));
        }
        if !self.auth.is_empty() {
            return decode(&self.auth);
        }
        if !self.registry_token.is_empty() {
            return Ok(Credentials::RegistryToken(self.registry_token.clone()));
        }
        Ok(Credentials::Anonymous)
    }
}

fn decode(auth: &str) -> Result<Credentials, Error> {
    let invalid = |reason| Error::Credentials { reason };
    let bytes = STANDARD
        .decode(auth.trim())
        .map_err(|_| invalid("auth is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("auth is not base64 of UTF-8 text"))?;
    let (username, password) = text
        .split_once(':')
        .ok_or_else(|| invalid("auth is not base64 of user:password"))?;
    // Old Docker clients padded the password with zero bytes.
    let password = password.trim_end_matches('\0');
    Ok(Credentials::Basic {
        username: username.to_owned(),
        password: password.to_owned(),
    })
}

/// The host of `https://host:port/v1/`, with or without scheme.
pub(crate) fn server_host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    canonical(rest.split('/').next().unwrap_or(rest))
}

/// Docker Hub has three names.
fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_HOST,
        _ => host,
    }
}
