//! The servers that a pull would ask, as data for `pausa image check`.
//!
//! Reads configuration exactly as a pull does and sends no request. Holds no secret: only the names of headers, and proxies
//! without their password. Credentials come with each pull and are not part of it.

use crate::endpoint::{Endpoint, Fallback, Role};
use crate::error::Error;
use crate::proxy::{Proxies, shown};
use crate::reference::Reference;
use crate::registries::Registries;
use crate::resolver::Resolver as _;

#[cfg(test)]
mod tests;

/// What a name means, and the servers that a pull of it would ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The name that was asked about.
    pub given: String,
    /// The references it may mean, in the order a pull tries them.
    pub references: Vec<Path>,
}

/// The servers for one reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Registry, repository and tag or digest, with all defaults filled in.
    pub reference: String,
    /// Why no pull is possible: blocked, or an error in a file.
    pub refused: Option<String>,
    /// Whether it is refused because configuration blocks it.
    pub blocked: bool,
    /// The servers in the order they are asked.
    pub endpoints: Vec<Step>,
}

/// One server that would be asked, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Base URL of its API, with `/v2`.
    pub url: String,
    /// The repository on this server.
    pub repository: String,
    /// The tag on this server, if configuration renames it.
    pub tag: Option<String>,
    /// `mirror` or `registry`.
    pub role: &'static str,
    /// Whether this pull asks it: a reference by tag needs `resolve`, what follows needs `pull`.
    pub asked: bool,
    /// The condition for asking it, if there is one.
    pub condition: Option<&'static str>,
    /// Fetching by digest is allowed.
    pub pull: bool,
    /// Resolving tags is allowed.
    pub resolve: bool,
    /// The file that names it; `None` for the default without configuration.
    pub file: Option<String>,
    /// The key in that file.
    pub key: Option<String>,
    /// The table of `registries.conf` that leads to it.
    pub rule: Option<String>,
    /// `plain HTTP`, `TLS, verified` or `TLS, any certificate`.
    pub transport: &'static str,
    /// Files with roots and client certificates.
    pub certificates: Vec<String>,
    /// Whether a client certificate can be shown.
    pub client_certificate: bool,
    /// Names of additional headers.
    pub headers: Vec<String>,
    /// Configured time limit for connecting, in milliseconds.
    pub dial_timeout_ms: Option<u64>,
    /// The proxy, without password.
    pub proxy: Option<String>,
}

/// Explains `text`. May block on files.
///
/// # Errors
/// When `text` is not a name or registry configuration cannot be read. An error in the configuration of one server is part of
/// the explanation.
pub fn explain(registries: &Registries, text: &str, proxies: &Proxies) -> Result<Explanation, Error> {
    let references = registries
        .names(text)?
        .iter()
        .map(|reference| path(registries, reference, proxies))
        .collect();
    Ok(Explanation {
        given: text.to_owned(),
        references,
    })
}

fn path(registries: &Registries, reference: &Reference, proxies: &Proxies) -> Path {
    let by_tag = reference.digest().is_none();
    let (endpoints, refused) = match registries.endpoints(reference) {
        Ok(endpoints) => (endpoints, None),
        Err(error) => (Vec::new(), Some(error)),
    };
    Path {
        reference: reference.to_string(),
        blocked: matches!(refused, Some(Error::Blocked { .. })),
        refused: refused.map(|error| crate::error::chain_all(&[error])),
        endpoints: endpoints
            .iter()
            .map(|endpoint| step(endpoint, by_tag, proxies))
            .collect(),
    }
}

fn step(endpoint: &Endpoint, by_tag: bool, proxies: &Proxies) -> Step {
    let able = endpoint.capabilities;
    let secure = endpoint.base.scheme() == "https";
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
            Fallback::AfterNoTls => Some("if the previous one does not speak TLS"),
            Fallback::AfterNoConnection => Some("if no TLS connection to the previous one can be made"),
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
    }
}
