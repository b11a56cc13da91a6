//! What a caller may authenticate with, and how CRI's `AuthConfig` becomes it.
//!
//! Invariants: no secret is ever printed (Debug shows only the kind); credentials are used only to answer a challenge, so a
//! server that asks for none never sees them.
//!
//! They are meant for the reference's host. A mirror that the node's administrator configured for that host may ask for them
//! too, as in containerd; a host that a redirect points to never gets them.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::Error;
use crate::reference::DEFAULT_HOST;

#[cfg(test)]
mod tests;

/// How to authenticate at a registry.
#[derive(Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Credentials {
    /// Nothing; a token server may still hand out an anonymous token.
    #[default]
    Anonymous,
    /// User name and password, for the registry or its token server.
    Basic {
        /// The user.
        username: String,
        /// The password.
        password: String,
    },
    /// An OAuth2 refresh token for the registry's token server.
    IdentityToken(String),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic { .. }",
            Self::IdentityToken(_) => "IdentityToken(..)",
        })
    }
}

/// The fields of CRI's `AuthConfig`, as they are on the wire (empty means not given).
#[derive(Clone, Default)]
pub struct AuthFields {
    /// `username`.
    pub username: String,
    /// `password`.
    pub password: String,
    /// `auth`: base64 of `user:password`.
    pub auth: String,
    /// `server_address`: the registry these are for; empty means whichever is asked.
    pub server_address: String,
    /// `identity_token`.
    pub identity_token: String,
    /// `registry_token`.
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
    /// The credentials for a reference's `host`; anonymous where they are for another server or all fields are empty.
    pub fn credentials(&self, host: &str) -> Result<Credentials, Error> {
        if !self.server_address.is_empty() && server_host(&self.server_address) != canonical(host) {
            return Ok(Credentials::Anonymous);
        }
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
            return Err(Error::Credentials {
                reason: "registry_token is not supported, only username and password, auth or identity_token",
            });
        }
        Ok(Credentials::Anonymous)
    }
}

fn decode(auth: &str) -> Result<Credentials, Error> {
    let invalid = |reason| Error::Credentials { reason };
    let bytes = STANDARD
        .decode(auth.trim())
        .map_err(|_| invalid("auth is not base64"))?;
    let text = String::from_utf8(bytes).map_err(|_| invalid("auth is not base64 of a text"))?;
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
fn server_host(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    canonical(rest.split('/').next().unwrap_or(rest))
}

/// Docker Hub goes by three names.
fn canonical(host: &str) -> &str {
    match host {
        "index.docker.io" | "registry-1.docker.io" => DEFAULT_HOST,
        _ => host,
    }
}
