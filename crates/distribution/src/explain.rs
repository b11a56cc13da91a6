//! Whom a pull would ask, as data: for `pausa image check` and for people who wonder.
//!
//! Reads configuration exactly as a pull does and asks nobody. Holds no secret: of headers only the names, of credentials only
//! the kind and where they come from, of proxies no password.

use serde::Serialize;

use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, Fallback, Role};
use crate::error::Error;
use crate::proxy::{Proxies, shown};
use crate::reference::Reference;
use crate::resolver::Resolver;

#[cfg(test)]
mod tests;

/// What a name means and whom a pull of it would ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name as given.
    pub given: String,
    /// The references it may mean, in the order a pull tries them.
    pub references: Vec<Path>,
}

/// The way to one reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    /// The full name.
    pub reference: String,
    /// Why no pull is possible: blocked, or a mistake in a file.
    pub refused: Option<String>,
    /// Whether it is refused because configuration blocks it.
    pub blocked: bool,
    /// The servers in the order they are asked.
    pub endpoints: Vec<Step>,
}

/// One server on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Where its API begins, `/v2` and all.
    pub url: String,
    /// The repository as it is called there.
    pub repository: String,
    /// The tag as it is called there, where configuration renames it.
    pub tag: Option<String>,
    /// `mirror` or `registry`.
    pub role: &'static str,
    /// Whether this pull asks it: a reference by tag needs `resolve`, what follows needs `pull`.
    pub asked: bool,
    /// When it is asked, if not in its turn.
    pub condition: Option<&'static str>,
    /// Fetching by digest is allowed.
    pub pull: bool,
    /// Resolving tags is allowed.
    pub resolve: bool,
    /// The file that names it; `None` for what holds without configuration.
    pub file: Option<String>,
    /// The key in that file.
    pub key: Option<String>,
    /// The table of `registries.conf` that led there.
    pub rule: Option<String>,
    /// `plain HTTP`, `TLS, verified` or `TLS, any certificate`.
    pub transport: &'static str,
    /// Files with roots and client certificates.
    pub certificates: Vec<String>,
    /// Whether a client certificate can be shown.
    pub client_certificate: bool,
    /// Names of additional headers.
    pub headers: Vec<String>,
    /// Limit for connecting in milliseconds, if it is configured.
    pub dial_timeout_ms: Option<u64>,
    /// The proxy on the way, without password.
    pub proxy: Option<String>,
    /// What it would be given if it asked for authentication.
    pub credentials: &'static str,
    /// Where these come from, if there are any.
    pub credentials_from: Option<String>,
}

/// Credentials and where they were found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// What a pull would use.
    pub credentials: Credentials,
    /// In words: a file, a helper, the request.
    pub from: Option<String>,
}

/// Explains `text`. `found` says which credentials a pull of a reference would have.
///
/// # Errors
/// When `text` is no name. What is wrong with configuration stands in the answer.
pub fn explain(
    resolver: &dyn Resolver,
    text: &str,
    proxies: &Proxies,
    mut found: impl FnMut(&Reference) -> Found,
) -> Result<Explanation, Error> {
    let references = resolver
        .names(text)?
        .iter()
        .map(|reference| path(resolver, reference, proxies, &found(reference)))
        .collect();
    Ok(Explanation {
        given: text.to_owned(),
        references,
    })
}

fn path(resolver: &dyn Resolver, reference: &Reference, proxies: &Proxies, found: &Found) -> Path {
    let by_tag = reference.digest().is_none();
    let (endpoints, refused) = match resolver.endpoints(reference) {
        Ok(endpoints) => (endpoints, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    Path {
        reference: reference.to_string(),
        blocked: matches!(refused, Some(Error::Blocked { .. })),
        refused: refused.map(|error| crate::error::chain_all(&[error])),
        endpoints: endpoints
            .iter()
            .map(|endpoint| step(endpoint, by_tag, proxies, found))
            .collect(),
    }
}

fn step(endpoint: &Endpoint, by_tag: bool, proxies: &Proxies, found: &Found) -> Step {
    let able = endpoint.capabilities;
    let secure = endpoint.base.scheme() == "https";
    let credentials = found.credentials.at(endpoint);
    let proxy = endpoint.proxy.as_ref().or_else(|| proxies.of(&endpoint.base));
    let path = |path: &std::path::PathBuf| path.display().to_string();
    let source = &endpoint.source;
    Step {
        url: endpoint.base.to_string(),
        repository: endpoint.repository.clone(),
        tag: endpoint.tag.clone(),
        role: match endpoint.role {
            Role::Mirror => "mirror",
            Role::Registry => "registry",
        },
        asked: able.pull && (able.resolve || !by_tag),
        condition: match endpoint.fallback {
            Fallback::None => None,
            Fallback::AfterNoTls => Some("if the one before does not speak TLS"),
            Fallback::AfterNoConnection => Some("if no TLS connection with the one before comes about"),
        },
        pull: able.pull,
        resolve: able.resolve,
        file: source.file.as_ref().map(path),
        key: Some(source.key.clone()).filter(|key| !key.is_empty()),
        rule: source.rule.clone(),
        transport: match (secure, endpoint.tls.skip_verify) {
            (false, _) => "plain HTTP",
            (true, false) => "TLS, verified",
            (true, true) => "TLS, any certificate",
        },
        certificates: source.certificates.iter().map(path).collect(),
        client_certificate: secure && !endpoint.tls.client.is_empty(),
        headers: endpoint.headers.keys().map(ToString::to_string).collect(),
        dial_timeout_ms: endpoint
            .dial_timeout
            .map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        proxy: proxy.map(shown),
        credentials: credentials.kind(),
        credentials_from: found
            .from
            .clone()
            .filter(|_| *credentials != Credentials::Anonymous),
    }
}
